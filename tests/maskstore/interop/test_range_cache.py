"""The cache of what was fetched: bounded, shared by processes, and never trusted."""

import multiprocessing
import os
from contextlib import suppress

import pytest

from maskstore import errors
from maskstore.interop import ShardSet, write_shards
from maskstore.interop.shards.range_cache import DiskCache, MemoryCache, open_cache
from tests.helpers.foreign_files import example_bank
from tests.helpers.object_server import object_server


def _size(folder):
    total = 0
    for path in folder.rglob("*.range"):
        with suppress(FileNotFoundError):  # it left meanwhile
            total += path.stat().st_size
    return total


def _value(number):
    return number.to_bytes(4, "little") * (20 + number % 50)


def test_the_oldest_leave_first(tmp_path):
    cache = DiskCache(tmp_path, 4000)
    for number in range(30):
        cache.put({f"{number}": bytes([number]) * 100})
        path = cache._path(f"{number}")
        os.utime(path, ns=(number, number))
        assert _size(tmp_path) <= 4000
        assert int((tmp_path / "bytes").read_text()) >= _size(tmp_path)
    assert cache.get("29") == bytes([29]) * 100
    assert cache.get("0") == bytes(100)  # used just now
    for number in range(30, 40):
        cache.put({f"{number}": bytes(100)})
    assert cache.get("0") == bytes(100)
    assert cache.get("1") is None


def test_what_is_larger_than_a_quarter_is_not_kept(tmp_path):
    for cache in (DiskCache(tmp_path, 1000), MemoryCache(1000)):
        cache.put({"large": bytes(1001)})
        assert cache.get("large") is None


@pytest.mark.parametrize("damage", [b"", b"x" * 500, None])
def test_a_damaged_file_is_as_if_it_were_not_there(tmp_path, damage):
    cache = DiskCache(tmp_path, 10_000)
    cache.put({"a": b"right" * 20})
    path = cache._path("a")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data) if damage is None else damage)
    assert cache.get("a") is None
    assert not path.exists()
    cache.put({"b": b"value"})
    os.replace(cache._path("b"), path)
    assert cache.get("a") is None, "another key's value is none of this one"
    (tmp_path / "bytes").write_text("nonsense")
    cache.put({"a": b"again"})
    assert cache.get("a") == b"again"
    assert int((tmp_path / "bytes").read_text()) == 16 + len(b"again")


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path):
    cache = DiskCache(tmp_path / "c", 10_000)
    cache._path("a").parent.write_text("a file in the way")
    cache.put({"a": b"value"})
    assert cache.get("a") is None


def test_memory_is_bounded():
    cache = MemoryCache(1000)
    for number in range(50):
        cache.put({f"{number}": bytes(100)})
    assert [cache.get(f"{number}") is not None for number in range(50)] == [False] * 40 + [True] * 10
    with pytest.raises(errors.StoreOptionError):
        open_cache(None, -1)


def _work(folder, seed):
    cache = DiskCache(folder, 20_000)
    for step in range(150):
        number = (step * 7 + seed * 13) % 200
        found = cache.get(f"{number}")
        assert found in (None, _value(number))
        cache.put({f"{number}": _value(number)})


@pytest.mark.slow
def test_processes_share_a_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(tmp_path, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        assert _size(tmp_path) <= 21_000  # one may be counted that has left, and the one that came for it
        for worker in workers:
            worker.join(0.01)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert 0 < _size(tmp_path) <= 20_000


def test_a_set_reads_each_mask_once(tmp_path):
    pytest.importorskip("obstore")
    with object_server(tmp_path) as served, example_bank(tmp_path / "a.bank", tasks=6) as bank:
        write_shards(bank, tmp_path / "bucket" / "tasks", shards=2)
        for _ in range(2):
            with ShardSet(f"{served.http}/tasks", cache=tmp_path / "cache") as tasks:
                assert [tasks[name] for name in bank] == list(bank.values())
        assert len(served.requests) == 2 + len(bank)
        for path in (tmp_path / "cache").rglob("*.range"):
            path.write_bytes(b"stranger")
        with ShardSet(f"{served.http}/tasks", cache=tmp_path / "cache") as tasks:
            assert [tasks[name] for name in bank] == list(bank.values())
        # another content under the same names is another set
        with example_bank(tmp_path / "b.bank", tasks=6, seed=9) as other:
            write_shards(other, tmp_path / "bucket" / "tasks", shards=2, overwrite=True)
            with ShardSet(f"{served.http}/tasks", cache=tmp_path / "cache") as tasks:
                assert [tasks[name] for name in bank] == list(other.values())
