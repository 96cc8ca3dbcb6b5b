"""How a bank file is made and opened by SQLite: settings, schema, and what its errors are called.

`docs/format.md`, "The file", is normative for the ids, the schema and the settings.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from maskstore import errors
from maskstore.bank.head import HAS_MARK
from maskstore.files import (
    Link,
    bound_statements,
    check_local,
    connect_still,
    copy_with_log,
    first_bytes,
    interrupted,
    is_database,
    is_known,
    lock_fault,
    name_bounds,
    named_os_error,
    no_fork,
    replacing,
    still_stamp,
    taken,
)

APPLICATION_ID = 0x4D534B42  # "MSKB"
FORMAT_VERSION = 1
_HEADER_BYTES = 100
_NORMAL = 1  # of `PRAGMA synchronous`: checkpoints are synced, commits are not
_SHARD_MAGIC = b"MSKSHARD"
# In as few words as it can be said, so that it fits into the first page of the smallest page size; what a constraint
# would say, a reader has to check all the same.
SCHEMA = (
    "CREATE TABLE head(key TEXT,value TEXT)STRICT",
    "CREATE TABLE masks(id INTEGER PRIMARY KEY,name TEXT UNIQUE,about BLOB,checksum BLOB,start INT,extras INT,data INT,"
    "used INT,bases BLOB)STRICT",
    "CREATE TABLE chunks(start INTEGER PRIMARY KEY,dead INT,data BLOB)STRICT",
)


_ERRORS: dict[int, tuple[type[errors.MaskStoreError], str]] = {
    sqlite3.SQLITE_CORRUPT: (errors.CorruptError, "an intact bank"),
    sqlite3.SQLITE_CONSTRAINT: (errors.CorruptError, "rows that fit together"),  # our statements break no constraint
    sqlite3.SQLITE_TOOBIG: (errors.CorruptError, "values of possible lengths"),  # what is written was measured before
    sqlite3.SQLITE_NOTADB: (errors.NotABankError, "a mask bank"),
    sqlite3.SQLITE_FULL: (errors.BankFullError, "room to write on the disk and below the file's size limit"),
    sqlite3.SQLITE_BUSY: (errors.BankBusyError, "the bank to be free"),
    sqlite3.SQLITE_LOCKED: (errors.BankBusyError, "the bank to be free"),
    sqlite3.SQLITE_PROTOCOL: (errors.BankBusyError, "the bank to be free"),
    sqlite3.SQLITE_SCHEMA: (errors.BankBusyError, "tables that nobody else changes"),
    sqlite3.SQLITE_READONLY: (errors.BankReadOnlyError, "a bank that can be written"),
    sqlite3.SQLITE_READONLY_DBMOVED: (errors.BankIOError, "the file that was opened to stay where it is"),
    sqlite3.SQLITE_PERM: (errors.BankReadOnlyError, "permission for the bank and its folder"),
    sqlite3.SQLITE_IOERR_SHMSIZE: (errors.BankFullError, "room for the index of the log on the disk"),
    sqlite3.SQLITE_IOERR: (errors.BankIOError, "the system to read or write the bank"),
    sqlite3.SQLITE_CANTOPEN: (errors.BankIOError, "the system to open the bank and its log"),
    sqlite3.SQLITE_NOLFS: (errors.BankIOError, "a system that can hold files of this size"),
}
"""What SQLite's result codes are called, and what was expected. A code that is not here, such as that of a typo in a
statement, is an error in this package and says nothing about the file."""


def named(error: Exception, path: Path) -> BaseException | None:
    """The named error for one of SQLite's or of the system's about a bank; None for an error in this package."""
    if isinstance(error, OSError):
        return named_os_error(error, path)
    if isinstance(error, UnicodeDecodeError):  # SQLite quotes damaged text in its messages, the driver decodes those
        return errors.CorruptError(f"{path}: expected an intact bank, found damaged text in it")
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_INTERRUPT:
        return interrupted(path)
    kind, expected = _ERRORS.get(code) or _ERRORS.get(code & 0xFF) or (None, "")
    if kind is None:
        return None
    if kind is errors.BankBusyError and (fault := lock_fault(path.parent)):
        return errors.BankIOError(f"{path}: expected a file system that can lock files, found: {fault}")
    return kind(f"{path}: expected {expected}, found: {error} ({getattr(error, 'sqlite_errorname', '')})")


def create_file(path: Path, page_size: int, head: dict[str, str]) -> None:
    """Create an empty bank at `path`, whole or not at all; BankExistsError if anything is there already.

    A log that a killed writer left there is such a thing: SQLite would replay it into the new file.
    """
    check_local(path)
    clear_side_files(path)
    with replacing(path, overwrite=False, remedy="") as scratch, no_fork():
        connection = sqlite3.connect(scratch, isolation_level=None)
        try:
            for pragma in (f"page_size={page_size}", "journal_mode=MEMORY", "synchronous=FULL"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={FORMAT_VERSION}")
            for statement in SCHEMA:
                connection.execute(statement)
            connection.executemany("INSERT INTO head VALUES(?,?)", head.items())
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()


def remove_new(path: Path, made: os.stat_result) -> None:
    """Remove an empty bank that could be made but not opened, unless somebody else writes to it already."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.lock", timeout=0)
    with suppress(OSError, Timeout), lock:
        found = path.stat()
        if (found.st_dev, found.st_ino, found.st_size) != (made.st_dev, made.st_ino, made.st_size):
            return
        if not has_content(log_of(path)):
            for each in (path, *side_files(path), Path(lock.lock_file)):
                each.unlink(missing_ok=True)


