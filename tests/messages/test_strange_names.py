"""A name or path from a stranger steers no terminal: what is not printable in a message or a repr is escaped."""

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hopfield
from maskstore import Mask, MaskBank, MaskSpec
from maskstore.interop import read_masks
from supsup_models import open_stream
from supsup_models.runs import load_run

EVIL = "t\x1b[2J\x07\u202e\nx"
SPEC = MaskSpec({EVIL: (3, 3), "b": (2, 2)})
MASKS = {EVIL: np.eye(3) > 0, "b": np.eye(2) > 0}


@pytest.fixture
def bank(tmp_path: Path) -> MaskBank:
    with MaskBank.create(tmp_path / EVIL.replace("/", ""), SPEC) as bank:
        bank.put(EVIL, MASKS)
    return MaskBank.open(bank.path)


CASES: list[Callable[[MaskBank], object]] = [
    lambda bank: bank["other" + EVIL],
    lambda bank: bank.layer(EVIL, "c"),
    lambda bank: bank.put("x", MASKS),
    lambda bank: bank.matrix().index(EVIL[::-1]),
    lambda bank: Mask.from_dense({**MASKS, EVIL: np.full((3, 3), 2)}),
    lambda bank: Mask.from_dense({"c": MASKS["b"]}, SPEC),
    lambda bank: MaskBank.open(bank.path.parent / f"{EVIL}.none"),
    lambda bank: MaskBank.create(bank.path, SPEC),
    lambda bank: read_masks(bank.path.parent / f"{EVIL}.npz"),
    lambda bank: hopfield.load_memory(bank.path),
    lambda bank: hopfield.load_memory(bank.path.parent / f"{EVIL}.none"),
    lambda bank: load_run(bank.path.parent / f"{EVIL}.none", "cpu"),
    lambda bank: open_stream(EVIL),
]


@pytest.mark.parametrize("case", CASES)
def test_messages_are_printable(bank: MaskBank, case: Callable[[MaskBank], object]) -> None:
    with pytest.raises((ValueError, LookupError, OSError)) as caught:
        case(bank)
    assert type(caught.value).__module__.endswith(".errors")
    assert str(caught.value).isprintable(), ascii(str(caught.value))


def test_reprs_are_printable(bank: MaskBank) -> None:
    for value in (bank, bank.spec, bank[EVIL], bank.info(EVIL), bank.matrix(), bank.record(EVIL), *bank.spec):
        assert repr(value).isprintable()


def test_nothing_is_printed_but_through_the_helpers() -> None:
    """`print` and `typer.echo` escape nothing; `console.say`, `note`, `cell` and `Reporter.line` do."""
    root, found = Path(__file__).parents[2], []
    for package in ("maskstore", "hopfield", "supsup_models"):
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "typer.echo", "click.echo"):
                    found.append(f"{path.relative_to(root)}:{node.lineno}")
    assert found == []
