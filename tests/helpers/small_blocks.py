"""Small masks in blocks, as large ones are: for tests that cannot afford masks of millions of bits."""

import os

import pytest

from maskstore.bank import coding
from maskstore.bank.putting import new_mask

_MODULES = (coding, new_mask)


def put_in_blocks(patch: pytest.MonkeyPatch, bits: int = 1) -> None:
    """Masks of so many bits and more are coded in blocks, as long as the patch lasts."""
    for module in _MODULES:
        patch.setattr(module, "BLOCKED_BITS", bits)


def put_in_blocks_if_asked() -> None:
    """In a program that a test has started: as the variable `BLOCKS` says."""
    if os.environ.get("BLOCKS") == "1":
        for module in _MODULES:
            module.BLOCKED_BITS = 1  # type: ignore[attr-defined]
