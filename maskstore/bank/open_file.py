"""`BankFile`: one open bank file: its head, its connections, its transactions and the lock between writers."""

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Self, TypeVar

from maskstore import errors
from maskstore.bank import sqlite
from maskstore.bank.head import HAS_MARK, change_mark, read_head, with_checksum
from maskstore.files import Link, check_wanted, here, replaced, statements

T = TypeVar("T")
_CLOSING_TIMEOUT_MS = 1000  # how long a closing writer waits for readers before it leaves the log for the next one

_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR_GETTEMPPATH)


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


class BankFile:
    """An open bank file. `head` holds the texts stored about the whole bank."""

    def __init__(self, path: Path, *, writable: bool, timeout: float, immutable: bool = False) -> None:
        with named_errors(path):
            # lock and log lie beside the file itself: by any other name it would be opened without them
            path = path.resolve() if path.is_symlink() and path.exists() else path
        self.path = path
        self.writable, self.immutable = writable, immutable
        self.closed = False
        self._timeout = timeout
        self._owner = (os.getpid(), threading.get_ident())
        self._mine = threading.local()  # .link: this thread's Link; it goes when the thread does
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._file: tuple[int, ...] = ()  # device and inode
        self._bytes = 0  # of the file and its log, as last looked at
        self._in_transaction = False
        self._lock: Any = None
        try:
            with named_errors(path):
                sqlite.check_file(path, writable=writable, immutable=immutable)
            if writable:
                from filelock import FileLock

                self._lock = FileLock(f"{path.absolute()}.lock", timeout=timeout)
                with self._locked():
                    self._check_one_name()
                    self.head = self.read_head()
            else:
                self.head = self.read_head()
            self.path = path.absolute()  # a later change of the working folder does not move the bank
        except BaseException:
            self.closed = True
            self._close_links()
            raise

    @classmethod
    def create(cls, path: Path, page_size: int, head: Mapping[str, str], *, timeout: float) -> Self:
        """Make an empty bank file, whole or not at all, and open it for writing."""
        with named_errors(path):
            sqlite.create_file(path, page_size, with_checksum(head))
            made = path.stat()
        try:
            return cls(path, writable=True, timeout=timeout)
        except BaseException:
            sqlite.remove_new(path, made)
            raise

    def close(self) -> None:
        """Close; a writer first folds its write-ahead log into the file. Closing twice is fine.

        BankBusyError inside a transaction. If the log cannot be folded in, the error says that all changes are kept.
        """
        if self.closed:
            return
        if not self.writable or self._owner[0] != os.getpid():
            self.closed = True
            self._close_links()
            return
        self._check_owner()
        if self._in_transaction:
            raise errors.BankBusyError(
                f"{self.path}: expected the end of the transaction before the bank is closed, found it at work"
            )
        with self._locked():
            try:
                with named_errors(self.path):
                    self._fold_log()
            except errors.MaskStoreError as error:
                if not isinstance(error, errors.BankFullError | errors.BankIOError):
                    raise
                raise type(error)(
                    f"{self.path}: expected to fold the log {sqlite.log_of(self.path).name} into the bank, found: "
                    f"{errors.one_line(error.__cause__ or error)}; all changes are kept, in bank and log together"
                ) from error
            finally:
                self.closed = True
                self._close_links()

    def _fold_log(self) -> None:
        if not self._is_there():  # what another file of this name and its log hold is not ours to touch
            return
        with self.reading() as link:
            sqlite.abandon(link)
            with sqlite.synced_by_checkpoint(link):
                with sqlite.committing(link):
                    change_mark(link, at_work=False)
                link.execute(f"PRAGMA busy_timeout={_CLOSING_TIMEOUT_MS}")
                link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for each in list(self._links):
            each.close(fold=self._unchanged(each))

    def read_head(self) -> dict[str, str]:
        """The bank's head, its checksum checked and left out."""
        return self.read(lambda link: read_head(link, self.path))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection, which nobody closes meanwhile; SQLite's errors become ours."""
        with named_errors(self.path):
            if here.ended:
                check_wanted()
            link = self._taken_link()
            try:
                self._watch(link)
                yield link.connection
            except (errors.CorruptError, sqlite3.DatabaseError) as error:
                self._check_unchanged(link, error)
                raise
            else:
                self._check_unchanged(link, None)
            finally:
                link.uses -= 1
                link.lock.release()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection, for several statements that must see the bank at one moment; may be nested."""
        with self.reading() as link:
            if self._in_transaction or getattr(self._mine, "in_snapshot", False):
                yield link
                return
            sqlite.abandon(link)
            self._mine.in_snapshot = True
            try:
                link.execute("BEGIN")
                yield link
            finally:
                self._mine.in_snapshot = False
                sqlite.abandon(link)  # nothing was changed

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` makes of the bank at one moment; made again where the files were replaced meanwhile."""
        for pause in (0.0, 0.001, 0.01, 0.1):
            try:
                with self.snapshot() as link:
                    return work(link)
            except errors.BankBusyError as error:
                if not error.again:
                    raise
            time.sleep(pause)
        with self.snapshot() as link:
            return work(link)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction under the writers' lock; inside another one, a part of it that is stored whole or not at all.

        Only our own statements have their errors named: what the block raises passes as it is, after a rollback.
        """
        self.check_writable()
        process = os.getpid()
        if self._in_transaction:
            with self._inside() as link:
                link.execute("SAVEPOINT part")
            try:
                yield
            except BaseException:
                if process == os.getpid():
                    sqlite.abandon_part(link, "part")
                raise
            with self._inside() as link:
                link.execute("RELEASE part")
            return
        with self._locked():
            self._check_file()
            self._check_one_name()
            with self.reading() as link:
                sqlite.abandon(link)
                self._set_mark(link)
            try:
                with self.reading() as link:
                    link.execute("BEGIN IMMEDIATE")
                self._in_transaction = True
                yield
                with self._inside() as link:
                    link.execute("COMMIT")
            except BaseException:
                if process == os.getpid():  # in a forked child the connection is the parent's
                    sqlite.abandon(link)
                raise
            finally:
                self._in_transaction = False

    @contextmanager
    def _inside(self) -> Iterator[sqlite3.Connection]:
        with self.reading() as link:
            if not link.in_transaction:
                raise sqlite.undone(self.path)
            yield link

    def _set_mark(self, link: sqlite3.Connection) -> None:
        """Say in the file itself that a log belongs to it, before anything is in the log alone.

        A reader that is in the way for a second keeps the mark in the log; a later checkpoint takes it over.
        """
        if link.execute(HAS_MARK).fetchone():
            return
        with sqlite.synced_by_checkpoint(link):
            with sqlite.committing(link):
                changed = change_mark(link, at_work=True)
            if changed:
                link.execute(f"PRAGMA busy_timeout={_CLOSING_TIMEOUT_MS}")
                link.execute("PRAGMA wal_checkpoint(FULL)")
                link.execute(f"PRAGMA busy_timeout={int(1000 * self._timeout)}")

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
            self._set_mark(link)
            try:
                link.execute("VACUUM")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode not in _NO_ROOM:
                    raise
                raise errors.BankFullError(
                    f"{self.path}: expected room for a second copy, beside the bank and in the temporary folder "
                    f"{gettempdir()}, found: {error}; all masks are kept, and the file is as large as it was"
                ) from error

    def check_writable(self) -> None:
        """BankClosedError, BankReadOnlyError or BankThreadError unless this thread may write."""
        if self.closed:
            raise errors.BankClosedError(f"{self.path}: expected an open bank, found it closed")
        if not self.writable:
            raise errors.BankReadOnlyError(
                f'{self.path}: expected a bank opened with mode "a", found it opened for reading'
            )
        self._check_owner()

    def _is_there(self) -> bool:
        try:
            found = self.path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._file

    def _check_file(self) -> None:
        """BankIOError if the file was deleted or replaced: what is written to it then would be lost."""
        if self._file and not self._is_there():
            raise errors.BankIOError(f"{self.path}: expected the file that was opened, found it deleted or replaced")

    def _check_one_name(self) -> None:
        """BankReadOnlyError for a file with other names: its log and its lock would be found under one of them only."""
        names = self.path.stat().st_nlink
        if names > 1:
            raise errors.BankReadOnlyError(
                f"{self.path}: expected a file with one name to write to, found {names} (hard links): write to a copy"
            )

    def _check_owner(self) -> None:
        if (os.getpid(), threading.get_ident()) != self._owner:
            raise errors.BankThreadError(
                f"{self.path}: expected a writing bank to stay in the thread and process that opened it, found another"
            )

    def _taken_link(self) -> Link:
        """This thread's link, in use: nobody else closes it."""
        while True:
            link = self._link()
            link.lock.acquire()
            if not link.closed:  # by a fork, or by whoever opens all links to the file anew
                link.uses += 1
                return link
            link.lock.release()

    def _link(self) -> Link:
        if self.closed:
            raise errors.BankClosedError(f"{self.path}: expected an open bank, found it closed")
        if self.writable:
            self._check_owner()
        link: Link | None = getattr(self._mine, "link", None)
        if link is not None and not link.closed:
            if link.uses or (self._unchanged(link) and not (link.stamp and link.old())):
                return link
            if self._in_transaction:
                raise errors.BankIOError(
                    f"{self.path}: expected the bank's log to stay during a transaction, found it deleted or replaced"
                )
            link.close_all()
        self._check_file()
        link = sqlite.connect(
            self.path, self._inodes, writable=self.writable, timeout=self._timeout, immutable=self.immutable
        )
        self._file = self._file or link.file
        self._mine.link = link
        self._links.add(link)
        return link

    def _watch(self, link: Link) -> None:
        """Give the statements of one use of the file their bounds."""
        size = link.stamp[2] + sum(link.stamp[6:7]) if link.stamp else self._bytes
        if here.ended:
            link.connection.set_progress_handler(*statements.watch_for(size))
        else:  # the same, without a step into another module
            looks = repeat(False, statements.FREE_LOOKS + int(statements.LOOKS_A_BYTE * size))
            link.connection.set_progress_handler(partial(next, looks), statements.LOOK)

    def _unchanged(self, link: Link) -> bool:
        """Whether the files are still those that a link opened.

        SQLite deletes a log when the last connection closes. If this process lost its locks, because the program it
        runs in opened and closed the file itself, another process can take itself for the last.
        """
        return link.still() if link.stamp else self._inodes() == link.seen

    def _inodes(self) -> tuple[int, ...]:
        """Where the file, its log and the log's index lie."""
        found, size = [], 0
        for ending in ("", "-wal", "-shm"):
            try:
                each = os.stat(f"{self.path}{ending}")
                found += [each.st_dev, each.st_ino]
                size += each.st_size
            except OSError:
                found += [0, 0]
        self._bytes = size
        return tuple(found)

    def _check_unchanged(self, link: Link, error: Exception | None) -> None:
        if link.uses == 1 and not link.closed and not self._unchanged(link):
            raise replaced(self.path) from error

    def _close_links(self) -> None:
        for link in list(self._links):
            link.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The sidecar lock that writers hold around every transaction, checkpoint and close."""
        from filelock import Timeout

        lock = self.path.with_name(self.path.name + ".lock")
        with named_errors(lock):
            try:
                self._lock.acquire()
            except Timeout:
                raise errors.BankBusyError(
                    f"{self.path}: expected the bank within {self._timeout:g} s, found another writer holding it"
                ) from None
        process = os.getpid()
        try:
            yield
        finally:
            if process == os.getpid():
                self._lock.release()
