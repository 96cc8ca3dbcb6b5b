"""Banks that SQLite alone cannot read: without permission, on read-only media, with other names, without their log."""

import os
import shutil
import sqlite3
import tempfile
from errno import EACCES, ENOLCK, ENOSPC
from pathlib import Path

import pytest

from maskstore import MaskBank, MaskSpec, compact
from maskstore.bank import sqlite
from maskstore.errors import (
    BankBusyError,
    BankFullError,
    BankIOError,
    BankReadOnlyError,
    CorruptError,
    MaskStoreError,
)
from tests.helpers.commands import maskstore
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


def _killed(bank: MaskBank, folder: Path) -> Path:
    """Bank and log as a writer leaves them that is killed now."""
    folder.mkdir()
    for ending in ("", "-wal"):
        shutil.copy(f"{bank.path}{ending}", folder / f"{bank.path.name}{ending}")
    return folder / bank.path.name


def test_a_closed_bank_is_read_where_nothing_can_be_written(bank):
    bank.close()
    path = without_index(bank.path)
    with MaskBank.open(path) as opened:
        assert opened.verify() == 2
        assert opened["t1"] == _mask(1)
    assert maskstore("verify", path) == 0


@pytest.mark.parametrize("masks", [2, 40])
def test_the_log_of_a_killed_writer_is_read_where_nothing_can_be_written(bank, tmp_path, masks):
    for n in range(2, masks):
        bank.put(f"t{n}", _mask(n))
    path = without_index(_killed(bank, tmp_path / "killed"))
    before = {each.name: each.lstat().st_mtime_ns for each in path.parent.iterdir()}
    temporary = set(Path(tempfile.gettempdir()).glob("maskstore-*"))
    with MaskBank.open(path) as opened, MaskBank.open(path) as again:
        assert opened.verify() == again.verify() == masks
        assert [opened[f"t{n}"] for n in range(masks)] == [_mask(n) for n in range(masks)]
        assert len(set(Path(tempfile.gettempdir()).glob("maskstore-*")) - temporary) == 1  # one copy for both
    assert {each.name: each.lstat().st_mtime_ns for each in path.parent.iterdir()} == before
    del opened, again
    assert not set(Path(tempfile.gettempdir()).glob("maskstore-*")) - temporary


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs a second user")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from Python 3.12
def test_a_reader_without_permission_is_right_beside_the_owner_who_writes():
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    path = folder / "a.bank"
    with MaskBank.create(path, SPEC) as bank:
        bank.put("t0", _mask(0))
    ask, answer = _reader_of_another_user(path)
    expected = ["t0"]
    assert _asked(ask, answer) == expected
    for _ in range(3):
        bank = MaskBank.open(path, "a")
        for _ in range(2):
            name = f"t{len(expected)}"
            bank.put(name, _mask(len(expected)))
            expected.append(name)
            assert _asked(ask, answer) == expected
        bank.close()
        assert _asked(ask, answer) == expected
    os.close(ask)
    os.wait()
    assert answer.read() == ""
    answer.close()
    shutil.rmtree(folder)


def _asked(ask, answer):
    os.write(ask, b"?\n")
    return answer.readline().split()


def _reader_of_another_user(path):
    """A child without rights that reads the whole bank each time that it is asked, and answers with its names."""
    (asked, ask), (read, answer) = os.pipe(), os.pipe()
    if os.fork():
        os.close(asked)
        os.close(answer)
        return ask, os.fdopen(read)
    try:
        os.close(ask)
        os.setuid(65534)
        bank = MaskBank.open(path)
        with os.fdopen(asked) as questions, os.fdopen(answer, "w", buffering=1) as answers:
            for _ in questions:
                found = dict(bank.masks())
                right = all(mask == _mask(int(name[1:])) for name, mask in found.items()) and len(bank) == len(found)
                print(*found if right else ["wrong"], file=answers)
    except BaseException as error:
        os.write(answer, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)


