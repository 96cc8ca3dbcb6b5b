"""The Python examples of the README and of some pages run, and its commands exist with the options it shows."""

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


WITH_EXAMPLES = (ROOT / "README.md", ROOT / "docs" / "convert.md", ROOT / "docs" / "rate.md")
EXAMPLES = [(page, number) for page in WITH_EXAMPLES for number in range(len(blocks(page, "python")))]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "number"), EXAMPLES, ids=lambda value: getattr(value, "name", str(value)))
def test_python_examples_run(page, number, tmp_path):
    """Each in a fresh process and an empty folder, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", blocks(page, "python")[number]]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout


def test_there_are_examples():
    assert all(blocks(page, "python") for page in WITH_EXAMPLES)


def _commands() -> list[list[str]]:
    lines = []
    for text in blocks(ROOT / "README.md", ""):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in ("supsup", "maskstore"):
                lines.append(words)
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_commands_and_options_exist(words):
    module = {"supsup": "supsup_models.cli.app", "maskstore": "maskstore.cli.app"}[words[0]]
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
