"""Shard sets when things go wrong: right bytes or a named error, after a bounded number of requests."""

import random
import threading

import pytest

from maskstore import errors
from maskstore.interop import Retries, ShardSet, write_shards
from maskstore.interop.shards import engines, object_store, write_set
from tests.helpers.foreign_files import example_bank
from tests.helpers.object_server import FAULTS, object_server

pytest.importorskip("obstore", reason="the S3 client is obstore's")
SOON = Retries(attempts=4, first_wait=0.001)
TASKS = "s3://bucket/tasks"


@pytest.fixture
def bank(tmp_path):
    with example_bank(tmp_path / "a.bank", tasks=10) as bank:
        yield bank


@pytest.fixture
def served(monkeypatch):
    monkeypatch.setattr(object_store, "TIMEOUT_SECONDS", 0.3)  # a slow answer takes a second
    with object_server() as objects:
        yield objects


def _open(served, **more):
    return ShardSet(TASKS, options=served.options, retries=SOON, **more)


def _write(bank, served, **more):
    return write_shards(bank, TASKS, options=served.options, retries=SOON, **more)


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_is_got_over(bank, served, fault):
    _write(bank, served, shards=3)
    tasks = _open(served)
    first = len(served.requests) + 1
    served.fault = lambda number, method, path: fault if number == first else None
    assert tasks["task-5"] == bank["task-5"]
    assert len(served.requests) <= first + 1
    served.fault = lambda number, method, path: fault if number == len(served.requests) and number % 2 else None
    assert _open(served)["task-2"] == bank["task-2"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_named_after_bounded_requests(bank, served, fault):
    _write(bank, served, shards=3)
    tasks = _open(served)
    served.fault = lambda number, method, path: fault
    served.requests.clear()
    with pytest.raises((errors.BankIOError, errors.CorruptError)) as found:
        _ = tasks["task-5"]
    assert "\n" not in str(found.value)
    assert len(served.requests) == (2 if isinstance(found.value, errors.CorruptError) else SOON.attempts)
    if fault == "shifted":  # a range that starts at 0 is not
        return
    served.requests.clear()
    with pytest.raises(errors.MaskStoreError):
        _open(served)
    assert len(served.requests) <= SOON.attempts


def test_random_faults_give_right_masks_or_named_errors(bank, served):
    _write(bank, served, shards=3)
    rng, tasks = random.Random(0), _open(served)
    quick = [fault for fault in FAULTS if fault != "slow"]
    served.fault = lambda number, method, path: rng.choice(quick) if rng.random() < 0.4 else None
    right = named = 0
    for _ in range(20):
        for name in bank:
            try:
                assert tasks[name] == bank[name]
                right += 1
            except errors.MaskStoreError:
                named += 1
    assert right > 150, "most faults are got over"
    assert right + named == 200


def test_a_changed_shard_is_never_served(bank, served):
    _write(bank, served, shards=1)
    tasks = _open(served)
    (path,) = [path for path in served.stored if path.endswith(".shard")]
    whole = served.stored[path]
    served.stored[path] = bytes(len(whole))
    with pytest.raises(errors.CorruptError):
        _ = tasks["task-5"]
    served.stored[path] = whole[: len(whole) // 4]
    with pytest.raises((errors.CorruptError, errors.BankIOError)):
        tasks.matrix()
    del served.stored[path]
    with pytest.raises(errors.CorruptError, match="expected what the manifest lists"):
        _ = tasks["task-5"]
    with pytest.raises(errors.CorruptError, match="expected what the manifest lists"):
        tasks.verify()


def test_an_older_manifest_is_told(bank, served, tmp_path):
    _write(bank, served)
    old = served.stored["/bucket/tasks/manifest"]
    _write(bank, served, overwrite=True)
    tasks = _open(served)
    served.stored["/bucket/tasks/manifest"] = old
    with pytest.raises(errors.CorruptError, match="expected generation 2 or a later one"):
        tasks.refresh()
    assert tasks["task-1"] == bank["task-1"]


def test_of_two_writers_one_wins_and_the_other_is_told(bank, served, tmp_path, monkeypatch):
    _write(bank, served)
    both = threading.Barrier(2)
    swap = write_set._swap

    def meeting(*arguments):
        both.wait()
        return swap(*arguments)

    monkeypatch.setattr(write_set, "_swap", meeting)
    results = []

    def write(number):
        with example_bank(tmp_path / f"{number}.bank", tasks=2, seed=number, prefix=f"new-{number}-") as more:
            try:
                results.append(_write(more, served, append=True).generation)
            except errors.WriteConflictError as error:
                results.append(str(error))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(type, results), key=str) == [int, str]
    assert "another writer was first" in next(one for one in results if isinstance(one, str))
    with _open(served) as tasks:
        assert (len(tasks), tasks.generation, tasks.verify()) == (12, 2, 12)


@pytest.mark.parametrize("location", ["folder", "memory://race/tasks"])
def test_writers_of_folders_and_memory_are_told_too(bank, tmp_path, location):
    place = str(tmp_path / "tasks") if location == "folder" else location
    write_shards(bank, place, overwrite=True)
    store = engines.open_store(place)
    version = store.get("manifest", 0, 1 << 20).version
    store.swap("manifest", b"one", version)
    with pytest.raises(errors.WriteConflictError):
        store.swap("manifest", b"two", version)
    with pytest.raises(errors.WriteConflictError):
        store.swap("manifest", b"two", None)
    assert store.get("manifest", 0, 99).data == b"one"


def test_a_swap_whose_answer_was_lost_has_happened(bank, served):
    _write(bank, served)
    served.fault = lambda number, method, path: "drop" if method == "PUT" and path.endswith("manifest") else None
    assert _write(bank, served, overwrite=True).generation == 2
    served.fault = None
    assert _open(served).generation == 2


def test_a_writer_that_fails_leaves_the_set_as_it_was(bank, served, tmp_path):
    _write(bank, served)
    served.fault = lambda number, method, path: "500" if method == "PUT" else None
    with example_bank(tmp_path / "b.bank", prefix="b-") as more, pytest.raises(errors.BankIOError):
        _write(more, served, append=True)
    served.fault = None
    assert list(_open(served)) == list(bank)


def test_a_fork_is_refused_by_name(bank, served, monkeypatch):
    _write(bank, served)
    tasks = _open(served)
    monkeypatch.setattr(object_store.os, "getpid", lambda: 1)
    with pytest.raises(errors.BankIOError, match="found a fork"):
        _ = tasks["task-1"]


def test_a_server_that_is_gone(bank, served):
    with object_server() as other:
        write_shards(bank, TASKS, options=other.options)
        tasks = ShardSet(TASKS, options=other.options, retries=SOON)
    with pytest.raises(errors.BankIOError, match="in 4 attempts"):
        _ = tasks["task-1"]
