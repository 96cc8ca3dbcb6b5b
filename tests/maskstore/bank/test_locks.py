"""The locks of a process on a bank: nothing that it does beside the bank drops them, and it notices if they go."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec, account, compact, open_source
from maskstore.errors import (
    BankExistsError,
    BankIOError,
    ForeignFileError,
    IrregularFileError,
    MaskStoreError,
    NotABankError,
)
from maskstore.files import npz, read_regular
from maskstore.interop import merge, read_masks, write_shard
from maskstore.interop.shards import ShardReader
from tests.helpers.commands import maskstore
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"a": (30, 40)})
LOCKS = Path("/proc/locks")
needs_proc = pytest.mark.skipif(not LOCKS.exists(), reason="needs /proc/locks")


def _locks(path: Path) -> set[tuple[str, int]]:
    """Which lasting locks this process has on a bank ("bank") and on the index of its log ("index"), as (which, inode).

    Linux lists locks while others change them, so the list may miss or repeat one: it is read a few times.
    """
    places = {("bank", path.stat().st_ino): _SHARED_BYTE, ("index", Path(f"{path}-shm").stat().st_ino): _IN_USE_BYTE}
    found = set()
    for _ in range(5):
        lines = [line.split() for line in LOCKS.read_text().splitlines()]
        own = {(int(line[5].split(":")[2]), line[6]) for line in lines if line[4] == str(os.getpid())}
        found |= {place for place, start in places.items() if (place[1], start) in own}
        if len(found) == 2:
            break
    return found


_SHARED_BYTE, _IN_USE_BYTE = "1073741826", "128"  # where SQLite puts these locks


@pytest.fixture
def bank(tmp_path):
    with MaskBank.create(tmp_path / "a.bank", SPEC) as opened:
        for n in range(3):
            opened.put(f"t{n}", random_mask(SPEC, 0.3, n))
        yield opened


def _refused(error, work):
    with pytest.raises(error):
        work()


BESIDE = {
    "open": lambda bank: MaskBank.open(bank.path).close(),
    "open in a thread": lambda bank: _in_thread(lambda: MaskBank.open(bank.path).verify()),
    "account": account,
    "account of another": lambda bank: account(MaskBank.open(bank.path)),
    "open_source": lambda bank: open_source(bank.path).close(),
    "verify": lambda bank: MaskBank.open(bank.path).verify(),
    "compact": lambda bank: compact(bank.path, level="fast"),
    "merge from": lambda bank: merge([bank.path], bank.path.with_name("b.bank")),
    "diff": lambda bank: maskstore("diff", bank.path, bank.path),
    "write_shard": lambda bank: write_shard(bank, bank.path.with_name("a.shard")),
    "export": lambda bank: maskstore("export", bank.path, bank.path.with_name("a.npz")),
    "stats": lambda bank: maskstore("stats", bank.path, "--json"),
    "ls": lambda bank: maskstore("ls", bank.path),
    "put by another": lambda bank: maskstore("rm", bank.path, "t2"),
    "created over": lambda bank: _refused(MaskStoreError, lambda: MaskBank.create(bank.path, SPEC)),
    "imported": lambda bank: _refused(ForeignFileError, lambda: read_masks(bank.path)),
    "as a shard": lambda bank: _refused(NotABankError, lambda: ShardReader(bank.path)),
    "as .npz": lambda bank: _refused(ForeignFileError, lambda: npz.read_npz(bank.path)),
    "as JSON": lambda bank: _refused(IrregularFileError, lambda: read_regular(bank.path)),
    "as .npy": lambda bank: _refused(ForeignFileError, lambda: npz.read_npy_file(bank.path)),
    "written over": lambda bank: _refused(BankExistsError, lambda: npz.write_npz(bank.path, {}, overwrite=True)),
}


def _in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@needs_proc
@pytest.mark.parametrize("way", BESIDE)
@pytest.mark.parametrize("mode", ["r", "a"])
def test_locks_stay_whatever_else_a_process_does_with_a_bank(bank, way, mode):
    reader = None
    if mode == "r":
        bank.close()
        reader = MaskBank.open(bank.path)
    held = _locks(bank.path)
    assert len(held) == 2  # on the bank, and on the index of the log
    BESIDE[way](reader or bank)
    assert _locks(bank.path) == held
    assert len(list(reader or bank)) == (2 if way == "put by another" else 3)
    if reader:
        reader.close()


@needs_proc
def test_the_test_above_can_fail(bank):
    bank.path.open("rb").close()
    assert {which for which, _ in _locks(bank.path)} == {"index"}


_OTHER = """
import sys
from maskstore import MaskBank
from tests.helpers.masks import random_mask
path, mode, names = sys.argv[1], sys.argv[2], sys.argv[3:]
bank = MaskBank.open(path, "a")
for name in names:
    bank.put(name, random_mask(bank.spec, 0.3, int(name[1:])))
if mode == "killed":
    import os
    os._exit(0)