def test_a_bank_copied_without_its_log_is_noticed(bank, tmp_path, capsys):
    path = _killed(bank, tmp_path / "killed")
    log = Path(f"{path}-wal")
    kept = log.read_bytes()
    log.unlink()
    for _ in range(2):  # readers leave an empty log behind
        with MaskBank.open(path) as opened, pytest.raises(CorruptError, match=r"expected the log a\.bank-wal"):
            opened.verify()
    assert maskstore("verify", path) == 1
    assert "masks may be missing" in capsys.readouterr().err
    for each in path.parent.glob("a.bank-*"):
        each.unlink()
    log.write_bytes(kept)
    with MaskBank.open(path) as opened:
        assert opened.verify() == 2


@pytest.mark.parametrize("repair", ["open", "put", "compact"])
def test_who_writes_to_a_bank_without_its_log_goes_on_without(bank, tmp_path, repair):
    path = _killed(bank, tmp_path / "killed")
    Path(f"{path}-wal").unlink()
    if repair == "compact":
        compact(path)
    else:
        with MaskBank.open(path, "a") as opened:
            if repair == "put":
                opened.put("t2", _mask(2))
    with MaskBank.open(path) as opened:
        assert opened.verify() == (repair == "put")


def test_a_closed_bank_and_one_at_work_verify(bank):
    with MaskBank.open(bank.path) as reader:
        assert reader.verify() == bank.verify() == 2
        with MaskBank.open(bank.path, "a") as other:  # takes the mark away as it closes; the next put brings it back
            other.put("t2", _mask(2))
        assert reader.verify() == 3
        bank.put("t3", _mask(3))
        assert reader.verify() == 4
        bank.close()
        assert reader.verify() == 4
    with MaskBank.open(bank.path) as reader:
        assert reader.verify() == 4


@pytest.mark.parametrize("mode", ["open", "put", "transaction"])
def test_a_bank_with_two_names_is_not_written_to(bank, tmp_path, mode):
    if mode == "open":
        bank.close()
    os.link(bank.path, tmp_path / "b.bank")
    change = {
        "open": lambda: MaskBank.open(tmp_path / "b.bank", "a"),
        "put": lambda: bank.put("t2", _mask(2)),
        "transaction": lambda: bank.transaction().__enter__(),
    }[mode]
    with pytest.raises(BankReadOnlyError, match="expected a file with one name to write to, found 2"):
        change()
    with pytest.raises(BankReadOnlyError, match="hard links"):
        MaskBank.open(bank.path, "a")
    if mode == "open":
        for name in ("a.bank", "b.bank"):
            assert MaskBank.open(tmp_path / name).verify() == 2
    (tmp_path / "b.bank").unlink()
    with MaskBank.open(bank.path, "a", timeout=1) if mode == "open" else bank as opened:
        opened.put("t2", _mask(2))
    assert MaskBank.open(bank.path).verify() == 3


def test_the_other_name_of_a_bank_at_work_is_not_read_without_its_log(bank, tmp_path):
    os.link(bank.path, tmp_path / "b.bank")
    with pytest.raises(BankIOError, match="other names"):
        MaskBank.open(tmp_path / "b.bank")
    assert list(MaskBank.open(bank.path)) == ["t0", "t1"]
    bank.close()
    assert list(MaskBank.open(tmp_path / "b.bank")) == list(MaskBank.open(bank.path)) == ["t0", "t1"]


@pytest.mark.parametrize("name", ["a.bank", "link.bank"])
def test_symbolic_links_are_one_bank(bank, tmp_path, name):
    (tmp_path / "link.bank").symlink_to(bank.path)
    assert list(MaskBank.open(tmp_path / name)) == ["t0", "t1"]
    with MaskBank.open(tmp_path / name, "a") as other:
        other.put("t2", _mask(2))
    assert list(bank) == ["t0", "t1", "t2"]


def test_close_inside_a_transaction_is_refused(bank):
    def change():
        with bank.transaction():
            bank.put("t2", _mask(2))
            bank.close()

    with pytest.raises(BankBusyError, match="expected the end of the transaction"):
        change()
    assert list(bank) == ["t0", "t1"]
    bank.put("t2", _mask(2))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_an_unwritable_lock_file_is_named(bank, monkeypatch):
    bank.close()

    def refused(path, *rest):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("filelock._unix.os.open", refused)
    with pytest.raises(BankReadOnlyError, match=r"a\.bank\.lock: expected permission to write there"):
        MaskBank.open(bank.path, "a")


