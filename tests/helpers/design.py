"""The tables of `docs/design.md` that are made from the code: folders, floors and rules.

`python -m tests.helpers.design --write` writes them into the page; `tests/docs/test_design.py` holds the two equal.
"""

import ast
import inspect
import re
import sys
from pathlib import Path

from tests.helpers.house import FLOORS, RULES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "design.md"
BLOCK = re.compile(r"(?<=<!-- made from the code: )([\w ]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def filled(text: str, root: Path = ROOT) -> str:
    """The page with every block between `<!-- made from the code: NAME -->` and `<!-- end -->` made anew."""

    def made(block: re.Match[str]) -> str:
        kind, _, package = block[1].partition(" ")
        table = {"folders": folders, "floors": floors, "rules": rules}[kind]
        return f"{block[1]}{block[2]}\n{table(root / package)}\n"

    return BLOCK.sub(made, text)


def folders(package: Path) -> str:
    """A row for each folder of a package and for each public module beside them, from their docstrings."""
    paths = [*package.rglob("__init__.py"), *package.glob("[!_]*.py")]
    rows = sorted((_shown(path, package.parent), _first_paragraph(path)) for path in paths)
    return _table(("where", "what is there"), rows)


def floors(_: Path) -> str:
    """A row for each package, its rooms from the lowest floor to the highest."""
    rows = []
    for package, levels in FLOORS.items():
        rooms = [", ".join(f"`{room}`" for room in sorted(level) if room) for level in levels]
        rows.append((f"`{package}`", " ← ".join(room for room in rooms if room)))
    return _table(("package", "rooms, each may import those to its left"), rows)


def rules(_: Path) -> str:
    """A row for each rule of the house, from its docstring."""
    rows = []
    for rule in RULES:
        says, _, purpose = (inspect.getdoc(rule) or "").partition(": ")[2].partition("\n\n")
        rows.append((f"`{rule.__name__}`", " ".join(says.split()), " ".join(purpose.split())))
    return _table(("name", "rule", "what it is for"), rows)


def _shown(path: Path, root: Path) -> str:
    inside = path.relative_to(root)
    return f"`{inside.parent}/`" if path.name == "__init__.py" else f"`{inside}`"


def _first_paragraph(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.partition("\n\n")[0].split()).replace("|", r"\|")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    page = filled(PAGE.read_text())
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page)
    print(page if "--write" not in sys.argv[1:] else f"{PAGE.relative_to(ROOT)}: tables written")
