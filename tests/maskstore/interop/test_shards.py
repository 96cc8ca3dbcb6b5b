import dataclasses
import struct
import threading

import fsspec
import numpy as np
import pytest
import zstandard
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from maskstore import MaskBank, MaskSpec, open_source
from maskstore.errors import (
    BankClosedError,
    BankExistsError,
    BankIOError,
    BankNotFoundError,
    CorruptError,
    FormatVersionError,
    MaskStoreError,
    NotABankError,
    TaskNotFoundError,
)
from maskstore.files import encode_meta
from maskstore.interop import ShardReader, write_shard
from maskstore.interop.shards import format as shard_format
from tests.helpers.foreign_files import example_bank
from tests.helpers.masks import masks, names, random_mask, specs


class CountingFileSystem(MemoryFileSystem):
    """fsspec's memory file system, counting what a network one would send as requests."""

    protocol = "counted"
    store = {}  # noqa: RUF012 -- the base class keeps its files like this
    pseudo_dirs = [""]  # noqa: RUF012
    requests = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("counted://", "memory://"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        self.requests.append(("range", start, end))
        return super().cat_file(path, start=start, end=end, **kwargs)

    def info(self, path, **kwargs):
        self.requests.append(("info",))
        return super().info(path, **kwargs)


fsspec.register_implementation("counted", CountingFileSystem, clobber=True)


@pytest.fixture
def requests():
    CountingFileSystem.store.clear()
    CountingFileSystem.requests.clear()
    return CountingFileSystem.requests


def _store(name: str, data: bytes) -> str:
    fsspec.filesystem("counted").pipe_file(f"/{name}", data)
    return f"counted://{name}"


@pytest.fixture
def shard(tmp_path):
    with example_bank(tmp_path / "a.bank") as bank:
        write_shard(bank, tmp_path / "a.shard")
    return tmp_path / "a.shard"


def test_a_shard_reads_like_its_bank(tmp_path, shard):
    with MaskBank.open(tmp_path / "a.bank") as bank, ShardReader(shard) as reader:
        assert list(reader) == list(bank)
        assert (len(reader), reader.spec, reader.meta) == (len(bank), bank.spec, bank.meta)
        assert reader.infos() == bank.infos()
        assert list(reader.records()) == list(bank.records())  # not coded anew: the same rows, checksums and all
        assert np.array_equal(reader.matrix().rows, bank.matrix().rows)
        assert reader.matrix(["task-2", "task-0"]).names == ("task-2", "task-0")
        assert reader.verify() == 4
        for name in bank:
            assert reader[name] == bank[name]
            assert reader.task_meta(name) == bank.task_meta(name)
            assert np.array_equal(reader.layer(name, "fc2"), bank.layer(name, "fc2"))
            assert list(reader.extras(name)) == list(bank.extras(name))
        assert "task-1" in reader
        assert "nine" not in reader
        with pytest.raises(TaskNotFoundError, match="nine"):
            reader["nine"]
    with pytest.raises(BankClosedError):
        reader["task-0"]
    reader.close()


@given(data=st.data(), spec=specs(), task_names=st.lists(names, unique=True, max_size=4))
def test_any_bank_round_trips(tmp_path_factory, data, spec, task_names):
    folder = tmp_path_factory.mktemp("shard")
    with MaskBank.create(folder / "a.bank", spec, meta={"é": None}) as bank:
        for name in task_names:
            bank.put(name, data.draw(masks(spec)), meta={"n": name}, extras={"x": np.arange(3)}, codec="raw")
        write_shard(bank, folder / "a.shard")
        with ShardReader(folder / "a.shard", tail_bytes=data.draw(st.sampled_from([0, 80, 100, 1 << 16]))) as reader:
            assert list(reader.records()) == list(bank.records())
            assert dict(reader.masks()) == dict(bank.masks())
            assert reader.verify() == len(task_names)


def test_opening_takes_two_requests_or_one_and_a_mask_takes_one(shard, requests):
    url = _store("a.shard", shard.read_bytes())
    requests.clear()
    with ShardReader(url) as reader:
        assert len(requests) == 1  # the tail held the index
        reader["task-2"]
        reader.extras("task-1")
        assert len(requests) == 3
        reader.task_meta("task-1"), reader.extras("task-0"), reader.infos()
        assert len(requests) == 3  # these are in the index
        reader.matrix()
        assert len(requests) == 4  # neighbours share a request
    requests.clear()
    with ShardReader(url, tail_bytes=100) as reader:
        assert len(requests) == 2  # tail, then index
        with MaskBank.open(shard.with_suffix(".bank")) as bank:
            assert reader["task-3"] == bank["task-3"]
    assert all(kind[0] == "range" for kind in requests)


def test_a_shard_of_many_masks_opens_in_two_requests(tmp_path, requests):
    spec = MaskSpec({"a": (40,)})
    with MaskBank.create(tmp_path / "a.bank", spec) as bank, bank.transaction():
        for task in range(6000):
            bank.put(f"task-{task}", random_mask(spec, 0.5, task), codec="raw")
    with MaskBank.open(tmp_path / "a.bank") as bank:
        write_shard(bank, "counted://many.shard")
        requests.clear()
        with ShardReader("counted://many.shard") as reader:
            assert len(requests) == 2
            assert reader["task-3999"] == bank["task-3999"]
            assert len(requests) == 3


def test_rows_of_a_large_layer_are_read_alone(tmp_path, requests):
    spec = MaskSpec({"fc1": (2000, 1000), "fc2": (1700, 1500)})
    mask = random_mask(spec, 0.3, 0)
    with MaskBank.create(tmp_path / "a.bank", spec) as bank:
        bank.put("t", mask, extras={"k": np.arange(3)})
        write_shard(bank, "counted://large.shard")
    with ShardReader("counted://large.shard") as shard:
        requests.clear()
        assert np.array_equal(shard.layer("t", "fc2", rows=slice(900, 950)), mask.layer("fc2")[900:950])
        size = shard.info("t").coded_bytes
        read = sum(min(stop, size) - start for _, start, stop in requests)
        assert len(requests) == 3  # the table, the extras and the blocks
        assert read < size // 2
        requests.clear()
        assert shard["t"] == mask
        assert len(requests) == 3


def test_servers_that_ignore_ranges_or_cut_answers_short_are_noticed(shard, requests, monkeypatch):
    url = _store("a.shard", shard.read_bytes())
    whole = MemoryFileSystem.cat_file
    monkeypatch.setattr(CountingFileSystem, "cat_file", lambda self, path, start, end: whole(self, path))
    with ShardReader(url) as reader, ShardReader(shard) as local:  # the tail of what came is the tail
        assert dict(reader.masks()) == dict(local.masks())
    monkeypatch.setattr(CountingFileSystem, "cat_file", lambda self, path, start, end: whole(self, path, start, end))
    with ShardReader(url) as reader:
        short = lambda self, path, start, end: whole(self, path, start, end)[:-1]  # noqa: E731
        monkeypatch.setattr(CountingFileSystem, "cat_file", short)
        with pytest.raises(CorruptError, match=r"bytes 8 to \d+, found \d+ bytes"):
            reader["task-0"]
    monkeypatch.setattr(CountingFileSystem, "cat_file", lambda self, path, start, end: whole(self, path)[start:end][1:])
    with pytest.raises(MaskStoreError):
        ShardReader(url)

    def down(self, path, start, end):
        raise RuntimeError("no route\nto host")

    monkeypatch.setattr(CountingFileSystem, "cat_file", down)
    with pytest.raises(BankIOError, match="no route to host"):
        ShardReader(url)


def test_missing_and_foreign_files_are_named(tmp_path, requests):
    for location in (tmp_path / "none.shard", "counted://none.shard"):
        with pytest.raises(BankNotFoundError):
            ShardReader(location)
    with pytest.raises(BankIOError, match="fsspec can open"):
        ShardReader("nonsense://x")
    for data in (b"", b"MSKSHARD", b"x" * 200):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(NotABankError):
            ShardReader(tmp_path / "x")


def test_a_shard_is_not_replaced_unasked(tmp_path, shard, requests):
    before = shard.read_bytes()
    with example_bank(tmp_path / "b.bank", tasks=1) as bank:
        with pytest.raises(BankExistsError):
            write_shard(bank, shard)
        assert shard.read_bytes() == before
        write_shard(bank, shard, overwrite=True)
        with ShardReader(shard) as reader:
            assert len(reader) == 1
        write_shard(bank, "counted://b.shard")
        with pytest.raises(BankExistsError):
            write_shard(bank, "counted://b.shard")
    assert not list(tmp_path.glob(".*"))


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    with example_bank(tmp_path / "a.bank") as bank:
        files = set(tmp_path.iterdir())
        monkeypatch.setattr(shard_format, "encode_end", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_shard(bank, tmp_path / "a.shard")
        assert set(tmp_path.iterdir()) == files


def test_threads_share_a_reader(shard):
    with ShardReader(shard) as reader:
        expected, found = dict(reader.masks()), []
        threads = [
            threading.Thread(target=lambda: found.extend(reader[n] == expected[n] for n in list(reader) * 20))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 320


def test_open_source_tells_shards_from_banks(tmp_path, shard, requests):
    url = _store("a.shard", shard.read_bytes())
    for location in (tmp_path / "a.bank", shard, str(shard), url):
        with open_source(location) as source:
            assert source.verify() == 4
    with pytest.raises(BankNotFoundError):
        open_source(tmp_path / "none")


def test_every_byte_counts(shard):
    """Each single byte of a shard, changed, is found by opening or verifying it."""
    good = shard.read_bytes()
    for at in range(len(good)):
        shard.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
        with pytest.raises(MaskStoreError), ShardReader(shard) as reader:
            reader.verify()


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d[1:], lambda d: d + b"\0", lambda d: d[:8] + d[9:]])
def test_every_length_counts(shard, requests, change):
    data = change(shard.read_bytes())
    shard.write_bytes(data)
    for location in (shard, _store("a.shard", data)):
        with pytest.raises(MaskStoreError):
            ShardReader(location)


# -- files whose checksums are right, made by someone who means harm ---------------------------------------------------


def _forge(data: bytes, *, plain=lambda p: p, level: int = 3, **footer: int) -> bytes:
    """The shard with its index changed and every checksum made to fit."""
    found = shard_format.decode_footer(data, "good")
    index = plain(zstandard.ZstdDecompressor().decompress(data[found.index_start : found.index_stop]))
    stored = zstandard.ZstdCompressor(level=level).compress(index)
    numbers = {
        "version": 1, "compression": 1, "size": found.index_start + len(stored) + 80, "start": found.index_start,
        "stored": len(stored), "plain": len(index), **footer,
    }  # fmt: skip
    end = struct.pack("<8sII4Q16s", b"MSKSHARD", *numbers.values(), shard_format.digest(stored))
    return data[: found.index_start] + stored + end + shard_format.digest(end)


def test_the_forger_can_forge(shard):
    shard.write_bytes(_forge(shard.read_bytes()))
    with ShardReader(shard) as reader:
        assert reader.verify() == 4


@pytest.mark.parametrize(
    ("forged", "error"),
    [
        ({"version": 2}, FormatVersionError),
        ({"compression": 7}, CorruptError),
        ({"compression": 0}, CorruptError),
        ({"size": 1 << 63}, CorruptError),
        ({"start": 0}, CorruptError),
        ({"start": 1 << 62}, CorruptError),
        ({"stored": 1 << 62}, CorruptError),
        ({"plain": 1 << 62}, CorruptError),
        ({"plain": 10}, CorruptError),
        ({"plain": lambda p: p + b"x"}, CorruptError),
    ],
)
def test_forged_numbers_are_checked_before_they_are_used(shard, requests, forged, error):
    if callable(forged.get("plain")):
        data = _forge(shard.read_bytes(), plain=forged["plain"])
    else:
        data = _forge(shard.read_bytes(), **forged) if "plain" not in forged else _replace_plain(shard, forged["plain"])
    shard.write_bytes(data)
    for location in (shard, _store("a.shard", data)):
        with pytest.raises(error):
            ShardReader(location)


def _replace_plain(shard, size: int) -> bytes:
    data = shard.read_bytes()[:-16]
    data = data[:-24] + struct.pack("<Q", size) + data[-16:]
    return data + shard_format.digest(data[-64:])


def test_a_bomb_is_refused_unopened(shard):
    def bomb(plain: bytes) -> bytes:
        return plain + bytes(1 << 28)

    data = _forge(shard.read_bytes(), plain=bomb)
    assert len(data) < 1 << 20
    shard.write_bytes(data)
    with pytest.raises(CorruptError, match="footer"):
        ShardReader(shard)


def test_repetitive_metadata_is_stored_so_that_readers_take_it(tmp_path):
    spec = MaskSpec({"a": (4,)})
    with MaskBank.create(tmp_path / "a.bank", spec) as bank:
        for task in range(20):
            bank.put(f"{task}", {"a": np.ones(4)}, meta={"note": "x" * 200_000})
        write_shard(bank, tmp_path / "a.shard")
    with ShardReader(tmp_path / "a.shard") as reader:
        assert reader.verify() == 20


def _with_rows(path, change) -> bytes:
    """The shard with other rows in its index, over the same bytes."""
    with ShardReader(path) as reader:
        rows = [shard_format.encode_row(row) for row in change(list(reader.records()))]
        head = [struct.pack("<I", len(text)) + text for text in (reader.spec.to_json().encode(), b"{}")]
    plain = b"".join([*head, struct.pack("<I", len(rows)), *rows])
    return _forge(path.read_bytes(), plain=lambda _: plain)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [*rows[:-1]],
        lambda rows: rows[::-1],
        lambda rows: [dataclasses.replace(row, name="same") for row in rows],
        lambda rows: [dataclasses.replace(row, name="") for row in rows[:1]] + rows[1:],
        lambda rows: [dataclasses.replace(row, id=5) for row in rows],
        lambda rows: [dataclasses.replace(row, data=row.data + b"x") for row in rows],
    ],
)
def test_forged_indexes_are_refused_on_opening(shard, change):
    shard.write_bytes(_with_rows(shard, change))
    with pytest.raises(CorruptError):
        ShardReader(shard)