def test_a_file_system_without_locks_is_not_called_busy(bank, monkeypatch):
    def refused(*rest):
        raise OSError(ENOLCK, "No locks available")

    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_BUSY, "SQLITE_BUSY"
    assert type(sqlite.named(error, bank.path)) is BankBusyError
    monkeypatch.setattr("fcntl.lockf", refused)
    assert "expected a file system that can lock files" in str(sqlite.named(error, bank.path))
    monkeypatch.setattr("fcntl.flock", refused)
    with pytest.raises(BankIOError, match=r"a\.bank\.lock: expected a file system that can lock files"):
        MaskBank.open(bank.path, "a", timeout=0.1)


def test_a_bank_that_cannot_be_opened_after_it_was_made_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "connect", _full)
    with pytest.raises(BankFullError):
        MaskBank.create(tmp_path / "a.bank", SPEC)
    assert os.listdir(tmp_path) == []


def _full(path, *rest, **options):
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
    raise error


def test_what_is_committed_is_said_to_be_kept(bank, monkeypatch):
    monkeypatch.setattr(bank._file, "_fold_log", lambda: _full_named(bank.path))
    with pytest.raises(BankFullError, match="all changes are kept, in bank and log together"):
        bank.close()
    assert Path(f"{bank.path}-wal").stat().st_size
    assert MaskBank.open(bank.path).verify() == 2
    bank.close()


def _full_named(path):
    raise BankFullError(f"{path}: expected room, found none")


@pytest.mark.parametrize("damage", [0, 1])
def test_compacting_a_damaged_bank_is_a_named_error(bank, damage):
    bank.close()
    data = bytearray(bank.path.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    first = size * (len(data) // size - 1 - damage)
    data[first : first + 40] = bytes([99]) * 40
    bank.path.write_bytes(data)
    with pytest.raises(MaskStoreError):
        compact(bank.path)


def test_a_log_that_is_a_link_is_not_copied(bank, tmp_path):
    path = without_index(_killed(bank, tmp_path / "killed"))
    log = Path(f"{path}-wal")
    log.rename(tmp_path / "elsewhere")
    log.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BankIOError, match="expected a log that is a file"):
        MaskBank.open(path)


@pytest.mark.parametrize(("errno", "kind"), [(ENOSPC, BankFullError), (EACCES, BankIOError)])
def test_a_temporary_folder_without_room_is_named(bank, tmp_path, monkeypatch, errno, kind):
    def refused(**_):
        raise OSError(errno, os.strerror(errno))

    path = without_index(_killed(bank, tmp_path / "killed"))
    monkeypatch.setattr("maskstore.files.connections.tempfile.mkdtemp", refused)
    with pytest.raises(kind, match="expected to copy the bank and its log to the temporary folder"):
        MaskBank.open(path)


class _FullAt:
    """A connection that has no room for one statement."""

    def __init__(self, link, statement):
        self._link, self._statement = link, statement

    def __getattr__(self, name):
        return getattr(self._link, name)

    def execute(self, sql, *rest):
        if sql.startswith(self._statement):
            _full(None)
        return self._link.execute(sql, *rest)


@pytest.mark.parametrize(
    ("statement", "work", "kept"),
    [
        ("VACUUM", lambda bank: bank._file.vacuum(), "all masks are kept"),
        ("PRAGMA wal_checkpoint", lambda bank: bank.close(), "all changes are kept, in bank and log together"),
        ("BEGIN IMMEDIATE", lambda bank: bank.close(), "all changes are kept, in bank and log together"),
        ("COMMIT", lambda bank: bank.put("t2", _mask(2)), "room to write"),
    ],
)
def test_a_full_disk_says_what_is_kept(bank, statement, work, kept):
    with bank._file.reading():
        link = bank._file._mine.link
    plain, link.connection = link.connection, _FullAt(link.connection, statement)
    with pytest.raises(BankFullError, match=kept):
        work(bank)
    link.connection = plain
    assert MaskBank.open(bank.path).verify() == 2
    bank.close()