def checked_page_size(size: int | None, bits: int) -> int:
    """The bytes of a page that a caller wants, or that suit masks of so many bits; SpecError where SQLite has none."""
    if size is None:
        return _fitting_page_size(bits)
    if size not in [1 << n for n in range(9, 17)]:
        raise errors.SpecError(f"page size: expected a power of two from 512 to 65536, found {size}")
    return size


def _fitting_page_size(bits: int) -> int:
    """The largest page with which the file of a mask of so many bits, one in a hundred of them set, has little slack.

    A file has about six pages that are not full. They may take 3 KiB and two hundredths of such a mask, or 6 KiB and
    one. Beyond 16 KiB larger pages are no faster.
    """
    hundredth = bits * 0.08 / 8 / 100
    room = min(3072 + 2 * hundredth, 6144 + hundredth)
    return next((size for size in (16384, 8192, 4096, 2048, 1024) if 6 * size <= room), 512)


@contextmanager
def synced_by_checkpoint(link: sqlite3.Connection) -> Iterator[None]:
    """Commits inside are not synced: the checkpoint that follows syncs the log first, and any later commit does too.

    For the mark of a writer alone: whether it is there says nothing of a mask.
    """
    (level,) = link.execute("PRAGMA synchronous").fetchone()
    link.execute(f"PRAGMA synchronous={min(level, _NORMAL)}")
    try:
        yield
    finally:
        link.execute(f"PRAGMA synchronous={level}")


@contextmanager
def committing(link: sqlite3.Connection) -> Iterator[None]:
    link.execute("BEGIN IMMEDIATE")
    try:
        yield
        link.execute("COMMIT")
    except BaseException:
        abandon(link)
        raise


def abandon(link: sqlite3.Connection) -> None:
    """End a transaction without its changes; also one that an interrupt (Ctrl-C) left open between two statements."""
    with suppress(sqlite3.ProgrammingError):  # closed meanwhile, and so rolled back
        if link.in_transaction:
            link.execute("ROLLBACK")