def test_forged_rows_are_refused_when_read(shard):
    shard.write_bytes(_with_rows(shard, lambda rows: [dataclasses.replace(r, codec='{"id":"raw"}') for r in rows]))
    with ShardReader(shard) as reader, pytest.raises(CorruptError, match="checksum"):
        reader["task-3"]


def test_specs_and_metadata_in_a_forged_index(shard):
    good = shard.read_bytes()
    for spec, meta in ((b'[["a",[8589934592]]]' * 1, b"[]"), (b"[]", b"{}"), (b"\xff", b"{}")):
        plain = struct.pack("<I", len(spec)) + spec + struct.pack("<I", len(meta)) + meta + struct.pack("<I", 0)
        shard.write_bytes(_forge(good, plain=lambda _, plain=plain: plain))
        with pytest.raises(CorruptError):
            ShardReader(shard)
    huge = encode_meta({})
    spec = str([[f"l{i}", [1 << 33]] for i in range(20)]).replace("'", '"').encode()
    plain = struct.pack("<I", len(spec)) + spec + struct.pack("<I", len(huge)) + huge.encode() + struct.pack("<I", 0)
    shard.write_bytes(_forge(good, plain=lambda _: plain))
    with pytest.raises(CorruptError, match="bits"):
        ShardReader(shard)
