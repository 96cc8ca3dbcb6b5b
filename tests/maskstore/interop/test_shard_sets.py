"""Shard sets on stores of every kind: the same masks as the bank, in few requests, and changes in one step."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest

from maskstore import MaskBank, MaskMatrix, MaskSpec, Reference, errors, open_source
from maskstore.interop import Retries, ShardReader, ShardSet, merge, write_shard, write_shards
from tests.helpers.foreign_files import example_bank
from tests.helpers.object_server import object_server

SOON = Retries(first_wait=0.001)
STORES = ("folder", "file", "memory", "s3", "http")


@pytest.fixture
def bank(tmp_path):
    with example_bank(tmp_path / "a.bank", tasks=10) as bank:
        yield bank


@pytest.fixture
def served():
    with object_server() as objects:
        yield objects


@pytest.fixture
def place(request, tmp_path, served):
    """Where a set is written and read, and the options."""
    fsspec.filesystem("memory").store.clear()
    match request.param:
        case "folder":
            return str(tmp_path / "tasks"), {}
        case "file":
            return f"file://{tmp_path / 'tasks'}", {}
        case "memory":
            return "memory://some/tasks", {}
        case _:
            pytest.importorskip("obstore", reason="the S3 and HTTP clients are obstore's")
            return "s3://bucket/tasks", {"options": served.options}


def _reading(place, served, param):
    """The same set, for reading."""
    return (f"{served.http}/tasks", {}) if param == "http" else place


@pytest.mark.parametrize("place", STORES, indirect=True)
@pytest.mark.parametrize("shards", [1, 3, 10, 99])
def test_a_set_is_the_bank(bank, place, shards, served, request):
    location, options = place
    written = write_shards(bank, location, shards=shards, **options)
    assert (written.masks, written.shards, written.generation) == (10, min(10, -(-10 // -(-10 // shards))), 1)
    location, options = _reading(place, served, request.node.callspec.params["place"])
    with ShardSet(location, retries=SOON, **options) as tasks:
        assert (list(tasks), tasks.spec, tasks.meta) == (list(bank), bank.spec, bank.meta)
        assert dict(tasks.masks()) == dict(bank.masks())
        for name in bank:
            assert tasks[name] == bank[name]
            assert tasks.info(name)[:4] == bank.info(name)[:4]
            extras = bank.extras(name)
            assert all(np.array_equal(tasks.extras(name)[key], extras[key]) for key in extras)
        some = list(bank)[::-3]
        assert np.array_equal(tasks.matrix(some).rows, bank.matrix(some).rows)
        assert tasks.verify() == 10
        assert tasks.shards == written.shards


@pytest.mark.parametrize("place", ["s3", "http"], indirect=True)
def test_open_is_one_request_and_a_mask_is_one(bank, place, served, request):
    write_shards(bank, place[0], shards=3, **place[1])
    location, options = _reading(place, served, request.node.callspec.params["place"])
    served.requests.clear()
    with ShardSet(location, **options) as tasks:
        assert len(served.requests) == 1
        assert tasks["task-7"] == bank["task-7"]
        assert len(served.requests) == 2
        assert tasks.task_meta("task-3") == bank.task_meta("task-3")
        assert len(served.requests) == 2
        assert tasks.prefetch(list(bank)) == 10
        assert len(served.requests) <= 5, "neighbours share a request"
        before = len(served.requests)
        assert [tasks[name] for name in bank] == list(bank.values())
        assert len(served.requests) == before


@pytest.mark.parametrize("place", ["folder", "memory", "s3"], indirect=True)
def test_appended_in_one_step(bank, place, tmp_path):
    location, options = place
    write_shards(bank, location, shards=2, **options)
    early = ShardSet(location, **options)
    with example_bank(tmp_path / "b.bank", tasks=3, seed=5) as more:
        with pytest.raises(errors.TaskExistsError, match="found another mask"):
            write_shards(more, location, append=True, **options)
        assert not early.refresh()
    with MaskBank.create(tmp_path / "more.bank", bank.spec) as more:
        for name in ("x", "y", "z"):
            more.put(name, bank["task-1"])
        written = write_shards(more, location, append=True, **options)
        assert (written.masks, written.shards, written.generation) == (3, 1, 2)
        assert write_shards(more, location, append=True, **options) == (0, 0, 0, 2)
    assert "x" not in early
    assert early["task-4"] == bank["task-4"], "an open set stays as it was"
    assert early.refresh()
    assert early["x"] == bank["task-1"]
    assert list(early) == [*bank, "x", "y", "z"]
    assert early.meta == bank.meta
    assert early.verify() == 13


@pytest.mark.parametrize("place", ["folder", "memory", "s3"], indirect=True)
def test_a_set_that_is_there_stays_unless_it_is_named(bank, place, tmp_path):
    location, options = place
    write_shards(bank, location, **options)
    with pytest.raises(errors.BankExistsError, match=r"append=True.*overwrite=True"):
        write_shards(bank, location, **options)
    early = ShardSet(location, **options)
    with example_bank(tmp_path / "b.bank", tasks=2, seed=3) as other:
        assert write_shards(other, location, overwrite=True, **options).generation == 2
        with ShardSet(location, **options) as later:
            assert dict(later.masks()) == dict(other.masks())
    assert early["task-9"] == bank["task-9"], "old shards stay for those who read them"


def test_open_source_knows_sets_shards_and_banks(bank, tmp_path):
    write_shards(bank, tmp_path / "tasks", shards=2)
    write_shard(bank, tmp_path / "one.shard")
    write_shard(bank, "memory://odd")
    write_shards(bank, "memory://tasks/of/mine", overwrite=True)
    found = {}
    for location in (tmp_path / "tasks", tmp_path / "one.shard", "memory://odd", "memory://tasks/of/mine"):
        with open_source(location) as source:
            found[str(location)] = type(source)
            assert source["task-2"] == bank["task-2"]
    assert list(found.values()) == [ShardSet, ShardReader, ShardReader, ShardSet]
    with pytest.raises(errors.BankNotFoundError):
        open_source("memory://nothing/here")


def test_each_shard_is_readable_alone_and_merges(bank, tmp_path):
    write_shards(bank, tmp_path / "tasks", shards=3)
    seen = []
    for path in sorted((tmp_path / "tasks" / "shards").glob("*.shard")):
        with ShardReader(path) as shard:
            assert shard.meta == bank.meta
            seen += list(shard)
    assert sorted(seen) == sorted(bank)
    merge([str(tmp_path / "tasks")], tmp_path / "back.bank")
    with MaskBank.open(tmp_path / "back.bank") as back:
        assert dict(back.masks()) == dict(bank.masks())


def test_related_masks_stand_alone_in_a_set(tmp_path):
    near = {"fc1": np.random.default_rng(0).random((40, 50)) < 0.4}
    with MaskBank.create(tmp_path / "a.bank", MaskSpec.of(near)) as bank:
        bank.put("base", near)
        bank.put("near", near, prior=Reference("base"))
        assert bank.record("near").bases
        write_shards(bank, tmp_path / "tasks", shards=2)
        with ShardSet(tmp_path / "tasks") as tasks:
            assert tasks["near"] == bank["near"]
            assert write_shards(bank, tmp_path / "tasks", append=True).masks == 0


def test_copies_and_threads(bank, tmp_path):
    write_shards(bank, tmp_path / "tasks", shards=3)
    with ShardSet(tmp_path / "tasks") as tasks:
        data = pickle.dumps(tasks)
        for again in (pickle.loads(data), copy.copy(tasks)):
            assert again["task-1"] == bank["task-1"]
        with ThreadPoolExecutor(8) as pool:
            names = list(bank) * 5
            assert list(pool.map(tasks.__getitem__, names)) == [bank[name] for name in names]
        write_shards(bank, tmp_path / "tasks", overwrite=True)
        with pytest.raises(errors.CorruptError, match="expected the manifest that was open"):
            pickle.loads(data)
    for use in (lambda: tasks["task-1"], lambda: list(tasks.records()), tasks.refresh, lambda: pickle.dumps(tasks)):
        with pytest.raises(errors.BankClosedError):
            use()


def test_an_empty_bank_is_an_empty_set_that_grows(bank, tmp_path):
    with MaskBank.create(tmp_path / "none.bank", bank.spec) as none:
        assert write_shards(none, tmp_path / "tasks") == (0, 0, 0, 1)
    with ShardSet(tmp_path / "tasks") as tasks:
        assert len(tasks) == 0
        assert len(tasks.matrix()) == 0
        assert isinstance(tasks.matrix([]), MaskMatrix)
    assert write_shards(bank, tmp_path / "tasks", append=True).masks == 10


@pytest.mark.parametrize(
    "wrong", [{"shards": 0}, {"shards": 1.5}, {"append": True, "overwrite": True}, {"engine": "x"}]
)
def test_wrong_options_are_named(bank, tmp_path, wrong):
    with pytest.raises(errors.StoreOptionError):
        write_shards(bank, tmp_path / "tasks", **wrong)
    with pytest.raises(errors.StoreOptionError):
        Retries(attempts=0)


def test_other_layers_are_refused(bank, tmp_path):
    write_shards(bank, tmp_path / "tasks")
    with MaskBank.create(tmp_path / "o.bank", MaskSpec({"other": (2, 3)})) as other, pytest.raises(errors.SpecError):
        write_shards(other, tmp_path / "tasks", append=True)


def test_plain_http_is_read_only(bank, served):
    pytest.importorskip("obstore")
    with pytest.raises(errors.BankReadOnlyError, match="read only"):
        write_shards(bank, f"{served.http}/tasks", retries=SOON)


def test_a_set_of_another_network_is_not_taken_by_refresh(bank, tmp_path):
    write_shards(bank, tmp_path / "set")
    with (
        ShardSet(tmp_path / "set") as tasks,
        MaskBank.create(tmp_path / "other.bank", bank.spec, meta={**bank.meta, "seed": 77}) as other,
    ):
        before = tasks.checksum("task-0")
        other.put("task-0", bank["task-1"])
        write_shards(other, tmp_path / "set", overwrite=True)
        with pytest.raises(errors.CorruptError, match="open the set again"):
            tasks.refresh()
        assert tasks.checksum("task-0") == before
        assert tasks["task-0"] == bank["task-0"]
