"""A bank is a mapping like any other, has short names for itself, and goes to other processes by its path."""

import copy
import multiprocessing
import pickle

import pytest

from maskstore import MaskBank, MaskSource
from maskstore.errors import BankClosedError, BankThreadError
from maskstore.interop import ShardReader, write_shard
from tests.helpers.flipped_bits import PARENT, SPEC
from tests.helpers.related_masks import like


@pytest.fixture
def path(tmp_path):
    with MaskBank.create(tmp_path / "a.bank", SPEC, meta={"seed": 3}) as bank:
        for i in range(3):
            bank.put(f"t{i}", like(PARENT, 0.1, i))
        write_shard(bank, tmp_path / "a.shard")
    return bank.path


@pytest.mark.parametrize("kind", ["bank", "shard"])
def test_it_answers_as_a_dict_does(path, kind):
    expected = {f"t{i}": like(PARENT, 0.1, i) for i in range(3)}
    with MaskBank.open(path) if kind == "bank" else ShardReader(path.with_suffix(".shard")) as source:
        assert isinstance(source, MaskSource)
        assert dict(source) == expected
        assert list(source.keys()) == list(expected)
        assert list(source.items()) == list(expected.items())
        assert list(source.values()) == list(expected.values())
        assert (len(source.keys()), len(source.items()), len(source.values())) == (3, 3, 3)
        assert source.get("t1") == expected["t1"]
        assert source.get("none") is None
        assert source.get("none", 5) == 5
        assert "t1" in source.keys()  # noqa: SIM118
        assert ("t1", expected["t1"]) in source.items()
        assert ("t1", expected["t2"]) not in source.items()
        assert expected["t2"] in source.values()
        assert source.keys() & {"t1", "none"} == {"t1"}


def test_representations_are_short(path):
    with MaskBank.open(path) as bank:
        row = bank.record("t1")
        assert repr(bank) == f"MaskBank({str(path)!r}, 3 masks x 120 bits)"
        for shown in (bank, row, bank["t1"], bank.spec, bank.matrix(), bank.items(), bank.values(), bank.info("t1")):
            assert len(repr(shown)) < 300
        assert repr(row) == f"Record(2, 't1', {len(row.data)} coded bytes, 0 of extra arrays)"
    assert repr(bank) == f"MaskBank({str(path)!r}, closed)"


def test_a_representation_never_fails(path):
    image = path.read_bytes()
    with MaskBank.open(path) as bank:
        path.write_bytes(image[:512] + bytes(len(image) - 512))
        assert repr(bank) == f"MaskBank({str(path)!r}, ? masks x 120 bits)"


def test_a_bank_opened_for_reading_is_pickled_as_its_path(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with MaskBank.open("a.bank", limit=12345) as bank:
        data = pickle.dumps(bank)
        assert len(data) < 500
        monkeypatch.chdir("/")
        with pickle.loads(data) as again, copy.copy(bank) as copied:
            assert dict(again) == dict(copied) == {f"t{i}": like(PARENT, 0.1, i) for i in range(3)}
            assert (again.meta, again.limit, again.writable) == ({"seed": 3}, 12345, False)
        monkeypatch.chdir(path.parent)


def test_a_bank_opened_for_writing_refuses_by_name(path):
    with MaskBank.open(path, "a") as bank:
        with pytest.raises(BankThreadError, match="opened for writing"):
            pickle.dumps(bank)
        bank.put("still", PARENT)
    with pytest.raises(BankClosedError):
        pickle.dumps(bank)


def ones_of(bank, name):
    """Runs in another process."""
    return bank[name].ones


@pytest.mark.slow
def test_a_spawned_process_reads_what_it_was_sent(path):
    with MaskBank.open(path) as bank, multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.starmap(ones_of, [(bank, name) for name in bank]) == [mask.ones for mask in bank.values()]
