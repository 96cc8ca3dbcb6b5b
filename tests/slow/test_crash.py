"""What a bank keeps when its writer is killed, its disk is full, or others use it at the same time."""

import os
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec
from maskstore.errors import (
    BankBusyError,
    BankClosedError,
    BankExistsError,
    BankFullError,
    BankIOError,
    BankThreadError,
    MaskStoreError,
)
from tests.helpers.masks import random_mask
from tests.helpers.writers.killed import SPEC

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("MASKSTORE_TEST_KILLS", "12"))  # 100 were used for the figure in docs/format.md


def _kill_writers(path: Path, kills: int, environment: dict[str, str]) -> tuple[set[int], int]:
    """Start and kill writers at random moments, until a task is lost: (acknowledged tasks, of which lost)."""
    MaskBank.create(path, SPEC).close()
    rng = np.random.default_rng(0)
    variables = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    acknowledged: set[int] = set()
    lost = 0
    for _ in range(kills):
        first = max(acknowledged, default=-1) + 1000  # a fresh range: what is not acknowledged may still be there
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.writers.killed", str(path), str(first)],
            stdout=subprocess.PIPE,
            env=variables,
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]  # the interpreter is up and the first task is in
        time.sleep(float(rng.uniform(0, 0.25)))
        writer.kill()
        lines += writer.stdout.read().split(b"\n")
        writer.wait()
        writer.stdout.close()
        acknowledged |= {int(line) for line in lines if line.strip()}
        with MaskBank.open(path) as bank:
            bank.verify()
            stored = {int(name[5:]) for name in bank if name.startswith("task-")}
            for n in list(stored)[-40:]:
                assert bank[f"task-{n}"] == random_mask(SPEC, 0.5, n)  # never a wrong bit
            if "latest" in bank:
                assert bank["latest"] == random_mask(SPEC, 0.5, bank.task_meta("latest")["n"])
            assert "passing" not in bank
        lost = len(acknowledged - stored)
        if lost:
            break
    return acknowledged, lost


@pytest.mark.parametrize("blocks", ["0", "1"])
def test_no_acknowledged_mask_is_lost_when_the_writer_is_killed(tmp_path, blocks):
    acknowledged, lost = _kill_writers(tmp_path / "killed.bank", KILLS, {"BLOCKS": blocks})
    assert len(acknowledged) >= KILLS
    assert lost == 0


def test_the_kill_test_can_fail(tmp_path):
    """A writer that acknowledges before it commits does lose masks under the same kills."""
    _, lost = _kill_writers(tmp_path / "early.bank", 40, {"EARLY": "1"})
    assert lost > 0


@pytest.mark.skipif(os.name != "posix", reason="needs interval timers")
def test_an_interrupt_at_any_moment_leaves_a_bank_that_works(tmp_path):
    """Ctrl-C between any two instructions of a put or a read: the next one works, and what was stored is whole.

    In a process of its own: an interrupt inside a library's bookkeeping may leave a lock of that process held.
    """
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.helpers.writers.interrupted", str(tmp_path / "a.bank")]
    found = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 50


def _put_until_full(bank: MaskBank, prefix: str) -> None:
    for i in range(1000):
        bank.put(f"{prefix}-{i}", random_mask(SPEC, 0.5, i))


def test_a_full_disk_keeps_what_was_stored(tmp_path):
    """The system's limit on a file's size stands in for the disk's."""
    path = tmp_path / "full.bank"
    with MaskBank.create(path, SPEC) as bank:
        bank.put("kept", random_mask(SPEC, 0.5, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    bank = MaskBank.open(path, "a")
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(MaskStoreError) as caught:
            _put_until_full(bank, "more")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(caught.value, OSError)
    stored = list(bank)
    assert stored[0] == "kept"
    assert stored[1:] == [f"more-{i}" for i in range(len(stored) - 1)]
    bank.put("after", random_mask(SPEC, 0.5, 3))  # there is room again
    bank.close()
    with MaskBank.open(path) as bank:
        assert bank.verify() == len(stored) + 1


def test_a_full_database_is_named(tmp_path):
    with MaskBank.create(tmp_path / "full.bank", SPEC) as bank:
        with bank._file.reading() as link:
            link.execute("PRAGMA max_page_count=20")
        with pytest.raises(BankFullError, match="full"):
            _put_until_full(bank, "t")
        assert bank.verify() == len(bank) > 0


def test_a_transaction_that_a_full_database_has_undone_takes_no_more_changes(tmp_path):
    """SQLite undoes all of it, so that a change caught and followed by another would be stored without the others."""
    with MaskBank.create(tmp_path / "full.bank", SPEC) as bank:
        bank.put("before", random_mask(SPEC, 0.5, 0))
        with bank._file.reading() as link:
            link.execute("PRAGMA max_page_count=20")

        def go_on() -> None:
            with bank.transaction():
                with pytest.raises(BankFullError):
                    _put_until_full(bank, "t")
                with pytest.raises(BankIOError, match="undone"):
                    bank.put("alone", random_mask(SPEC, 0.5, 1))
                with pytest.raises(BankIOError, match="undone"), bank.transaction():
                    pass

        def go_on_outside() -> None:
            with bank.transaction():
                with pytest.raises(BankIOError, match="undone"), bank.transaction(), pytest.raises(BankFullError):
                    _put_until_full(bank, "t")
                assert list(bank) == ["before", "after"]

        with pytest.raises(BankIOError, match="undone"):
            go_on()
        assert list(bank) == ["before"]
        bank.put("after", random_mask(SPEC, 0.5, 2))
        with pytest.raises(BankIOError, match="undone"):
            go_on_outside()
        assert list(bank) == ["before", "after"]
        assert bank.verify() == 2


def test_readers_beside_a_writer_see_whole_masks(tmp_path):
    path = tmp_path / "shared.bank"
    writer = MaskBank.create(path, SPEC)
    stop = threading.Event()

    def read() -> int:
        seen = 0
        with MaskBank.open(path) as bank:
            while not stop.is_set():
                matrix = bank.matrix()
                assert list(matrix.names) == [f"t{i}" for i in range(len(matrix))]
                assert len(matrix) >= seen
                seen = len(matrix)
                if seen:
                    assert matrix[seen - 1] == random_mask(SPEC, 0.5, seen - 1)
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for i in range(60):
            writer.put(f"t{i}", random_mask(SPEC, 0.5, i))
        stop.set()
        assert all(reader.result() <= 60 for reader in readers)
    writer.close()


def test_two_writers_take_turns(tmp_path):
    path = tmp_path / "two.bank"
    MaskBank.create(path, SPEC).close()

    def write(who: str) -> None:
        with MaskBank.open(path, "a") as bank:
            for i in range(25):
                bank.put(f"{who}-{i}", random_mask(SPEC, 0.5, i))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "ab"))
    with MaskBank.open(path) as bank:
        assert bank.verify() == 50
        for who in "ab":
            assert [name for name in bank if name.startswith(who)] == [f"{who}-{i}" for i in range(25)]


