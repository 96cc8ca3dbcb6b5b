"""The design page names files and folders that exist, and its packages' folders are all named."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "design.md").read_text()
PACKAGES = ("maskstore", "hopfield", "supsup_models")


def _section(package: str) -> str:
    start = TEXT.index(f"### {package}")
    return TEXT[start : TEXT.find("\n### ", start + 1)]


def _named(package: str) -> set[str]:
    rows = [line for line in _section(package).splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([\w/]+(?:\.py|/))`", row.split("|")[1])}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_named_file_and_folder_exists(package):
    named = _named(package)
    assert len(named) > 8
    for name in named:
        assert (ROOT / package / name).exists(), name


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_is_named(package):
    folders = {f"{path.parent.name}/" for path in (ROOT / package).glob("*/__init__.py")}
    assert folders <= _named(package)
