"""Iteration beside writing: the masks that were there when it began, once each."""

from itertools import islice

import pytest

from maskstore import MaskBank
from tests.helpers.flipped_bits import PARENT, SPEC
from tests.helpers.related_masks import like


@pytest.fixture(params=[3, 64, 150])
def bank(request, tmp_path):
    """Masks of other numbers than are read at a time."""
    with MaskBank.create(tmp_path / "a.bank", SPEC) as bank:
        with bank.transaction():
            for i in range(request.param):
                bank.put(f"t{i}", like(PARENT, 0.1, i), codec="raw", meta={"i": i})
        yield bank


SCANS = {
    "masks": lambda bank: (name for name, _ in bank.masks()),
    "items": lambda bank: (name for name, _ in bank.items()),
    "records": lambda bank: (row.name for row in bank.records()),
    "map_records": lambda bank: (name for _, name in bank.map_records(lambda row: row.name)),
    "names": iter,
}


@pytest.mark.parametrize("scan", SCANS)
def test_masks_that_are_put_meanwhile_do_not_come(bank, scan):
    names = list(bank)
    found = []
    for name in islice(SCANS[scan](bank), 1000):
        found.append(name)
        bank.put(f"copy of {name}", PARENT, codec="raw")
    assert found == names
    assert list(bank) == [*names, *(f"copy of {name}" for name in names)]


@pytest.mark.parametrize("scan", SCANS)
def test_masks_that_are_replaced_meanwhile_come_once(bank, scan):
    names = list(bank)
    found = []
    for name in islice(SCANS[scan](bank), 1000):
        found.append(name)
        bank.put(name, PARENT, codec="raw", overwrite=True)
        bank.put(names[-1], PARENT, codec="raw", overwrite=True)
    assert found == names


@pytest.mark.parametrize("scan", SCANS)
def test_each_may_be_deleted_when_it_comes(bank, scan):
    names = list(bank)
    found = []
    for name in SCANS[scan](bank):
        found.append(name)
        bank.delete(name)
    assert found == names
    assert len(bank) == 0


def test_what_takes_the_place_of_a_deleted_mask_does_not_come(bank):
    """The last row's id is given to the next mask."""
    names = list(bank)
    found = []
    for name, mask in bank.masks():
        if not found:
            bank.delete(names[-1])
            bank.put("new", PARENT, codec="raw")
        assert mask == like(PARENT, 0.1, int(name[1:]))
        found.append(name)
    assert found in (names, names[:-1])  # the last one had perhaps been read already


def test_another_process_may_write_meanwhile(bank):
    names = list(bank)
    bank.close()
    with MaskBank.open(bank.path) as reader:
        found = []
        for name, _ in reader.masks():
            found.append(name)
            if len(found) == 1:
                with MaskBank.open(bank.path, "a") as writer:
                    writer.put("other", PARENT)
        assert found == names
        assert "other" in reader
