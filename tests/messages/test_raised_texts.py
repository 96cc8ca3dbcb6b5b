"""Every place in the library that raises one of its errors says what was expected and what was found.

This reads the code: also what no test can bring about is held to the form.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("maskstore", "hopfield", "supsup_models")
WHOLE = {"TrainingStopped"}
"""Errors that say what happened: nothing was expected otherwise."""


def classes_of(package: str) -> set[str]:
    """The errors and warnings that a package's module of errors defines."""
    tree = ast.parse((ROOT / package / "errors.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def literal(node: ast.expr) -> str | None:
    """The text of a message as far as the code says it; None for what is computed elsewhere."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case ast.BinOp(left=left, right=right):
            found = literal(left), literal(right)
            return None if None in found else "".join(map(str, found))
    return None


def texts(source: str, names: set[str]) -> list[tuple[int, str, str]]:
    """Line, class and text of every error that is made with a text of its own."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            text = literal(node.args[0])
            if name in names - WHOLE and text is not None:
                found.append((node.lineno, name, text))
    return found


def wrong(text: str, *, command: bool) -> bool:
    """Whether a text breaks the form. Without words of its own it passes another message on."""
    own = text.replace("{}", "").strip(" :,;()")
    if len(own.split()) < 3:
        return False
    expected = "expected" in text or "{}, found" in text  # what was expected may be computed, and so may the end
    found = "found" in text or "expected one of" in text or text.endswith("{}")
    if not ((expected and found) or text.startswith("{}")):
        return True
    return "\n" in text or (not command and " --" in text)


NAMES = set().union(*map(classes_of, PACKAGES), {"UsageError"})


@pytest.mark.parametrize("package", PACKAGES)
def test_every_text_says_what_was_expected_and_found(package: str) -> None:
    found, count = [], 0
    for path in sorted((ROOT / package).rglob("*.py")):
        for line, name, text in texts(path.read_text(), NAMES):
            count += 1
            if wrong(text, command="cli" in path.parts):
                found.append(f"{path.relative_to(ROOT)}:{line} {name}: {text}")
    assert found == []
    assert count > 30


@pytest.mark.parametrize(
    ("source", "bad"),
    [
        ("raise SpecError(f'{what}: expected 1 to 3, found {n}')", False),
        ("raise SpecError('this is not a mask')", True),
        ("raise SpecError('expected a mask, found\\nnone')", True),
        ("raise errors.CorruptError(f'expected bits, found {n} ' + 'bytes (give --limit)')", True),
        ("raise SpecError(f'{path}: {error}')", False),
        ("raise ValueError('whatever it is')", False),
    ],
)
def test_the_reader_finds_wrong_texts(source: str, bad: bool) -> None:
    assert any(wrong(text, command=False) for _, _, text in texts(source, NAMES)) is bad