def test_a_writer_that_waits_too_long_says_so(tmp_path):
    with MaskBank.create(tmp_path / "busy.bank", SPEC) as first, first.transaction():
        first.put("t", random_mask(SPEC, 0.5, 0))
        with pytest.raises(BankBusyError, match=r"0\.05 s"):
            MaskBank.open(first.path, "a", timeout=0.05)
        with MaskBank.open(first.path) as reader:
            assert len(reader) == 0  # not yet committed
    with MaskBank.open(first.path) as reader:
        assert len(reader) == 1


def test_one_reading_bank_serves_many_threads_and_a_writing_one_only_its_own(tmp_path):
    with MaskBank.create(tmp_path / "t.bank", SPEC) as bank:
        for i in range(20):
            bank.put(f"t{i}", random_mask(SPEC, 0.5, i))
        with ThreadPoolExecutor(1) as pool:
            with pytest.raises(BankThreadError):
                pool.submit(bank.put, "x", random_mask(SPEC, 0.5, 0)).result()
            with pytest.raises(BankThreadError):
                pool.submit(lambda: bank["t0"]).result()
    with MaskBank.open(tmp_path / "t.bank") as reader, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: reader[f"t{i}"], range(20)))
        assert found == [random_mask(SPEC, 0.5, i) for i in range(20)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_reads_with_a_connection_of_its_own(tmp_path):
    with MaskBank.create(tmp_path / "f.bank", SPEC) as writer:
        writer.put("t", random_mask(SPEC, 0.5, 1))
    reader = MaskBank.open(tmp_path / "f.bank")
    writer = MaskBank.open(tmp_path / "f.bank", "a")
    assert "t" in reader
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert reader["t"] == random_mask(SPEC, 0.5, 1)
            try:
                writer.put("u", random_mask(SPEC, 0.5, 2))
            except BankThreadError:
                code = 0
            writer.close()  # must not disturb the parent's connection or its locks
            reader.close()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    writer.put("u", random_mask(SPEC, 0.5, 2))
    assert list(reader) == ["t", "u"]
    writer.close()
    reader.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_the_log_of_a_killed_writer_is_not_replayed_into_a_new_bank(tmp_path):
    path = tmp_path / "w.bank"
    MaskBank.create(path, SPEC).close()
    child = os.fork()
    if child == 0:
        bank = MaskBank.open(path, "a")
        bank.put("old", random_mask(SPEC, 0.5, 0))
        os._exit(9)
    os.waitpid(child, 0)
    path.unlink()
    with pytest.raises(BankExistsError, match="delete the log too"):
        MaskBank.create(path, MaskSpec({"b": (30, 30)}))
    (tmp_path / "w.bank-wal").unlink()
    with MaskBank.create(path, MaskSpec({"b": (30, 30)})) as bank:
        assert list(bank) == []
        assert bank.verify() == 0


def test_what_readers_leave_behind_does_not_stand_in_the_way(tmp_path):
    path = tmp_path / "r.bank"
    MaskBank.create(path, SPEC).close()
    MaskBank.open(path).close()
    path.unlink()
    MaskBank.create(path, SPEC).close()


def test_closing_waits_for_threads_that_read(tmp_path):
    path = tmp_path / "closing.bank"
    with MaskBank.create(path, SPEC) as writer, writer.transaction():
        for i in range(50):
            writer.put(f"t{i}", random_mask(SPEC, 0.5, i))
    for _ in range(10):
        reader = MaskBank.open(path)

        def read(reader: MaskBank = reader) -> None:
            try:
                while True:
                    assert len(list(reader)) == len(reader.infos()) == 50
            except BankClosedError:
                return

        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(read) for _ in range(4)]
            time.sleep(0.01)
            reader.close()
            for each in waiting:
                each.result()


def test_a_writer_notices_that_its_file_is_gone(tmp_path):
    path = tmp_path / "gone.bank"
    bank = MaskBank.create(path, SPEC)
    path.unlink()
    with pytest.raises(BankIOError, match="deleted or replaced"):
        bank.put("t", random_mask(SPEC, 0.5, 0))
    MaskBank.create(tmp_path / "other.bank", SPEC).close()
    os.replace(tmp_path / "other.bank", path)
    with pytest.raises(BankIOError, match="deleted or replaced"):
        bank.put("t", random_mask(SPEC, 0.5, 0))
    bank.close()
