"""The rows of a bank: records in, records out, and the masks that other masks need.

A mask that others refer to (`Reference`, `RunningMean`) has their number in `used`. When it is deleted or replaced, its
row loses its name and stays, as a *snapshot*, until nobody needs it; its bits are not copied or coded anew. A mask that
refers to others cannot be referred to, so there are neither chains nor cycles. Every method wants an open transaction.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from maskstore.bank import byte_stream, coding
from maskstore.bank.coding import TableEntry
from maskstore.bank.record import DIGEST_BYTES, MAX_BLOB_BYTES, Base, MaskInfo, Record
from maskstore.bank.templates import Templates
from maskstore.errors import CodecError, CorruptError, MaskValueError, TaskExistsError
from maskstore.files import Cursor, parse_object, write_leb128
from maskstore.masks import MaskSpec
from maskstore.priors import Prior

_MAX_ID = 1 << 61
_MAX_BASES = 15
_BATCH_BYTES = 1 << 26  # rows of a forged file may share bytes: what is read at a time is counted, not only the rows


class StoredRow(NamedTuple):
    """A row as SQLite has it: texts and pointers are packed, extras and data are lengths in the stream."""

    id: int
    name: str | None
    about: bytes
    checksum: bytes
    start: int
    extras: int
    data: int
    used: int
    bases: bytes | None


COLUMNS = ",".join(StoredRow._fields)
_TYPES = ((int,), (str, type(None)), (bytes,), (bytes,), (int,), (int,), (int,), (int,), (bytes, type(None)))


def checked_row(values: tuple[Any, ...]) -> StoredRow:
    """The columns of a row in their order; CorruptError for values of other types, or out of range."""
    if not all(type(value) in kinds for value, kinds in zip(values, _TYPES, strict=True)):
        raise CorruptError(f"mask row {values[0]!r:.20}: expected the columns' types, found others")
    row = StoredRow(*values)
    if min(row.start, row.extras, row.data, row.used) < 0 or row.extras + row.data > 2 * MAX_BLOB_BYTES:
        raise CorruptError(f"mask row {row.id}: expected places and lengths of a mask, found others")
    return row


class Rows:
    """Reads and writes the rows of one bank over a connection."""

    def __init__(self, spec: MaskSpec) -> None:
        self._spec = spec
        self.templates = Templates()

    # -- reading ------------------------------------------------------------------------------------------------------

    def find(self, link: sqlite3.Connection, name: str) -> Record | None:
        """The record of a name, checked; None if there is none."""
        row = self._row(link, "name=?", name)
        return None if row is None else self._record(link, row, {})

    def after(self, link: sqlite3.Connection, id: int, limit: int) -> list[Record]:
        """Up to `limit` records of named masks in the order of their ids, from beyond `id`; fewer if they are large."""
        query = f"SELECT {COLUMNS} FROM masks WHERE id>? AND name IS NOT NULL ORDER BY id LIMIT ?"
        found: list[Record] = []
        known: dict[int, Record] = {}
        room = _BATCH_BYTES
        for values in link.execute(query, (id, limit)).fetchall():
            row = checked_row(values)
            room -= row.extras + row.data
            if found and room < 0:
                break
            found.append(self._record(link, row, known))
        return found

    def check_room(self, link: sqlite3.Connection) -> None:
        """CorruptError if rows claim more bytes than there are: shared ones let a small file stand for any size."""
        claimed, there = link.execute(
            "SELECT (SELECT total(extras+data) FROM masks),(SELECT total(length(data)) FROM chunks)"
        ).fetchone()
        if claimed > there:
            raise CorruptError(f"bank's bytes: expected {claimed:.0f} for all its masks, found {there:.0f}")

    def snapshots(self, link: sqlite3.Connection) -> list[Record]:
        """The records that no name leads to."""
        rows = link.execute(f"SELECT {COLUMNS} FROM masks WHERE name IS NULL ORDER BY id").fetchall()
        return [self._record(link, checked_row(row), {}) for row in rows]

    def infos(self, link: sqlite3.Connection, where: str, *arguments: str) -> list[MaskInfo]:
        """What a listing needs of each mask, without reading its bytes; nothing of it is checked."""
        found = []
        for values in link.execute(f"SELECT {COLUMNS} FROM masks WHERE {where}", arguments).fetchall():
            row = checked_row(values)
            meta, codec, prior = (parse_object(text) for text in self._texts(link, row))
            tasks = []
            for id, _ in unpack_bases(row):
                name = link.execute("SELECT name FROM masks WHERE id=?", (id,)).fetchone()
                tasks.append((name[0] if name else None) or "")
            if tasks:
                prior["tasks"] = tasks
            found.append(MaskInfo(row.name or "", meta, codec, prior, row.data, row.extras))
        return found

    def part(self, link: sqlite3.Connection, name: str, index: int) -> tuple[Record, TableEntry, bytes] | None:
        """A record without data, and the table entry and the bytes of one layer, unchecked; None without that name."""
        row = self._row(link, "name=?", name)
        if row is None:
            return None
        begin = row.start + row.extras
        table = byte_stream.read(link, begin, min(row.data, coding.table_limit(self._spec)))
        entries, at = coding.read_table(table, self._spec, f"mask {name!r}", row.data)
        at += sum(entry.size for entry in entries[:index])
        record = Record(row.id, name, *self._texts(link, row), row.checksum, bases=self._bases(link, row, {}))
        return record, entries[index], byte_stream.read(link, begin + at, entries[index].size)

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
        pieces: list[tuple[int, int]] = []
        needed = Counter[int]()
        users: dict[int, int] = {}
        for values in link.execute(f"SELECT {COLUMNS} FROM masks").fetchall():
            row = checked_row(values)
            pieces.append((row.start, row.extras + row.data))
            users[row.id] = row.used
            if row.name is None and not row.used:
                raise CorruptError(f"mask row {row.id}: expected a snapshot that a mask needs, found it unused")
            needed.update(id for id, _ in unpack_bases(row))
        for id, used in users.items():
            if needed[id] != used:
                raise CorruptError(f"mask row {id}: expected {used} masks that need it, found {needed[id]}")
        byte_stream.check(link, pieces)

    # -- writing ------------------------------------------------------------------------------------------------------

    def insert(self, link: sqlite3.Connection, new: Record, *, overwrite: bool) -> None:
        """Store a record under its name, in the old one's place if there is one, with the masks that it needs."""
        found = self._row(link, "name=?", new.name)
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
        start = byte_stream.append(link, new.extras + new.data)
        values = (id, new.name, about, new.checksum, start, len(new.extras), len(new.data), 0, packed_bases(new, bases))
        link.execute(f"INSERT INTO masks({COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?)", values)
        if not bases:
            self._adopt(link, new)

    def remove(self, link: sqlite3.Connection, name: str) -> bool:
        """Delete a mask, or make it a snapshot if others need it; whether there was one."""
        found = self._row(link, "name=?", name)
        if found is not None:
            self._drop(link, found)
        return found is not None

    def recode(self, link: sqlite3.Connection, new: Record) -> None:
        """Put other bytes for the same bits into a row, under another codec or prior; the rest of it stays.

        Who refers to it does so as before.
        """
        row = self._row(link, "id=?", new.id)
        if row is None or (row.used and new.bases):
            raise CorruptError(f"{new.what}: expected a row that can be coded anew, found none")
        old = self._record(link, row, {})
        new = replace(old, codec=new.codec, prior=new.prior, data=new.data, bases=new.bases)
        bases = [self._keep(link, base) for base in new.bases]
        byte_stream.release(link, row.start, row.extras + row.data)
        start = byte_stream.append(link, new.extras + new.data)
        new = coding.sealed(new, row.id)
        values = (self._packed(link, new), new.checksum, start, len(new.data), packed_bases(new, bases), row.id)
        link.execute("UPDATE masks SET about=?,checksum=?,start=?,data=?,bases=? WHERE id=?", values)
        self._let_go(link, row)

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _row(self, link: sqlite3.Connection, where: str, value: str | int) -> StoredRow | None:
        found = link.execute(f"SELECT {COLUMNS} FROM masks WHERE {where}", (value,)).fetchone()
        return None if found is None else checked_row(found)

    def known(self, link: sqlite3.Connection, id: int) -> StoredRow:
        """The row of an id; CorruptError if there is none."""
        row = self._row(link, "id=?", id)
        if row is None:
            raise CorruptError(f"mask row {id}: expected a mask that another one needs, found none")
        return row

    def _record(self, link: sqlite3.Connection, row: StoredRow, known: dict[int, Record]) -> Record:
        blobs = byte_stream.read(link, row.start, row.extras + row.data)
        extras, data, bases = blobs[: row.extras], blobs[row.extras :], self._bases(link, row, known)

        def checked(texts: tuple[str, str, str]) -> Record:
            found = Record(row.id, row.name or "", *texts, row.checksum, extras, data, bases)
            coding.check_sum(found)
            return found

        try:  # the templates seen last are nearly always those of now, and the checksum tells
            return checked(_split(self.templates.unpack_by_last(row.about), row.id))
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
            byte_stream.release(link, row.start, row.extras + row.data)
            self._let_go(link, row)
            return row.id
        id = _free_id(link, "min(ifnull(min(id),0),0)-1")
        nameless = coding.sealed(replace(self._record(link, row, {}), name="", meta="{}", extras=b""), id)
        byte_stream.release(link, row.start, row.extras)
        values = (id, self._packed(link, nameless), nameless.checksum, row.start + row.extras, row.id)
        link.execute("UPDATE masks SET id=?,name=NULL,about=?,checksum=?,start=?,extras=0 WHERE id=?", values)
        self._repoint(link, row.id, id)
        return id

    def _let_go(self, link: sqlite3.Connection, row: StoredRow) -> None:
        """Decrement `used` of the rows that this row was coded against; snapshots that no row needs any more go."""
        for id, _ in unpack_bases(row):
            link.execute("UPDATE masks SET used=used-1 WHERE id=?", (id,))
            base = self._row(link, "id=?", id)
            if base is not None and base.name is None and not base.used:
                self._drop(link, base)

    def _keep(self, link: sqlite3.Connection, base: Base) -> int:
        """The id of a mask that a new row needs: one that is here already, or a snapshot of it."""
        id = self._same(link, base)
        if id is None:
            id = _free_id(link, "min(ifnull(min(id),0),0)-1")
            new = coding.sealed(replace(base.record, name="", meta="{}", extras=b"", bases=()), id)
            coding.base_masks([replace(base, record=new)], self._spec)
            values = (id, self._packed(link, new), new.checksum, byte_stream.append(link, new.data), len(new.data))
            link.execute(
                "INSERT INTO masks(id,name,about,checksum,start,extras,data,used) VALUES(?,NULL,?,?,?,0,?,0)", values
            )
        link.execute("UPDATE masks SET used=used+1 WHERE id=?", (id,))
        return id

    def _same(self, link: sqlite3.Connection, base: Base) -> int | None:
        """A row of this bank that has the mask: that of its name, or a snapshot."""
        row = self._row(link, "name=?", base.record.name) if base.record.name else None
        alone = row is not None and row.bases is None
        if row is not None and alone and coding.has_mask(self._record(link, row, {}), base.digest, self._spec):
            return row.id
        return next(self._snapshots_like(link, base.record), None)

    def _snapshots_like(self, link: sqlite3.Connection, like: Record) -> Iterator[int]:
        """Ids of snapshots with the same coded bytes."""
        query = f"SELECT {COLUMNS} FROM masks WHERE name IS NULL AND data=?"
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
            link.execute("UPDATE masks SET bases=? WHERE id=?", (_packed_pairs(pairs), row.id))

    def _texts(self, link: sqlite3.Connection, row: StoredRow) -> tuple[str, str, str]:
        """(metadata, codec, prior) of a row."""
        return _split(self.templates.unpack(link, row.about), row.id)

    def _packed(self, link: sqlite3.Connection, new: Record) -> bytes:
        """A record's texts as they are stored."""
        text = "\n".join((new.meta, new.codec, new.prior))
        if text.count("\n") != 2:
            raise MaskValueError(f"{new.what}: expected texts of one line, found more lines")
        return self.templates.pack(link, text)


