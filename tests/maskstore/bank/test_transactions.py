"""A transaction inside another one is whole or nothing too."""

from contextlib import suppress

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec

SPEC = MaskSpec({"fc1": (4, 5)})
MASKS = {"fc1": np.eye(4, 5, dtype=bool)}


@pytest.fixture
def bank(tmp_path):
    with MaskBank.create(tmp_path / "tasks.bank", SPEC) as opened:
        opened.put("first", MASKS)
        yield opened


def _fail_inside(bank):
    with suppress(ZeroDivisionError), bank.transaction():
        bank.put("inside", MASKS)
        bank.delete("first")
        raise ZeroDivisionError


def test_an_inner_block_that_fails_is_undone_alone(bank):
    with bank.transaction():
        bank.put("before", MASKS)
        _fail_inside(bank)
        bank.put("after", MASKS)
    with MaskBank.open(bank.path) as again:
        assert list(again) == ["first", "before", "after"]
        assert again.verify() == 3


def test_an_inner_block_ends_with_the_outer_one(bank):
    with suppress(ZeroDivisionError), bank.transaction():
        with bank.transaction():
            bank.put("inside", MASKS)
        raise ZeroDivisionError
    assert list(bank) == ["first"]


def test_blocks_may_be_nested_deeper(bank):
    with bank.transaction():
        with bank.transaction():
            bank.put("middle", MASKS)
            _fail_inside(bank)
        with bank.transaction():
            bank.put("last", MASKS)
    assert list(bank) == ["first", "middle", "last"]
    assert bank.verify() == 3
