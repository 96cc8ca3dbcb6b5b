"""Shards on stores of every kind, read by threads, forks, copies and other processes: one answer everywhere."""

import copy
import gc
import multiprocessing
import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from maskstore.errors import BankClosedError, BankIOError, BankNotFoundError, CorruptError, NotABankError
from maskstore.interop import ShardReader, write_shard
from tests.helpers.foreign_files import example_bank
from tests.helpers.range_servers import WAYS, PlainHTTPFileSystem, serving

fsspec.register_implementation("plainhttp", PlainHTTPFileSystem, clobber=True)


@pytest.fixture
def shard(tmp_path):
    with example_bank(tmp_path / "a.bank") as bank:
        write_shard(bank, tmp_path / "a.shard")
    return tmp_path / "a.shard"


@pytest.fixture
def masks(shard):
    with ShardReader(shard) as reader:
        return dict(reader.masks())


def _read(location, masks, **arguments):
    with ShardReader(location, **arguments) as reader:
        assert dict(reader.masks()) == masks
        assert reader["task-2"] == masks["task-2"]
        assert reader.verify() == len(masks)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # fsspec's caches leave files open
@pytest.mark.parametrize("tail_bytes", [1 << 16, 100])
@pytest.mark.parametrize("store", ["memory", "file", "zip"])
@pytest.mark.parametrize("cache", ["", "simplecache::", "filecache::", "blockcache::"])
def test_caches_over_stores(tmp_path, shard, masks, cache, store, tail_bytes):
    match store:
        case "memory":
            fsspec.filesystem("memory").pipe_file("/a.shard", shard.read_bytes())
            url = f"{cache}memory://a.shard"
        case "file":
            url = f"{cache}file://{shard}"
        case _:
            with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
                archive.write(shard, "a.shard")
            url = f"{cache}zip://a.shard::file://{tmp_path / 'z.zip'}"
    options = {cache.removesuffix("::"): {"cache_storage": str(tmp_path / "cache")}} if cache else {}
    for _ in range(2):  # the second time the cache has it
        _read(url, masks, tail_bytes=tail_bytes, options=options)
    gc.collect()


@pytest.mark.parametrize("tail_bytes", [1 << 16, 100])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("protocol", ["plainhttp", "http", "simplecache::plainhttp"])
def test_servers_with_ranges_and_without(tmp_path, shard, masks, way, protocol, tail_bytes):
    if protocol == "http":
        pytest.importorskip("aiohttp")
    if "cache" in protocol and "no sizes" in way:
        pytest.skip("fsspec's caches call a file without a size missing")
    with serving(shard.read_bytes(), way) as place:
        _read(f"{protocol}://{place}", masks, tail_bytes=tail_bytes)
        with pytest.raises((BankNotFoundError, BankIOError)):
            ShardReader(f"{protocol}://{place}x")


@pytest.mark.parametrize("way", WAYS)
def test_what_a_server_sends_is_still_checked(shard, way):
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    with serving(bytes(data), way) as place, pytest.raises(CorruptError), ShardReader(f"plainhttp://{place}") as reader:
        reader.verify()


def test_a_server_that_is_gone_is_named(shard):
    with serving(shard.read_bytes(), "ranges") as place:
        reader = ShardReader(f"plainhttp://{place}")
    with pytest.raises(BankIOError, match="expected to read bytes"):
        reader["task-0"]
    with pytest.raises(BankIOError, match="expected to read bytes"):
        ShardReader(f"plainhttp://{place}")


def test_missing_drivers_are_named() -> None:
    with pytest.raises((BankIOError, ImportError), match=r"nowhere|fsspec needs"):
        ShardReader("s3://nowhere/a.shard")


@pytest.mark.parametrize("place", ["path", "memory", "plainhttp", "simplecache"])
def test_copies_and_pickles_open_the_file_again(tmp_path, shard, masks, place, monkeypatch):
    fsspec.filesystem("memory").pipe_file("/a.shard", shard.read_bytes())
    monkeypatch.chdir(tmp_path)
    with serving(shard.read_bytes(), "no suffix") as server:
        urls = {"path": "a.shard", "memory": "memory://a.shard", "plainhttp": f"plainhttp://{server}"}
        with ShardReader(urls.get(place, "simplecache::memory://a.shard"), tail_bytes=100) as reader:
            data = pickle.dumps(reader)
            monkeypatch.chdir("/")
            for again in (pickle.loads(data), copy.copy(reader), copy.deepcopy(reader)):
                assert (list(again), again.spec, again.meta) == (list(reader), reader.spec, reader.meta)
                assert again["task-1"] == masks["task-1"]
                again.close()
            assert reader["task-1"] == masks["task-1"]
    with pytest.raises(BankClosedError):
        pickle.dumps(reader)


def test_another_shard_under_the_name_is_noticed(tmp_path, shard):
    with ShardReader(shard) as reader:
        data = pickle.dumps(reader)
    with example_bank(tmp_path / "b.bank", tasks=2, seed=1) as bank:
        write_shard(bank, shard, overwrite=True)
    with pytest.raises(CorruptError, match="expected the shard that was open"):
        pickle.loads(data)
    shard.unlink()
    with pytest.raises(BankNotFoundError):
        pickle.loads(data)


@pytest.mark.parametrize("place", ["path", "simplecache::memory", "filecache::memory", "plainhttp", "zip"])
def test_threads_get_what_one_gets(tmp_path, shard, masks, place):
    fsspec.filesystem("memory").pipe_file("/a.shard", shard.read_bytes())
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(shard, "a.shard")
    with serving(shard.read_bytes(), "ranges") as server:
        urls = {"path": str(shard), "plainhttp": f"plainhttp://{server}", "zip": f"zip://a.shard::{tmp_path / 'z.zip'}"}
        with ShardReader(urls.get(place, f"{place}://a.shard")) as reader, ThreadPoolExecutor(8) as pool:
            names = list(masks) * 8
            assert list(pool.map(reader.__getitem__, names)) == [masks[name] for name in names]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("place", ["path", "simplecache::memory", "plainhttp", "http"])
def test_forks_get_what_one_gets(shard, masks, place):
    if place == "http":
        pytest.importorskip("aiohttp")
    fsspec.filesystem("memory").pipe_file("/a.shard", shard.read_bytes())
    with serving(shard.read_bytes(), "ranges") as server:
        url = str(shard) if place == "path" else f"{place}://{server if 'http' in place else 'a.shard'}"
        with ShardReader(url, tail_bytes=100) as reader:
            assert reader["task-0"] == masks["task-0"]
            child = os.fork()
            if not child:
                right = 1
                try:
                    right = int(any(reader[name] != mask for name, mask in masks.items()))
                finally:
                    os._exit(right)
            assert [reader[name] for name in masks] == list(masks.values())
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert reader["task-3"] == masks["task-3"]


def _ones(reader, name):
    return reader[name].ones


@pytest.mark.slow
@pytest.mark.parametrize("way", ["spawn", "forkserver"])
def test_readers_are_sent_to_new_processes(shard, masks, way):
    with ShardReader(shard) as reader, multiprocessing.get_context(way).Pool(1) as pool:
        assert pool.starmap(_ones, [(reader, name) for name in masks]) == [mask.ones for mask in masks.values()]


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.shard")
    with pytest.raises(NotABankError, match="expected a shard, found a named pipe"):
        ShardReader(tmp_path / "a.shard")
