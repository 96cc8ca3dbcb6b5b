"""Readings of a file that others replace meanwhile: they are made again, or end in an error that says so."""

import shutil
from pathlib import Path

import pytest

from maskstore import MaskBank, MaskSpec
from maskstore.bank.rows import Rows
from maskstore.errors import BankBusyError
from tests.helpers.masks import random_mask
from tests.helpers.without_index import without_index

SPEC = MaskSpec({"a": (30, 40)})


def _mask(n):
    return random_mask(SPEC, 0.3, n)


@pytest.fixture
def bank(tmp_path):
    with MaskBank.create(tmp_path / "a.bank", SPEC) as opened:
        opened.put("t0", _mask(0))
        opened.put("t1", _mask(1))
        yield opened


def test_a_reader_of_a_file_as_it_lies_there_sees_it_change(bank, tmp_path):
    bank.close()
    path = without_index(bank.path)
    reader = MaskBank.open(path)
    assert list(reader) == ["t0", "t1"]
    copy = shutil.copy(path, tmp_path / "b.bank")
    with MaskBank.open(copy, "a") as other:
        other.put("t2", _mask(2))
    path.write_bytes(Path(copy).read_bytes())
    assert list(reader) == ["t0", "t1", "t2"]
    assert reader["t2"] == _mask(2)
    reader.close()


def test_a_read_during_which_the_file_changed_is_an_error(bank):
    bank.close()
    path = without_index(bank.path)
    reader = MaskBank.open(path)
    with pytest.raises(BankBusyError, match="expected the bank and its log to stay"), reader._file.reading():
        path.write_bytes(path.read_bytes() + bytes(512))
    reader.close()


READS = {
    "len": len,
    "list": list,
    "in": lambda bank: "t1" in bank,
    "get": lambda bank: bank["t1"],
    "layer": lambda bank: bank.layer("t1", SPEC.layers[0].name).tolist(),
    "info": lambda bank: bank.info("t1"),
    "infos": lambda bank: bank.infos(),
    "record": lambda bank: bank.record("t1"),
    "items": lambda bank: list(bank.items()),
    "matrix": lambda bank: list(bank.matrix().names),
    "verify": lambda bank: bank.verify(),
}


@pytest.mark.parametrize("call", READS)
def test_a_read_during_which_the_file_changed_is_made_again(bank, call, monkeypatch):
    bank.close()
    path = without_index(bank.path)
    reader = MaskBank.open(path)
    expected, content, changes = READS[call](reader), path.read_bytes(), []

    def changed(work, most):
        def working(self, link, *rest):
            found = work(self, link, *rest)
            if len(changes) < most:
                changes.append(work)
                path.write_bytes(content)  # only its times differ, which is all that can be seen from outside
            return found

        return working

    for name in ("listing", "named", "count", "some", "check_users"):
        monkeypatch.setattr(Rows, name, changed(getattr(Rows, name), 2))
    assert READS[call](reader) == expected
    assert len(changes) == 2
    reader.close()


def test_a_read_of_a_file_that_never_stays_is_an_error(bank, monkeypatch):
    bank.close()
    path = without_index(bank.path)
    reader, content = MaskBank.open(path), path.read_bytes()
    monkeypatch.setattr(Rows, "count", lambda self, link: path.write_bytes(content))
    with pytest.raises(BankBusyError, match="replaced one: try again"):
        len(reader)
    reader.close()