def abandon_part(link: sqlite3.Connection, name: str) -> None:
    """Undo what was changed since the last savepoint of that name, unless SQLite has undone the whole transaction.

    After some errors, a full disk among them, it has: then there is neither a transaction nor a savepoint.
    """
    with suppress(sqlite3.ProgrammingError):  # closed meanwhile, and so rolled back
        if link.in_transaction:
            link.execute(f"ROLLBACK TO {name}")
            link.execute(f"RELEASE {name}")


def undone(path: Path) -> errors.BankIOError:
    """For a transaction that SQLite has undone by itself: a further change would be stored without the others."""
    return errors.BankIOError(
        f"{path}: expected a transaction without errors, found one undone after an error (a full disk?): none of its "
        f"changes was kept, leave the block and begin again"
    )


def clear_side_files(path: Path) -> None:
    """Remove what readers of an earlier bank left behind; BankExistsError for a bank, or for a log with content."""
    if os.path.lexists(path):
        raise taken(path)
    for beside in side_files(path):
        if beside.exists() and beside.stat().st_size and not beside.name.endswith("-shm"):
            raise errors.BankExistsError(
                f"{path}: expected no trace of another bank, found the log {beside.name} of a killed writer: "
                f"put its bank back, or delete the log too"
            )
    for beside in side_files(path):
        beside.unlink(missing_ok=True)


def side_files(path: Path) -> list[Path]:
    """The files that SQLite may keep beside a bank; without them a bank that was not closed is not whole."""
    return [path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal")]


def connect(
    path: Path, look: Callable[[], tuple[int, ...]], *, writable: bool, timeout: float, immutable: bool = False
) -> Link:
    """Open an existing bank, as `_connect` does. `look`: as of `Link`.

    A process that opens and closes a bank's file by itself loses its locks on it. Another process may then fold its log
    in while this one opens the file anew, which finds pages of two moments. So what looks damaged is opened again as
    long as the file changes, if this process has it open already.
    """
    for _ in range(_TRIALS):
        stamp = still_stamp(path) if is_known(path) else None
        try:
            return _connect(path, look, writable=writable, timeout=timeout, immutable=immutable)
        except (sqlite3.DatabaseError, errors.CorruptError) as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            if stamp is None or code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            time.sleep(_FOLDING)
            if still_stamp(path) == stamp:
                raise
        except errors.BankBusyError as error:
            if not error.again:
                raise
    return _connect(path, look, writable=writable, timeout=timeout, immutable=immutable)


_TRIALS = 20
_FOLDING = 0.05  # seconds in which a log that is being folded in surely changes the file


def _connect(
    path: Path, look: Callable[[], tuple[int, ...]], *, writable: bool, timeout: float, immutable: bool
) -> Link:
    """Open an existing bank; every file that is not one is refused by name before SQLite acts on its content.

    If it is immutable, or where SQLite cannot keep its index of the log beside the bank, such as on read-only media, a
    reader reads the file as it lies there, or a copy of file and log.
    """
    if writable:
        check_place(path)  # what kind of file it is, its caller knows
        if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
            raise errors.BankReadOnlyError(f"{path}: expected permission to write there, found none")
        return Link(path, partial(_shared, path, "rw", timeout), guard=partial(_shared, path, "ro", timeout), look=look)
    check_header(path)
    if not immutable:
        try:
            return Link(path, partial(_shared, path, "ro", timeout), look=look)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _NO_INDEX:
                raise
    stamp = still_stamp(path)
    if not has_content(log_of(path)):
        return Link(path, lambda: _prepared(connect_still(path), path), stamp=stamp)
    copy = copy_with_log(path)
    return Link(path, partial(_shared, copy.path, "ro", timeout), stamp=stamp, needs=copy)


_NO_INDEX = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL}


def _shared(path: Path, mode: str, timeout: float) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    link = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout, check_same_thread=False)
    link = _prepared(link, path)
    if mode == "rw":
        link.execute("PRAGMA journal_mode=WAL")
        link.execute("PRAGMA synchronous=FULL")
    return link


