"""The README's Python examples run, and its commands exist with the options it shows."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


README_EXAMPLES = blocks(ROOT / "README.md", "python")


@pytest.mark.parametrize("number", range(len(README_EXAMPLES)))
def test_python_examples_run(number, tmp_path):
    """Each in a fresh process and an empty folder, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", README_EXAMPLES[number]]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout


def test_there_are_examples():
    assert len(README_EXAMPLES) >= 3


def _commands() -> list[list[str]]:
    lines = []
    for text in blocks(ROOT / "README.md", ""):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in ("supsup", "maskstore"):
                lines.append(words)
    return lines


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_commands_and_options_exist(words):
    module = {"supsup": "supsup_models.cli", "maskstore": "maskstore.cli"}[words[0]]
    script = f"from {module} import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", script, words[1], "--help"], capture_output=True, text=True, check=True
    )
    for option in (word for word in words if word.startswith("--")):
        assert option in found.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
