"""The Python examples of the README and of some pages run; those of other pages are run beside what they show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


WITH_EXAMPLES = (
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("convert", "gpu", "index", "rate", "serving")),
)
EXAMPLES = [(page, number) for page in WITH_EXAMPLES for number in range(len(blocks(page, "python")))]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "number"), EXAMPLES, ids=lambda value: getattr(value, "name", str(value)))
def test_python_examples_run(page, number, tmp_path):
    """Each in a fresh process and an empty folder, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", blocks(page, "python")[number]]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout


@pytest.mark.parametrize(("page", "number"), [("README.md", 0), ("docs/interop.md", 0), ("docs/interop.md", 1)])
def test_examples_of_banks_run_twice_in_one_folder(page, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        exec(compile(blocks(ROOT / page, "python")[number], page, "exec"), {})
    assert any(tmp_path.iterdir())


def test_there_are_examples():
    assert all(blocks(page, "python") for page in WITH_EXAMPLES)
