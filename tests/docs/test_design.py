"""The tables of the design page are what the code gives, and they name every folder."""

import pytest

from tests.helpers.design import PAGE, ROOT, filled
from tests.helpers.house import FLOORS, RULES
from tests.helpers.modules import PACKAGES

TEXT = PAGE.read_text()


def test_the_tables_are_what_the_code_gives():
    assert filled(TEXT) == TEXT, "run `python -m tests.helpers.design --write`"


def test_a_changed_docstring_changes_the_page(tmp_path):
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text('"""One room only.\n\nMore of it."""\n')
    assert "| `hopfield/` | One room only. |" in filled(TEXT, tmp_path)
    assert "More of it" not in filled(TEXT, tmp_path)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_has_a_row_that_says_something(package):
    faces = list((ROOT / package).rglob("__init__.py"))
    assert len(faces) > 3
    for face in faces:
        (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{face.parent.relative_to(ROOT)}/` |"))
        assert len(row.split("|")[2].split()) > 2, row


def test_every_rule_and_floor_is_on_the_page():
    for rule in RULES:
        (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{rule.__name__}` |"))
        assert all(len(cell.split()) > 3 for cell in row.split(" | ")[1:]), row
    for package, levels in FLOORS.items():
        (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{package}` |") and "←" in line)
        assert all(f"`{room}`" in row for level in levels for room in level if room)