def _prepared(link: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """A connection with our settings, once the file is known to be a bank."""
    try:
        bound_statements(link, path)
        name_bounds(link, path)
        # damaged text must become a failed checksum, not a decoding error in the middle of a query
        link.text_factory = partial(str, encoding="utf-8", errors="replace")
        link.execute("PRAGMA trusted_schema=OFF")
        link.execute("PRAGMA cell_size_check=ON")
        link.execute("PRAGMA mmap_size=0")  # a file truncated under a map would end the process
        _check_identity(link, path)
        _check_names(link, path)
    except BaseException:
        link.close()
        raise
    return link


def log_of(path: Path) -> Path:
    """The write-ahead log of a bank."""
    return path.with_name(path.name + "-wal")


def has_content(log: Path) -> bool:
    """Whether a log has anything in it."""
    return log.exists() and log.stat().st_size > 0


def check_header(path: Path) -> None:
    """As `check_place`, and NotABankError for a file that is not SQLite's."""
    check_place(path)
    if is_database(path) and path.stat().st_size >= _HEADER_BYTES:
        return
    if first_bytes(path, len(_SHARD_MAGIC)) == _SHARD_MAGIC:
        raise errors.NotABankError(f"{path}: expected a mask bank, found a shard (maskstore merge makes a bank of it)")
    size = path.stat().st_size
    raise errors.NotABankError(f"{path}: expected a mask bank, found a file of another kind ({size} bytes)")


def check_file(path: Path, *, writable: bool, immutable: bool) -> None:
    """What is looked at once, when a bank is opened: a writer makes a lock file beside nothing that is no bank."""
    check_place(path)
    if not immutable:
        check_local(path, reading=not writable)
    if writable:
        check_header(path)


def check_place(path: Path) -> None:
    """BankNotFoundError or NotABankError unless there is a file.

    CorruptError if a rollback journal lies beside it. A bank never has one, and SQLite, before it looks at the bank,
    would play it back and delete whatever file the journal names as the one it belongs to.
    """
    if not path.exists():
        found = "a link that leads nowhere" if path.is_symlink() else "no file"
        raise errors.BankNotFoundError(f"{path}: expected a mask bank, found {found}")
    if not path.is_file():
        raise errors.NotABankError(f"{path}: expected a mask bank, found a folder or device")
    journal = path.with_name(path.name + "-journal")
    if os.path.lexists(journal) and (journal.is_symlink() or not journal.is_file() or journal.stat().st_size):
        found = f"{journal.name} (delete it)"
        raise errors.CorruptError(f"{path}: expected no rollback journal beside a bank, found {found}")


def _check_identity(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise errors.NotABankError(f"{path}: expected a mask bank, found an SQLite file of another application")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != FORMAT_VERSION:
        raise errors.FormatVersionError(f"{path}: expected format version 1 to {FORMAT_VERSION}, found {version}")
    try:
        found = connection.execute("SELECT type,sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        raise errors.CorruptError(f"{path}: expected a schema as SQLite writes it, found: {error}") from None
    if tuple(found) != tuple(("table", statement) for statement in SCHEMA):
        raise errors.CorruptError(f"{path}: expected the tables of format version {version}, found others")


def _check_names(link: sqlite3.Connection, path: Path) -> None:
    """BankIOError for a bank with several names whose log lies beside another one."""
    if path.stat().st_nlink > 1 and link.execute(HAS_MARK).fetchone() and not has_content(log_of(path)):
        raise errors.BankIOError(
            f"{path}: expected the log of the writer that is at work, found none beside this name: "
            f"the file has other names (hard links), and the log lies beside the one that it is written under"
        )


def check_pages(connection: sqlite3.Connection) -> None:
    """CorruptError unless SQLite finds every page, free or in use, where it belongs, and index and rows agreeing."""
    for (line,) in connection.execute("PRAGMA integrity_check(1)"):
        if line != "ok":
            found = " ".join(line.removeprefix("*** in database main ***").split())
            raise errors.CorruptError(f"bank's pages: expected an intact bank, found: {found}")
