"""The rows of a bank: records in, records out, and the masks that other masks need.

A mask that others refer to (`Reference`, `RunningMean`) has their number in `used`. When it is deleted or replaced, its
row loses its name and stays, as a *snapshot*, until nobody needs it; its bits are not copied or coded anew. A mask that
refers to others cannot be referred to, so there are neither chains nor cycles. Every method wants an open transaction.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

from maskstore.bank import byte_stream, coding
from maskstore.bank.blocks import BlockEncoder, Unread
from maskstore.bank.record import COLUMNS, Base, Record, StoredRow, checked_row, pack_bases, unpack_bases
from maskstore.bank.row_reader import RowReader
from maskstore.bank.sqlite import abandon_part, check_pages
from maskstore.errors import BankBusyError, CorruptError, MaskValueError, TaskExistsError
from maskstore.masks import MaskSpec
from maskstore.priors import Backbone

_MAX_ID = 1 << 61


def taken(name: str) -> TaskExistsError:
    """For a name that a new mask cannot have."""
    return TaskExistsError(f"task {name!r}: expected a new name, found it stored (see `overwrite=True`)")


class Rows(RowReader):
    """Reads and writes the rows of one bank over a connection."""

    def __init__(self, spec: MaskSpec, limit: int | None = None, backbone: Backbone | None = None) -> None:
        super().__init__(spec, limit, backbone)
        self._trusted: tuple[sqlite3.Connection | None, int] = (None, 0)
        self._claimed = 0  # where the rows' bytes ended last
        self._changing = False

    # -- writing ------------------------------------------------------------------------------------------------------

    def trust(self, link: sqlite3.Connection) -> None:
        """CorruptError unless all that a change relies on is sound; otherwise it could take other masks along.

        The pages are looked at once a connection, the rows again after others have changed the file.
        """
        (version,) = link.execute("PRAGMA data_version").fetchone()
        known, then = self._trusted
        if known is link and then == version:
            return
        if known is not link:
            check_pages(link)
        self._claimed = max((row.start + row.extras + row.data for row in self._all(link)), default=0)
        self._trusted = link, version

    @contextmanager
    def _change(self, link: sqlite3.Connection) -> Iterator[None]:
        """One change, whole or not at all, even if the transaction that it is a part of goes on."""
        if self._changing:
            raise BankBusyError("bank: expected one change at a time, found another one while a mask is written (what "
                                "gives the layers of a mask must not change the bank)")  # fmt: skip
        self.trust(link)
        link.execute("SAVEPOINT change")
        self._changing = True
        try:
            yield
        except BaseException:
            abandon_part(link, "change")
            raise
        finally:
            self._changing = False
        link.execute("RELEASE change")

    def insert(
        self, link: sqlite3.Connection, new: Record, *, overwrite: bool, encoder: BlockEncoder | None = None
    ) -> None:
        """Store a record under its name, in the old one's place if there is one, with the masks that it needs.

        `encoder`: what gives the data of a mask in blocks, which are written as they come.
        """
        with self._change(link):
            self._insert(link, new, encoder, overwrite=overwrite)

    def _insert(self, link: sqlite3.Connection, new: Record, encoder: BlockEncoder | None, *, overwrite: bool) -> None:
        found = self._indexed(link, new.name)
        if found is not None and not overwrite:
            raise taken(new.name)
        bases = [self._keep(link, base) for base in new.bases]
        if found is not None:
            moved = self._drop(link, self.known(link, found.id))  # it may be one of those that are kept now
            bases = [moved if id == found.id else id for id in bases]
            id = found.id
        else:
            id = _free_id(link, "max(ifnull(max(id),0),0)+1")
        start, length = self._append(link, chain((new.extras,), _pieces(new) if encoder is None else encoder))
        if encoder is not None:
            data = self._unread(link, start + len(new.extras), length - len(new.extras))
            new = replace(new, codec=encoder.layout.to_json(), data=data)
        new = coding.sealed(new, id)
        about = self._packed(link, new)
        values = (
            id,
            new.name,
            about,
            new.checksum,
            start,
            len(new.extras),
            len(new.data),
            0,
            _packed_bases(new, bases),
        )
        link.execute(f"INSERT INTO masks({COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?)", values)
        if not bases:
            self._adopt(link, new)

    def remove(self, link: sqlite3.Connection, name: str) -> bool:
        """Delete a mask, or make it a snapshot if others need it; whether there was one."""
        with self._change(link):
            found = self._indexed(link, name)
            if found is not None:
                self._drop(link, found)
            return found is not None

    def recode(self, link: sqlite3.Connection, new: Record) -> None:
        """Put other bytes for the same bits into a row, under another codec or prior; the rest of it stays.

        Who refers to it does so as before.
        """
        with self._change(link):
            self._recode(link, new)

    def _recode(self, link: sqlite3.Connection, new: Record) -> None:
        row = self._row(link, new.id)
        if row is None or (row.used and new.bases):
            raise CorruptError(f"{new.what}: expected a row that can be coded anew, found none")
        old = self._record(link, row, {})
        new = replace(old, codec=new.codec, prior=new.prior, data=new.data, bases=new.bases)
        bases = [self._keep(link, base) for base in new.bases]
        start, _ = self._append(link, chain((new.extras,), _pieces(new)))
        new = coding.sealed(new, row.id)
        values = (self._packed(link, new), new.checksum, start, len(new.data), _packed_bases(new, bases), row.id)
        link.execute("UPDATE masks SET about=?,checksum=?,start=?,data=?,bases=? WHERE id=?", values)
        self._release(link, row.start, row.extras + row.data)
        self._let_go(link, row)

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _append(self, link: sqlite3.Connection, pieces: Iterable[bytes]) -> tuple[int, int]:
        """Bytes at the end of the stream, their place and number.

        CorruptError if a row claims places there, whose chunk is lost.
        """
        start, length = byte_stream.append_pieces(link, pieces)
        if start < self._claimed:  # perhaps some of that has gone since
            (end,) = link.execute("SELECT ifnull(max(start+extras+data),0) FROM masks").fetchone()
            if start < end:
                raise CorruptError(f"bank's bytes: expected chunks up to place {end}, found them end at {start}")
        self._claimed = start + length
        return start, length

    def _release(self, link: sqlite3.Connection, start: int, length: int) -> None:
        """Forget bytes that a row used before it was changed, as far as no other row claims them."""
        query = "SELECT start,start+extras+data FROM masks WHERE start<? AND start+extras+data>? ORDER BY start"
        byte_stream.release(link, start, length, lambda first, stop: link.execute(query, (stop, first)))

    def _drop(self, link: sqlite3.Connection, row: StoredRow) -> int:
        """Take a row away, or, if others need it, only its name and what is beside the mask; the id it then has."""
        if not row.used:
            link.execute("DELETE FROM masks WHERE id=?", (row.id,))
            self._release(link, row.start, row.extras + row.data)
            self._let_go(link, row)
            return row.id
        id = _free_id(link, "min(ifnull(min(id),0),0)-1")
        nameless = coding.sealed(replace(self._record(link, row, {}), name="", meta="{}", extras=b""), id)
        values = (id, self._packed(link, nameless), nameless.checksum, row.start + row.extras, row.id)
        link.execute("UPDATE masks SET id=?,name=NULL,about=?,checksum=?,start=?,extras=0 WHERE id=?", values)
        self._release(link, row.start, row.extras)
        self._repoint(link, row.id, id)
        return id

    def _let_go(self, link: sqlite3.Connection, row: StoredRow) -> None:
        """Decrement `used` of the rows that this row was coded against; snapshots that no row needs any more go."""
        for id, _ in unpack_bases(row):
            link.execute("UPDATE masks SET used=used-1 WHERE id=?", (id,))
            base = self._row(link, id)
            if base is not None and base.name is None and not base.used:
                self._drop(link, base)

    def _keep(self, link: sqlite3.Connection, base: Base) -> int:
        """The id of a mask that a new row needs: one that is here already, or a snapshot of it."""
        id = self._same(link, base)
        if id is None:
            id = _free_id(link, "min(ifnull(min(id),0),0)-1")
            new = coding.sealed(replace(base.record, name="", meta="{}", extras=b"", bases=()), id)
            coding.base_masks([replace(base, record=new)], self._spec)
            values = (
                id,
                self._packed(link, new),
                new.checksum,
                self._append(link, _pieces(new))[0],
                len(new.data),
            )
            link.execute(
                "INSERT INTO masks(id,name,about,checksum,start,extras,data,used) VALUES(?,NULL,?,?,?,0,?,0)", values
            )
        link.execute("UPDATE masks SET used=used+1 WHERE id=?", (id,))
        return id

    def _same(self, link: sqlite3.Connection, base: Base) -> int | None:
        """A row of this bank that has the mask: that of its name, or a snapshot."""
        row = self.named(link, base.record.name) if base.record.name else None
        alone = row is not None and row.bases is None
        if row is not None and alone and coding.has_mask(self._record(link, row, {}), base.digest, self._spec):
            return row.id
        return next(self._snapshots_like(link, base.record), None)

    def _snapshots_like(self, link: sqlite3.Connection, like: Record) -> Iterator[int]:
        """Ids of snapshots with the same coded bytes."""
        query = f"SELECT {COLUMNS} FROM masks NOT INDEXED WHERE name IS NULL AND data=?"
        for values in link.execute(query, (len(like.data),)).fetchall():
            found = self._record(link, checked_row(values), {})
            if isinstance(like.data, Unread):  # it was written as it came
                like = self._record(link, self.known(link, like.id), {})
            if (found.data, found.codec, found.prior) == (like.data, like.codec, like.prior):
                yield found.id

    def _adopt(self, link: sqlite3.Connection, new: Record) -> None:
        """Who needs a snapshot of this very mask is pointed to it, so that the mask is stored once."""
        for id in list(self._snapshots_like(link, new)):
            snapshot = self.known(link, id)
            link.execute("UPDATE masks SET used=used+? WHERE id=?", (snapshot.used, new.id))
            self._repoint(link, id, new.id)
            self._drop(link, snapshot._replace(used=0))

    def _repoint(self, link: sqlite3.Connection, old: int, new: int) -> None:
        for values in link.execute(f"SELECT {COLUMNS} FROM masks WHERE bases IS NOT NULL").fetchall():
            row = checked_row(values)
            pairs = [(new if id == old else id, digest) for id, digest in unpack_bases(row)]
            link.execute("UPDATE masks SET bases=? WHERE id=?", (pack_bases(pairs), row.id))

    def _packed(self, link: sqlite3.Connection, new: Record) -> bytes:
        """A record's texts as they are stored."""
        text = "\n".join((new.meta, new.codec, new.prior))
        if text.count("\n") != 2:
            raise MaskValueError(f"{new.what}: expected texts of one line, found more lines")
        return self.templates.pack(link, text)


def _pieces(new: Record) -> Iterable[bytes]:
    return (new.data,) if isinstance(new.data, bytes) else new.data


def _free_id(link: sqlite3.Connection, formula: str) -> int:
    """The id next to all that there are; CorruptError where a forged row has taken the last one."""
    id = int(link.execute(f"SELECT {formula} FROM masks").fetchone()[0])
    if abs(id) > _MAX_ID:
        raise CorruptError(f"bank's rows: expected ids within 2**61 of 0, found none free next to {id}")
    return id


def _packed_bases(new: Record, ids: Sequence[int]) -> bytes | None:
    """The pointers of a record to what it needs, which has these ids here."""
    return pack_bases([(id, base.digest) for id, base in zip(ids, new.bases, strict=True)]) if ids else None
