"""Connections to SQLite files that stay right when a file is opened twice, when a process forks, and when its log goes.

POSIX drops all locks that a process holds on a file as soon as the process closes any descriptor of that file. SQLite
knows this, and puts such a close off; nobody else does. So nothing in this package closes such a file: whoever may meet
one asks SQLite first (`is_database`), or keeps the file open (`maskstore.files.regular`). Whoever uses a `Link` looks
before and after whether the files are still those that were opened. `docs/design.md`, "The bank is an SQLite file", has
the argument.
"""

import os
import shutil
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from errno import ENOSPC
from pathlib import Path

from maskstore.errors import BankBusyError, BankFullError, BankIOError, BankThreadError, one_line

Stamp = tuple[int, ...]
Connect = Callable[[], sqlite3.Connection]

_FORK_TIMEOUT = 10.0  # how long a fork waits for other threads that are in the middle of a read
_TRIALS = 8
_SETTLED = 1.0  # seconds after which a change of a file surely shows in its time of change

_GATE = threading.RLock()
"""Held while a connection is made, while all of one file are closed, and during a fork."""
_LINKS: "weakref.WeakSet[Link]" = weakref.WeakSet()
"""The open links of this process."""
_USED_BY_PARENT: list[sqlite3.Connection] = []
"""Connections that were in use when this process was forked: closing them here would harm the parent."""
_CLOSED_TO_CHILD: set[tuple[int, int]] = set()
"""The files of those. SQLite believes that this process holds locks on them, which only the parent has."""
_COPIES: "weakref.WeakValueDictionary[Stamp, Copy]" = weakref.WeakValueDictionary()
_HELD: list["Link"] = []
"""The links whose locks the thread that forks holds."""


def is_database(path: Path) -> bool:
    """Whether SQLite takes a file for one of its own; SQLite itself is asked, so that no lock on the file is lost."""
    with _GATE:
        try:
            with closing(connect_still(path)) as link:
                link.execute("PRAGMA schema_version")
        except sqlite3.DatabaseError as error:
            return error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN)
    return path.stat().st_size > 1  # an empty file may become a database, and SQLite takes one byte for none


def is_known(path: Path) -> bool:
    """Whether this process has or had a `Link` to a file, which somebody still refers to."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    with _GATE:
        return any(link.file == (found.st_dev, found.st_ino) for link in _LINKS)


@contextmanager
def no_fork() -> Iterator[None]:
    """No fork happens meanwhile: for connections that are no `Link`."""
    with _GATE:
        yield


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file; of an SQLite database, which must not be opened, none."""
    if is_database(path):
        return b""
    with path.open("rb") as file:
        return file.read(count)