bank.close()
"""


def _other(path: Path, *names: str, mode: str = "closed") -> None:
    """Another process puts masks, then closes the bank or is killed."""
    subprocess.run([sys.executable, "-c", _OTHER, path, mode, *names], check=True, timeout=120)


def _drop_locks(path: Path) -> None:
    path.open("rb").close()  # what `shutil.copy(path)` and a hash of the file do as well


@pytest.mark.slow
@pytest.mark.parametrize("end", ["closed", "killed"])
def test_a_writer_whose_locks_its_own_program_dropped_loses_no_mask(bank, end):
    """SQLite in the other process takes itself for the last user of the bank, and deletes the log of this one."""
    reader = MaskBank.open(bank.path)
    assert len(reader) == 3
    _drop_locks(bank.path)
    _other(bank.path, "t3")
    assert not bank.path.with_name("a.bank-wal").exists()
    _other(bank.path, "t4", mode=end)
    assert list(reader) == [f"t{n}" for n in range(5)]
    bank.put("t5", random_mask(SPEC, 0.3, 5))
    assert list(reader) == list(bank) == [f"t{n}" for n in range(6)]
    _drop_locks(bank.path)
    _other(bank.path, "t6")
    bank.close()
    with MaskBank.open(bank.path) as opened:
        assert opened.verify() == 7
        for n in range(7):
            assert opened[f"t{n}"] == reader[f"t{n}"] == random_mask(SPEC, 0.3, n)
    reader.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_bank_opened_again_after_its_log_was_replaced_does_not_take_the_old_index_for_it(bank, mode):
    """All connections of a process to a file share one index of its log, and an idle one may have a deleted log."""
    _drop_locks(bank.path)
    _other(bank.path, "t3")
    _other(bank.path, "t4", "t5", "t6", "t7", mode="killed")
    with MaskBank.open(bank.path, mode) as again:
        assert list(again) == [f"t{n}" for n in range(8)]
        if mode == "a":
            again.put("t8", random_mask(SPEC, 0.3, 8))
        assert again.verify() == len(bank) == len(again)
    bank.put("t9", random_mask(SPEC, 0.3, 9))
    bank.close()
    with MaskBank.open(bank.path) as opened:
        assert opened.verify() == 9 + (mode == "a")
        for name in opened:
            assert opened[name] == random_mask(SPEC, 0.3, int(name[1:]))


def test_a_transaction_whose_log_was_deleted_ends_with_an_error(bank):
    def change():
        with bank.transaction():
            bank.put("t3", random_mask(SPEC, 0.3, 3))
            Path(f"{bank.path}-wal").rename(f"{bank.path}-elsewhere")
            bank.put("t4", random_mask(SPEC, 0.3, 4))

    _refused(BankIOError, change)
    Path(f"{bank.path}-elsewhere").rename(f"{bank.path}-wal")
    assert list(bank) == ["t0", "t1", "t2"]


def test_a_bank_that_is_collected_unclosed_leaves_the_log_of_its_successor(tmp_path):
    """The name was given to another bank meanwhile: its log is not the old bank's to delete."""
    path = tmp_path / "a.bank"
    old = MaskBank.create(path, SPEC)
    old.put("old", random_mask(SPEC, 0.3, 0))
    for each in tmp_path.iterdir():
        each.unlink()
    new = MaskBank.create(path, SPEC)
    new.put("new", random_mask(SPEC, 0.3, 1))
    old.close()
    del old
    assert Path(f"{path}-wal").stat().st_size
    assert list(MaskBank.open(path)) == list(new) == ["new"]
    new.close()


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_bank_whose_file_was_replaced_says_so(bank, mode):
    bank.close()
    opened = MaskBank.open(bank.path, mode)
    other = bank.path.with_name("b.bank")
    MaskBank.create(other, SPEC).close()
    os.replace(other, bank.path)
    with pytest.raises(BankIOError, match="expected the file that was opened, found it deleted or replaced"):
        opened["t0"]
    if mode == "a":
        with pytest.raises(BankIOError, match="found it deleted or replaced"):
            opened.put("t3", random_mask(SPEC, 0.3, 3))
    opened.close()
    assert len(MaskBank.open(bank.path)) == 0


@pytest.mark.slow
def test_a_reader_with_threads_beside_another_process_is_never_stale(bank):
    bank.close()
    reader, stop, seen, failed = MaskBank.open(bank.path), threading.Event(), [], []

    def read():
        try:
            while not stop.is_set():
                MaskBank.open(bank.path).close()
                seen.append(len(list(reader.masks())))
        except Exception as error:  # shown below
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(3, 9):
        _other(bank.path, f"t{n}", mode="killed" if n == 5 else "closed")
        assert len(reader) == n + 1
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert seen
    assert max(seen) <= 9
    assert np.array_equal(reader["t8"].words, random_mask(SPEC, 0.3, 8).words)
    reader.close()


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_bank_stays_the_same_when_the_working_folder_changes(tmp_path, monkeypatch, mode):
    """Another folder has a bank of the same name. Connections and locks made later are still the first one's."""
    for folder, count in (("one", 1), ("two", 2)):
        (tmp_path / folder).mkdir()
        with MaskBank.create(tmp_path / folder / "a.bank", SPEC) as made:
            for n in range(count):
                made.put(f"t{n}", random_mask(SPEC, 0.3, n))
    before = sorted((tmp_path / "two").iterdir())
    monkeypatch.chdir(tmp_path / "one")
    with MaskBank.open("a.bank", mode) as opened:
        monkeypatch.chdir(tmp_path / "two")
        opened._file._close_links()  # as a fork does
        assert list(opened) == ["t0"]
        if mode == "a":
            opened.put("new", random_mask(SPEC, 0.3, 7))
        else:
            _in_thread(lambda: opened.verify())
    assert sorted((tmp_path / "two").iterdir()) == before
    assert len(MaskBank.open("a.bank")) == 2
