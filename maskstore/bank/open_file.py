"""`BankFile`: one open bank file: its head, its connections, its transactions and the lock between writers."""

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from maskstore import errors
from maskstore.bank import sqlite
from maskstore.bank.head import read_head, with_checksum

_CLOSING_TIMEOUT_MS = 1000  # how long a closing writer waits for readers before it leaves the log for the next one


_INHERITED: list[sqlite3.Connection] = []
"""Connections that came through a fork: closing them here would drop the parent's locks, so they are kept for ever."""


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's and the operating system's errors about a bank into ours."""
    try:
        yield
    except errors.MaskStoreError:
        raise
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        known = sqlite.named(error, path)
        if known is None:
            raise
        raise known from error


class _Link:
    """A connection of one thread. Whoever uses it holds `lock`, so that it is not closed under their hands."""

    def __init__(self, link: sqlite3.Connection) -> None:
        self.connection = link
        self.lock = threading.RLock()
        self.process = os.getpid()

    def close(self) -> None:
        if self.process == os.getpid():
            with self.lock:
                self.connection.close()

    def __del__(self) -> None:
        if self.process == os.getpid():
            self.connection.close()
        else:
            _INHERITED.append(self.connection)


class BankFile:
    """An open bank file. `head` holds the texts stored about the whole bank."""

    def __init__(self, path: Path, *, writable: bool, timeout: float) -> None:
        with named_errors(path):
            # lock and log lie beside the file itself: by any other name it would be opened without them
            path = path.resolve() if path.is_symlink() and path.exists() else path
        self.path = path
        self.writable = writable
        self.closed = False
        self._timeout = timeout
        self._owner = (os.getpid(), threading.get_ident())
        self._mine = threading.local()  # .link: this thread's _Link; it goes when the thread does
        self._links: weakref.WeakSet[_Link] = weakref.WeakSet()
        self._inode = 0
        self._in_transaction = False
        self._lock: Any = None
        try:
            if writable:
                with named_errors(path):
                    sqlite.check_header(path)  # before a lock file is made beside something that is no bank
                from filelock import FileLock

                self._lock = FileLock(f"{path}.lock", timeout=timeout)
                with self._locked():
                    self.head = self.read_head()
                    self._inode = path.stat().st_ino
            else:
                self.head = self.read_head()
        except BaseException:
            self.closed = True
            self._close_links()
            raise

    @classmethod
    def create(cls, path: Path, page_size: int, head: Mapping[str, str], *, timeout: float) -> Self:
        """Make an empty bank file, whole or not at all, and open it for writing."""
        with named_errors(path):
            sqlite.create_file(path, page_size, with_checksum(head))
        return cls(path, writable=True, timeout=timeout)

    def close(self) -> None:
        """Close; a writer first folds its write-ahead log into the file. Closing twice is fine."""
        if self.closed:
            return
        if self.writable and self._owner[0] == os.getpid():
            self._check_owner()
            with self._locked():
                with self.reading() as link:
                    _abandon(link)
                    link.execute(f"PRAGMA busy_timeout={_CLOSING_TIMEOUT_MS}")
                    link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._close_links()
        self.closed = True
        self._close_links()

    def read_head(self) -> dict[str, str]:
        """The bank's head, its checksum checked and left out."""
        with self.reading() as link:
            return read_head(link, self.path)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection, which nobody closes meanwhile; SQLite's errors become ours."""
        with named_errors(self.path):
            link = self._link()
            with link.lock:
                if self.closed:
                    raise errors.BankClosedError(f"{self.path}: expected an open bank, found it closed")
                yield link.connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection, for several statements that must see the bank at one moment."""
        with self.reading() as link:
            if self._in_transaction:
                yield link
                return
            _abandon(link)
            try:
                link.execute("BEGIN")
                yield link
            finally:
                _abandon(link)  # nothing was changed

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction under the writers' lock; inside another one, a part of that one.

        Only our own statements have their errors named: what the block raises passes as it is, after a rollback.
        """
        self.check_writable()
        if self._in_transaction:
            yield
            return
        with self._locked():
            self._check_still_there()
            with self.reading() as link:
                _abandon(link)
            try:
                with self.reading() as link:
                    link.execute("BEGIN IMMEDIATE")
                self._in_transaction = True
                yield
                with self.reading() as link:
                    link.execute("COMMIT")
            except BaseException:
                _abandon(link)
                raise
            finally:
                self._in_transaction = False

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction for statements of our own."""
        with self.transaction(), self.reading() as link:
            yield link

    def vacuum(self) -> None:
        """Rewrite the file without free pages, under the writers' lock; BankBusyError inside a transaction."""
        self.check_writable()
        if self._in_transaction:
            raise errors.BankBusyError(f"{self.path}: expected no transaction at work, found one")
        with self._locked(), self.reading() as link:
            link.execute("VACUUM")

    def check_size(self, link: sqlite3.Connection) -> None:
        """CorruptError if the file is longer or shorter than its pages, once no log holds some of them."""
        log = self.path.with_name(self.path.name + "-wal")
        if log.exists() and log.stat().st_size:
            return
        pages, size = link.execute("SELECT * FROM pragma_page_count, pragma_page_size").fetchone()
        found = self.path.stat().st_size
        if found != pages * size:
            raise errors.CorruptError(f"{self.path}: expected {pages * size} bytes in pages, found {found}")

    def check_writable(self) -> None:
        """BankClosedError, BankReadOnlyError or BankThreadError unless this thread may write."""
        if self.closed:
            raise errors.BankClosedError(f"{self.path}: expected an open bank, found it closed")
        if not self.writable:
            raise errors.BankReadOnlyError(
                f'{self.path}: expected a bank opened with mode "a", found it opened for reading'
            )
        self._check_owner()

    def _check_still_there(self) -> None:
        """BankIOError if the file was deleted or replaced: what is written to it then would be lost."""
        with named_errors(self.path):
            if not self.path.exists() or self.path.stat().st_ino != self._inode:
                raise errors.BankIOError(
                    f"{self.path}: expected the file that was opened, found it deleted or replaced"
                )

    def _check_owner(self) -> None:
        if (os.getpid(), threading.get_ident()) != self._owner:
            raise errors.BankThreadError(
                f"{self.path}: expected a writing bank to stay in the thread and process that opened it, found another"
            )

    def _link(self) -> "_Link":
        if self.closed:
            raise errors.BankClosedError(f"{self.path}: expected an open bank, found it closed")
        if self.writable:
            self._check_owner()
        link: _Link | None = getattr(self._mine, "link", None)
        if link is None or link.process != os.getpid():
            link = _Link(sqlite.connect(self.path, writable=self.writable, timeout=self._timeout))
            self._mine.link = link
            self._links.add(link)
        return link

    def _close_links(self) -> None:
        for link in list(self._links):
            link.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The sidecar lock that writers hold around every transaction, checkpoint and close."""
        from filelock import Timeout

        with named_errors(self.path):
            try:
                self._lock.acquire()
            except Timeout:
                raise errors.BankBusyError(
                    f"{self.path}: expected the bank within {self._timeout:g} s, found another writer holding it"
                ) from None
        try:
            yield
        finally:
            self._lock.release()


def _abandon(link: sqlite3.Connection) -> None:
    """End a transaction without its changes; also one that an interrupt (Ctrl-C) left open between two statements."""
    if link.in_transaction:
        link.execute("ROLLBACK")


def fitting_page_size(bits: int) -> int:
    """About a thirtieth of a mask of so many bits, coded in 0.4 each: then neither slack nor page heads weigh much."""
    coded = bits * 0.4 / 8
    return next((size for size in (512, 1024, 2048, 4096, 8192, 16384, 32768) if coded <= 32 * size), 65536)
