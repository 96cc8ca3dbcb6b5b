"""Every bit of two small banks flipped, one at a time, and all that can be read or done then (see `docs/format.md`)."""

import os

import pytest

from maskstore import MaskBank
from tests.helpers.flipped_bits import CHANGES, content, flipped, lost_by, small_bank, write_alone, wrong_readings
from tests.helpers.small_blocks import put_in_blocks

STRIDE = int(os.environ.get("MASKSTORE_TEST_STRIDE", "301"))  # 1 tries every bit, which takes an hour


@pytest.mark.parametrize("kind", ["alone", "related", "blocks"])
def test_every_bit(tmp_path, monkeypatch, kind):
    if kind == "blocks":
        put_in_blocks(monkeypatch)
    original = small_bank(tmp_path / "a.bank", related=kind != "alone")
    with MaskBank.open(original) as bank:
        names, masks = list(bank), dict(bank.masks())
    image, expected, path = original.read_bytes(), content(original), tmp_path / "flipped.bank"
    wrong, lost = {}, {}
    for bit in range(STRIDE // 2, 8 * len(image), STRIDE):
        write_alone(path, flipped(image, bit))
        wrong[bit] = wrong_readings(path, names, expected)
        for change in CHANGES:
            write_alone(path, flipped(image, bit))
            lost[bit, change] = lost_by(change, path, names, masks)
    assert {bit: found for bit, found in wrong.items() if found} == {}
    assert {bit: found for bit, found in lost.items() if found} == {}
