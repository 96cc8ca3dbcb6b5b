"""The rows of a bank: records in, records out, and the masks that other masks need.

A mask that others refer to (`Reference`, `RunningMean`) has their number in `used`. When it is deleted or replaced, its
row loses its name and stays, as a *snapshot*, until nobody needs it; its bits are not copied or coded anew. A mask that
refers to others cannot be referred to, so there are neither chains nor cycles. Every method wants an open transaction.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from maskstore.bank import byte_stream, coding
from maskstore.bank.record import COLUMNS, Base, Record, StoredRow, checked_row, pack_bases, unpack_bases
from maskstore.bank.sqlite import abandon_part, check_pages
from maskstore.bank.templates import Templates, three_texts
from maskstore.errors import CodecError, CorruptError, MaskValueError, TaskExistsError
from maskstore.files import is_name
from maskstore.masks import MaskSpec
from maskstore.priors import Prior

_INDEX = "sqlite_autoindex_masks_1"  # the index on names, under the name that SQLite gives it
_MAX_ID = 1 << 61
_BATCH_BYTES = 1 << 26  # rows of a forged file may share bytes: what is read at a time is counted, not only the rows


class Rows:
    """Reads and writes the rows of one bank over a connection."""

    def __init__(self, spec: MaskSpec, limit: int | None = None) -> None:
        self._spec, self._limit = spec, limit
        self.templates = Templates()
        self._trusted: tuple[sqlite3.Connection | None, int] = (None, 0)
        self._claimed = 0  # where the rows' bytes ended last

    # -- reading ------------------------------------------------------------------------------------------------------

    def find(self, link: sqlite3.Connection, name: str) -> Record | None:
        """The record of a name, checked; None if there is none."""
        row = self.named(link, name)
        return None if row is None else self._record(link, row, {})

    def named(self, link: sqlite3.Connection, name: str) -> StoredRow | None:
        """The row of a name; None if there is none. CorruptError if the index on names leads to another, or hides it.

        The row is looked up by its id: asked by name, SQLite would answer with the name that the index has.
        """
        row = self._indexed(link, name)
        if row is None:
            hidden = link.execute("SELECT id FROM masks NOT INDEXED WHERE name=?", (name,)).fetchone()
            if hidden is not None:
                raise CorruptError(f"mask row {hidden[0]}: expected it in the index on names, found it missing")
        return row

    def _indexed(self, link: sqlite3.Connection, name: str) -> StoredRow | None:
        """The row that the index has for a name, as `named`; for who knows that the index lacks none."""
        found = link.execute("SELECT id FROM masks WHERE name=?", (name,)).fetchone()
        if found is None:
            return None
        row = self._row(link, found[0])
        if row is None or row.name != name:
            raise CorruptError(f"mask {name!r:.80}: expected its row where the index on names says, found another")
        return row

    def count(self, link: sqlite3.Connection) -> int:
        """How many masks have names; CorruptError unless rows and index agree."""
        query = "SELECT (SELECT count(name) FROM masks NOT INDEXED),(SELECT count(name) FROM masks INDEXED BY {})"
        rows, listed = link.execute(query.format(_INDEX)).fetchone()
        if rows != listed:
            raise CorruptError(f"bank's rows: expected {listed} masks as the index on names has them, found {rows}")
        return int(rows)

    def listing(self, link: sqlite3.Connection) -> list[tuple[int, str]]:
        """(id, name) of all masks in insertion order; CorruptError unless they are those in the index on names."""
        rows = link.execute("SELECT id,name,CAST(name AS BLOB) FROM masks NOT INDEXED").fetchall()
        ids = {id: name for id, name, _ in rows}
        listed = link.execute(f"SELECT id,name FROM masks INDEXED BY {_INDEX}").fetchall()
        names = {name for name in ids.values() if name is not None}
        if not (len(listed) == len(ids) == len(rows) == len(names) + sum(name is None for name in ids.values())
                and dict(listed) == ids):  # fmt: skip
            raise CorruptError("bank's rows: expected the masks that the index on names has, found others")
        for id, name, raw in rows:
            if name is not None and not (is_name(name) and name.encode() == raw and id > 0):
                raise CorruptError(f"mask row {id}: expected a name and an id from 1 on, found name {name!r:.40}")
        return sorted((id, name) for id, name in ids.items() if name is not None)

    def some(self, link: sqlite3.Connection, wanted: Sequence[tuple[int, str]]) -> tuple[list[Record], int]:
        """Records of the first of `wanted`, (id, name) pairs, and how many of these were looked at; few if large.

        A mask that was removed since its pair was listed is left out. One that has another row by now is found there.
        """
        found: list[Record] = []
        known: dict[int, Record] = {}
        room = _BATCH_BYTES
        query, between = f"SELECT {COLUMNS} FROM masks WHERE id BETWEEN ? AND ?", (wanted[0][0], wanted[-1][0])
        rows = {values[0]: values for values in link.execute(query, between)}  # one question costs less than many
        for done, (id, name) in enumerate(wanted):
            row = checked_row(rows[id]) if id in rows else None
            if row is None or row.name != name:
                row = self.named(link, name)
            if row is None:
                continue
            room -= row.extras + row.data
            if found and room < 0:
                return found, done
            found.append(self._record(link, row, known))
        return found, len(wanted)

    def check_room(self, link: sqlite3.Connection) -> None:
        """CorruptError if rows claim more bytes than there are: shared ones let a small file stand for any size."""
        claimed, there = link.execute(
            "SELECT (SELECT total(extras+data) FROM masks),(SELECT total(length(data)) FROM chunks)"
        ).fetchone()
        if claimed > there:
            raise CorruptError(f"bank's bytes: expected {claimed:.0f} for all its masks, found {there:.0f}")

    def snapshots(self, link: sqlite3.Connection) -> list[Record]:
        """The records that no name leads to."""
        rows = link.execute(f"SELECT {COLUMNS} FROM masks NOT INDEXED WHERE name IS NULL ORDER BY id").fetchall()
        return [self._record(link, checked_row(row), {}) for row in rows]

    def check_users(self, link: sqlite3.Connection) -> None:
        """CorruptError unless as many rows point to each row as it says."""
        needed = Counter[int]()
        for values in link.execute(f"SELECT {COLUMNS} FROM masks NOT INDEXED WHERE bases IS NOT NULL").fetchall():
            needed.update(id for id, _ in unpack_bases(checked_row(values)))
        for id, used in link.execute("SELECT id,used FROM masks NOT INDEXED WHERE used<>0").fetchall():
            if needed.pop(id, 0) != used:
                raise CorruptError(f"mask row {id}: expected as many masks that need it as it says, found others")
        if needed:
            raise CorruptError(f"mask row {min(needed)}: expected that it says who needs it, found that it does not")

    def resolve(self, link: sqlite3.Connection, prior: Prior) -> list[Base]:
        """The masks of the tasks that a prior refers to; CodecError for one that was itself coded against others."""
        bases = []
        for task in prior.tasks:
            row = self.find(link, task)
            if row is None or row.bases:
                found = "none" if row is None else f"{task!r}, which needs some"
                raise CodecError(f"prior {prior.id}: expected a mask that was coded without others, found {found}")
            bases.append(Base(coding.digest_of(coding.decode_mask(row, self._spec)), row))
        if len(bases) not in prior.needs:
            raise CodecError(f"prior {prior.id}: expected the tasks that it refers to, found none")
        return bases

    def check(self, link: sqlite3.Connection) -> None:
        """CorruptError unless the rows use each other, and the stream, as they say; their content is not looked at."""
        byte_stream.check(link, [(row.start, row.extras + row.data) for row in self._all(link)])

    def _all(self, link: sqlite3.Connection) -> list[StoredRow]:
        """All rows; CorruptError unless each has what its columns may have, and they agree on names and pointers."""
        rows = [checked_row(row) for row in link.execute(f"SELECT {COLUMNS} FROM masks NOT INDEXED").fetchall()]
        for row in rows:
            if row.name is None and not row.used:
                raise CorruptError(f"mask row {row.id}: expected a snapshot that a mask needs, found it unused")
        self.listing(link)
        self.check_users(link)
        return rows

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
        self.trust(link)
        link.execute("SAVEPOINT change")
        try:
            yield
        except BaseException:
            abandon_part(link, "change")
            raise
        link.execute("RELEASE change")

    def insert(self, link: sqlite3.Connection, new: Record, *, overwrite: bool) -> None:
        """Store a record under its name, in the old one's place if there is one, with the masks that it needs."""
        with self._change(link):
            self._insert(link, new, overwrite=overwrite)

    def _insert(self, link: sqlite3.Connection, new: Record, *, overwrite: bool) -> None:
        found = self._indexed(link, new.name)
        if found is not None and not overwrite:
            raise TaskExistsError(f"task {new.name!r}: expected a new name, found it stored (see `overwrite=True`)")
        bases = [self._keep(link, base) for base in new.bases]
        if found is not None:
            moved = self._drop(link, self.known(link, found.id))  # it may be one of those that are kept now
            bases = [moved if id == found.id else id for id in bases]
            id = found.id
        else:
            id = _free_id(link, "max(ifnull(max(id),0),0)+1")
        new = coding.sealed(new, id)
        about = self._packed(link, new)
        start = self._append(link, new.extras + new.data)
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
        start = self._append(link, new.extras + new.data)
        new = coding.sealed(new, row.id)
        values = (self._packed(link, new), new.checksum, start, len(new.data), _packed_bases(new, bases), row.id)
        link.execute("UPDATE masks SET about=?,checksum=?,start=?,data=?,bases=? WHERE id=?", values)
        self._release(link, row.start, row.extras + row.data)
        self._let_go(link, row)

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _row(self, link: sqlite3.Connection, id: int) -> StoredRow | None:
        found = link.execute(f"SELECT {COLUMNS} FROM masks WHERE id=?", (id,)).fetchone()
        return None if found is None else checked_row(found)

    def _append(self, link: sqlite3.Connection, data: bytes) -> int:
        """Bytes at the end of the stream; CorruptError if a row claims places there, whose chunk is lost."""
        start = byte_stream.append(link, data)
        if start < self._claimed:  # perhaps some of that has gone since
            (end,) = link.execute("SELECT ifnull(max(start+extras+data),0) FROM masks").fetchone()
            if start < end:
                raise CorruptError(f"bank's bytes: expected chunks up to place {end}, found them end at {start}")
        self._claimed = start + len(data)
        return start

    def _release(self, link: sqlite3.Connection, start: int, length: int) -> None:
        """Forget bytes that a row used before it was changed, as far as no other row claims them."""
        query = "SELECT start,start+extras+data FROM masks WHERE start<? AND start+extras+data>? ORDER BY start"
        byte_stream.release(link, start, length, lambda first, stop: link.execute(query, (stop, first)))

    def known(self, link: sqlite3.Connection, id: int) -> StoredRow:
        """The row of an id; CorruptError if there is none."""
        row = self._row(link, id)
        if row is None:
            raise CorruptError(f"mask row {id}: expected a mask that another one needs, found none")
        return row

    def _record(self, link: sqlite3.Connection, row: StoredRow, known: dict[int, Record]) -> Record:
        blobs = byte_stream.read(link, row.start, row.extras + row.data)
        extras, data, bases = blobs[: row.extras], blobs[row.extras :], self._bases(link, row, known)

        def checked(texts: tuple[str, str, str]) -> Record:
            found = Record(row.id, row.name or "", *texts, row.checksum, extras, data, bases, self._limit)
            coding.check_sum(found)
            return found

        try:  # the templates seen last are nearly always those of now, and the checksum tells
            return checked(three_texts(self.templates.unpack_by_last(row.about), row.id))
        except CorruptError:
            return checked(self._texts(link, row))

    def _bases(self, link: sqlite3.Connection, row: StoredRow, known: dict[int, Record]) -> tuple[Base, ...]:
        """What a row needs; `known` are those read already."""
        bases = []
        for id, digest in unpack_bases(row):
            if id not in known:
                needed = self.known(link, id)
                if needed.bases is not None:
                    raise CorruptError(f"mask row {id}: expected a mask that needs no other, found that it does")
                known[id] = self._record(link, needed, known)
            bases.append(Base(digest, known[id]))
        return tuple(bases)

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
            values = (id, self._packed(link, new), new.checksum, self._append(link, new.data), len(new.data))
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

    def _texts(self, link: sqlite3.Connection, row: StoredRow) -> tuple[str, str, str]:
        """(metadata, codec, prior) of a row."""
        return three_texts(self.templates.unpack(link, row.about), row.id)

    def _packed(self, link: sqlite3.Connection, new: Record) -> bytes:
        """A record's texts as they are stored."""
        text = "\n".join((new.meta, new.codec, new.prior))
        if text.count("\n") != 2:
            raise MaskValueError(f"{new.what}: expected texts of one line, found more lines")
        return self.templates.pack(link, text)


def _free_id(link: sqlite3.Connection, formula: str) -> int:
    """The id next to all that there are; CorruptError where a forged row has taken the last one."""
    id = int(link.execute(f"SELECT {formula} FROM masks").fetchone()[0])
    if abs(id) > _MAX_ID:
        raise CorruptError(f"bank's rows: expected ids within 2**61 of 0, found none free next to {id}")
    return id


def _packed_bases(new: Record, ids: Sequence[int]) -> bytes | None:
    """The pointers of a record to what it needs, which has these ids here."""
    return pack_bases([(id, base.digest) for id, base in zip(ids, new.bases, strict=True)]) if ids else None
