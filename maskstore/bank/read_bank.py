"""`ReadBank`: what a bank's file says, which `MaskBank` also writes."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from maskstore.bank import coding, sqlite
from maskstore.bank.head import HAS_MARK
from maskstore.bank.open_file import BankFile
from maskstore.bank.record import MaskInfo, Record, info_of
from maskstore.bank.rows import Rows
from maskstore.bank.source import MaskSource
from maskstore.errors import CorruptError, TaskNotFoundError
from maskstore.files import is_name, nearest

T = TypeVar("T")
_BATCH = 64  # records read from the file at a time while scanning


class ReadBank(MaskSource):
    """The reading half of a `MaskBank`."""

    _file: BankFile
    _rows: Rows

    @property
    def path(self) -> Path:
        """Where the bank lies."""
        return self._file.path

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._file.writable

    def stamp(self) -> str:
        """A text that changes whenever a mask is put, replaced, recoded or removed; no mask is read for it."""
        return self._file.read(self._rows.stamp)

    def checksums(self) -> dict[str, bytes]:
        """A checksum for each name, which differs once a mask was replaced; no mask is read for it."""
        return self._file.read(self._rows.checksums)

    def __len__(self) -> int:
        return self._file.read(self._rows.count)

    def __iter__(self) -> Iterator[str]:
        """Task names in insertion order."""
        return iter([name for _, name in self._file.read(self._rows.listing)])

    def info(self, name: str) -> MaskInfo:
        """Metadata, codec, prior and sizes of a mask, for listings; its checksum is checked, and nothing decoded."""
        self._check_known(name)
        row = self._file.read(lambda link: self._rows.find_to_tell(link, name))
        if row is None:
            raise self._missing(name)
        return info_of(row)

    def infos(self) -> list[MaskInfo]:
        """`info` of all masks, in insertion order."""
        self._file.read(self._rows.check_users)
        return [info_of(row) for row in self.records()]

    def record(self, name: str) -> Record:
        """The stored row of a mask, its checksum checked."""
        return self._of_record(name, lambda row: row, unread=False)

    def _of_record(self, name: str, work: Callable[[Record], T], *, unread: bool = True) -> T:
        def read(link: sqlite3.Connection) -> T:
            row = self._rows.find(link, name, unread=unread)
            if row is None:
                raise self._missing(name)
            return work(row)

        self._check_known(name)
        return self._file.read(read)

    def records(self) -> Iterator[Record]:
        """The stored rows of the masks that are there when the first is asked for, in order, checksums checked.

        They are read in batches, and others may write meanwhile. A mask that is removed meanwhile may be left out, one
        that is replaced may come as it is then; one that is added does not come.
        """
        wanted = self._file.read(self._rows.listing_with_room)
        while wanted:
            rows, done = self._file.read(lambda link: self._rows.some(link, wanted[:_BATCH]))
            del wanted[:done]
            yield from rows

    def _check_file(self) -> None:
        def check(link: sqlite3.Connection) -> list[Record]:
            _check_size(self._file.path, link)
            _check_log(self._file.path, link)
            return self._rows.checked_snapshots(link)

        self._file.read_head()
        coding.check_contents(self._file.read(check), self.spec, self.limit)

    def _check_known(self, name: str) -> None:
        """TaskNotFoundError for what cannot be a name, before SQLite is asked about it."""
        if not is_name(name):
            raise self._missing(name)

    def _missing(self, name: str) -> TaskNotFoundError:
        found = f"expected one of {len(self)} tasks in {self._file.path}{nearest(str(name), self)}"
        return TaskNotFoundError(f"task {name!r}: {found}")


def _check_size(path: Path, link: sqlite3.Connection) -> None:
    """CorruptError if the file is longer or shorter than its pages, once no log holds some of them."""
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        return
    pages, size = link.execute("SELECT * FROM pragma_page_count, pragma_page_size").fetchone()
    found = path.stat().st_size
    if found != pages * size:
        raise CorruptError(f"{path}: expected {pages * size} bytes in pages, found {found}")


def _check_log(path: Path, link: sqlite3.Connection) -> None:
    """CorruptError if a writer did not close the bank and the log that it left is not there."""
    log = sqlite.log_of(path)
    if link.execute(HAS_MARK).fetchone() and not sqlite.has_content(log):
        raise CorruptError(
            f"{path}: expected the log {log.name} of a writer that did not close the bank, found none: masks "
            f"may be missing (copy the log too, or write to the bank to go on without)"
        )