def _split(text: str, id: int) -> tuple[str, str, str]:
    parts = text.split("\n")
    if len(parts) != 3:
        raise CorruptError(f"mask row {id}: expected metadata, codec and prior, found {len(parts)} texts")
    return parts[0], parts[1], parts[2]


def _free_id(link: sqlite3.Connection, formula: str) -> int:
    """The id next to all that there are; CorruptError where a forged row has taken the last one."""
    id = int(link.execute(f"SELECT {formula} FROM masks").fetchone()[0])
    if abs(id) > _MAX_ID:
        raise CorruptError(f"bank's rows: expected ids within 2**61 of 0, found none free next to {id}")
    return id


def packed_bases(new: Record, ids: Sequence[int]) -> bytes | None:
    """The pointers of a record to what it needs, which has these ids here."""
    return _packed_pairs([(id, base.digest) for id, base in zip(ids, new.bases, strict=True)])


def _packed_pairs(pairs: Sequence[tuple[int, bytes]]) -> bytes | None:
    """Ids as LEB128 of 2 id, or of -2 id - 1 for snapshots, each followed by its digest; None without any."""
    return b"".join(write_leb128(2 * id if id >= 0 else -2 * id - 1) + digest for id, digest in pairs) or None


def unpack_bases(row: StoredRow) -> list[tuple[int, bytes]]:
    """(id, digest) of each mask that a row needs; CorruptError for more than a row can need."""
    pairs: list[tuple[int, bytes]] = []
    cursor = Cursor(row.bases or b"", f"mask row {row.id}")
    while cursor.left:
        if len(pairs) == _MAX_BASES:
            raise CorruptError(f"mask row {row.id}: expected at most {_MAX_BASES} masks that it needs, found more")
        value = cursor.leb128()
        pairs.append((-(value + 1 >> 1) if value & 1 else value >> 1, cursor.take(DIGEST_BYTES)))
    return pairs