def connect_still(path: Path) -> sqlite3.Connection:
    """A connection that reads a file as it lies there: without locks, log and journal."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def still_stamp(path: Path) -> Stamp:
    """What changes when anybody writes to a database or its log; not what opening them does."""
    file = path.stat()
    stamp: Stamp = (file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns)
    with suppress(FileNotFoundError):
        log = os.stat(f"{path}-wal")
        if log.st_size:
            # SQLite gives a log its owner anew when it opens it, and so changes its st_ctime
            stamp += (log.st_ino, log.st_size, log.st_mtime_ns)
    return stamp


def replaced(path: Path) -> BankBusyError:
    """For files that went while they were used: the same may be tried again."""
    busy = BankBusyError(
        f"{path}: expected the bank and its log to stay while they were used, found that another program "
        f"replaced one: try again"
    )
    busy.again = True
    return busy


class Copy:
    """A copy of a database and its log in a temporary folder, which goes when nobody uses the copy any more."""

    def __init__(self, path: Path) -> None:
        log = Path(f"{path}-wal")
        if log.is_symlink():  # nor does SQLite follow it
            raise BankIOError(f"{path}: expected a log that is a file, found the link {log.name}")
        folder = Path(tempfile.mkdtemp(prefix="maskstore-"))
        weakref.finalize(self, _remove, folder, os.getpid())
        self.path = folder / path.name
        with closing(connect_still(path)) as source, closing(sqlite3.connect(self.path)) as target:
            source.backup(target)
        shutil.copyfile(log, f"{self.path}-wal")


def copy_with_log(path: Path) -> Copy:
    """A copy of a database and its log as they are now; one for all who want it. BankFullError if it has no room."""
    with _GATE:
        for _ in range(_TRIALS):
            stamp = still_stamp(path)
            if stamp in _COPIES:
                return _COPIES[stamp]
            try:
                copy = Copy(path)
            except (OSError, sqlite3.Error) as error:
                full = (
                    getattr(error, "errno", 0) == ENOSPC or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
                )
                raise (BankFullError if full else BankIOError)(
                    f"{path}: expected to copy the bank and its log to the temporary folder, which the variable TMPDIR "
                    f"names, found: {one_line(error)}"
                ) from error
            if still_stamp(path) == stamp:
                _COPIES[stamp] = copy
                return copy
    raise BankBusyError(f"{path}: expected a bank that stays while it is copied, found that it changes: try again")


def _remove(folder: Path, process: int) -> None:
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


class Link:
    """A connection of one thread to one file. Who uses it holds `lock` and is counted in `uses`.

    A link that writes has a second connection, a guard that only reads. As long as the guard is open, SQLite does not
    fold the log in and delete it when the first one is closed; a guard itself cannot do so. So `close` leaves the log
    where it is, and that also holds for the log of a file that was put in this one's place meanwhile.
    """

    def __init__(
        self,
        path: Path,
        connect: Connect,
        *,
        guard: Connect | None = None,
        look: Callable[[], tuple[int, ...]] = tuple,
        stamp: Stamp = (),
        needs: Copy | None = None,
    ) -> None:
        """Open a file.

        Args:
            path: The file.
            connect: Makes the connection.
            guard: Makes the guard of a link that writes.
            look: Tells where the file, its log and the log's index lie: while it says the same, they are those that
                were opened.
            stamp: For a file that is read as it lies there, its `still_stamp`.
            needs: The copy that is opened in the place of the file.
        """
        self.closed = True  # until it is open
        self.lock = threading.RLock()
        self.uses = 0
        self.stamp, self.look = stamp, look
        self.seen: tuple[int, ...] = ()
        """What `look` gave when it was opened."""
        self._process, self._path, self._needs = os.getpid(), path, needs
        with _GATE:
            found = path.stat()
            self.file = (found.st_dev, found.st_ino)
            if self.file in _CLOSED_TO_CHILD:
                raise BankThreadError(
                    f"{path}: expected no transaction to be open when this process was forked, found one: "
                    f"start processes outside of transactions"
                )
            fellows = [] if stamp else self._fellows()
            for fellow in fellows:
                if not fellow.closed and fellow.look() != fellow.seen:
                    fellow.close_all()
            self.guard: sqlite3.Connection | None = None
            try:
                self.connection = connect()
                if guard is not None:
                    self.guard = guard()
                    self.guard.execute("SELECT 1 FROM sqlite_schema").fetchone()  # takes its lock, and keeps it
                self.seen = look()
                self._check_fellows(fellows, None)
            except BaseException as error:
                self._close_connections()
                if isinstance(error, Exception):
                    self._check_fellows(fellows, error)
                raise
            self.closed = False
            self._settled = needs is not None or time.time() - found.st_mtime > _SETTLED
            _LINKS.add(self)

    def old(self) -> bool:
        """Whether what was read from a file that lies still may be old by now."""
        return not self._settled or not self.still()

    def _fellows(self) -> list["Link"]:
        """The open links of this process to this file, whose connections share what SQLite knows of its log."""
        return [link for link in _LINKS if link.file == self.file and not link.closed and not link.stamp]

    def _check_fellows(self, fellows: list["Link"], error: BaseException | None) -> None:
        """BankBusyError if a log was replaced while it was opened: a connection would take the old index for it."""
        if any(not fellow.closed and fellow.look() != fellow.seen for fellow in fellows):
            raise replaced(self._path) from error

    def still(self) -> bool:
        """Whether nobody wrote to a file that was opened as one that lies still."""
        return still_stamp(self._path) == self.stamp

    def busy(self) -> bool:
        """Whether it must not be closed: this thread uses it, or a transaction that writes is open."""
        return self.uses > 0 or (self.guard is not None and self.connection.in_transaction)

    def close(self, *, fold: bool = False) -> None:
        """Close; with `fold`, SQLite may fold in and delete the log if this is the last connection to the file."""
        if self._process == os.getpid():
            with self.lock:
                if fold and self.guard is not None:
                    self.guard.close()
                self._close_connections()

    def close_all(self) -> None:
        """Close every link of this process to this file; BankBusyError if one is in use.

        All connections of a process to one file share what SQLite knows of its log. A new one would share it too.
        """
        with _GATE:
            for link in [link for link in _LINKS if link.file == self.file and not link.closed]:
                free = link.lock.acquire(timeout=_FORK_TIMEOUT)
                try:
                    if not free or link.busy():
                        raise BankBusyError(
                            f"{self._path}: expected nobody to use the bank while it is opened anew, since another "
                            f"program replaced its log, found that it is used: try again"
                        )
                    link.close()
                finally:
                    if free:
                        link.lock.release()

    def _close_connections(self) -> None:
        self.closed = True
        if hasattr(self, "connection"):
            self.connection.close()
        if self.guard is not None:
            self.guard.close()
        self._needs = None

    def _leave_to_parent(self) -> None:
        """In a child: keep the connections for ever, and the file closed to this process."""
        self.closed = True
        _USED_BY_PARENT.extend(each for each in (self.connection, self.guard) if each is not None)
        _CLOSED_TO_CHILD.add(self.file)

    def __del__(self) -> None:
        if not self.closed:
            with suppress(sqlite3.Error):
                if self._process == os.getpid():
                    self._close_connections()
                else:
                    self._leave_to_parent()


def _before_fork() -> None:
    """Close what is not in use: a child with an open connection lacks the locks that SQLite believes it has."""
    _GATE.acquire()
    for link in [link for link in _LINKS if not link.closed]:
        if link.lock.acquire(timeout=_FORK_TIMEOUT):
            _HELD.append(link)
            if not link.busy():
                link.close()


def _after_fork_in_parent() -> None:
    while _HELD:
        _HELD.pop().lock.release()
    _GATE.release()


def _after_fork_in_child() -> None:
    for link in [link for link in _LINKS if not link.closed]:
        link._leave_to_parent()
    _after_fork_in_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
