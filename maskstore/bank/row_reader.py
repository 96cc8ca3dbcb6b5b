"""The rows of a bank, read: each value is checked, and each row is where the index on names says.

Every method wants an open transaction.
"""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Sequence

from maskstore.bank import byte_stream, coding
from maskstore.bank.blocks import Data, Parts, Unread
from maskstore.bank.record import COLUMNS, Base, Record, StoredRow, checked_row, unpack_bases
from maskstore.bank.sqlite import check_pages
from maskstore.bank.templates import Templates, three_texts
from maskstore.errors import CodecError, CorruptError
from maskstore.files import is_name, parse_object
from maskstore.masks import MaskSpec
from maskstore.priors import Backbone, Prior

_INDEX = "sqlite_autoindex_masks_1"  # the index on names, under the name that SQLite gives it
_BATCH_BYTES = 1 << 26  # rows of a forged file may share bytes: what is read at a time is counted, not only the rows


class RowReader:
    """Reads the rows of one bank over a connection."""

    def __init__(self, spec: MaskSpec, limit: int | None = None, backbone: Backbone | None = None) -> None:
        self._spec, self._limit, self.backbone = spec, limit, backbone
        self.templates = Templates()
        self.agreed = ""
        """The fingerprint of the weights that all masks coded against some were coded against, once that was seen."""

    # -- reading ------------------------------------------------------------------------------------------------------

    def find(self, link: sqlite3.Connection, name: str, *, unread: bool = False) -> Record | None:
        """The record of a name, checked; None if there is none.

        `unread`: of a mask in blocks, only the table is read.
        """
        row = self.named(link, name)
        return None if row is None else self._record(link, row, {}, unread=unread)

    def find_to_tell(self, link: sqlite3.Connection, name: str) -> Record | None:
        """As `find` with `unread`; where the mask needs others, they know that it does."""
        row = self.find(link, name, unread=True)
        if row is not None and row.bases:
            self.check_users(link)
        return row

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
        self._check_texts(link)
        rows = link.execute("SELECT id,name,CAST(name AS BLOB) FROM masks NOT INDEXED LIMIT most_rows()").fetchall()
        ids = {id: name for id, name, _ in rows}
        listed = link.execute(f"SELECT id,name FROM masks INDEXED BY {_INDEX} LIMIT most_rows()").fetchall()
        names = {name for name in ids.values() if name is not None}
        if not (len(listed) == len(ids) == len(rows) == len(names) + sum(name is None for name in ids.values())
                and dict(listed) == ids):  # fmt: skip
            raise CorruptError("bank's rows: expected the masks that the index on names has, found others")
        for id, name, raw in rows:
            if name is not None and not (is_name(name) and name.encode() == raw and id > 0):
                raise CorruptError(f"mask row {id}: expected a name and an id from 1 on, found name {name!r:.40}")
        return sorted((id, name) for id, name in ids.items() if name is not None)

    def listing_with_room(self, link: sqlite3.Connection) -> list[tuple[int, str]]:
        """As `listing`, for who then reads all rows; CorruptError if they claim more bytes than there are."""
        self.check_room(link)
        return self.listing(link)

    def stamp(self, link: sqlite3.Connection) -> str:
        """A digest of all masks' ids, names and checksums."""
        digest = hashlib.blake2b(digest_size=16)
        query = "SELECT id,name,checksum FROM masks NOT INDEXED ORDER BY id LIMIT most_rows()"
        for id, name, checksum in link.execute(query):
            digest.update(repr((id, name, checksum)).encode())
        return digest.hexdigest()

    def checksums(self, link: sqlite3.Connection) -> dict[str, bytes]:
        """The stored checksum of each mask by its name, as it stands there."""
        query = "SELECT name,checksum FROM masks NOT INDEXED WHERE name IS NOT NULL"
        return {name: bytes(checksum or b"") for name, checksum in link.execute(query)}

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

    def coded_against(self, link: sqlite3.Connection, *, but: str) -> tuple[str, str]:
        """A mask of another name that was coded against weights, and their fingerprint; ("", "") if there is none."""
        query = f"SELECT {COLUMNS} FROM masks NOT INDEXED WHERE name IS NOT NULL ORDER BY id LIMIT most_rows()"
        for values in link.execute(query):
            row = checked_row(values)
            if row.name == but:
                continue
            _, _, prior = self._texts(link, row)
            if '"backbone"' in prior:
                config = parse_object(prior)
                given = config.get("given")
                found = given.get("backbone") if isinstance(given, dict) else config.get("backbone")
                if isinstance(found, str):
                    return row.name or "", found
        return "", ""

    def check_room(self, link: sqlite3.Connection) -> None:
        """CorruptError if rows claim more bytes than there are: shared ones let a small file stand for any size."""
        claimed, there = link.execute(
            "SELECT (SELECT total(extras+data) FROM masks),(SELECT total(length(data)) FROM chunks)"
        ).fetchone()
        if claimed > there:
            raise CorruptError(f"bank's bytes: expected {claimed:.0f} for all its masks, found {there:.0f}")

    def _check_texts(self, link: sqlite3.Connection) -> None:
        """CorruptError if the rows' texts are longer than the file: pages that rows share let it stand for any size."""
        length = "total(length(CAST(name AS BLOB)))"
        rows, listed, most = link.execute(
            f"SELECT (SELECT {length}+total(length(about)) FROM masks NOT INDEXED),"
            f"(SELECT {length} FROM masks INDEXED BY {_INDEX}),most_bytes()"
        ).fetchone()
        if max(rows, listed) > most:
            found = f"{max(rows, listed):.0f}"
            raise CorruptError(f"bank's rows: expected texts of at most {most} bytes as the file has, found {found}")

    def snapshots(self, link: sqlite3.Connection) -> list[Record]:
        """The records that no name leads to."""
        rows = link.execute(f"SELECT {COLUMNS} FROM masks NOT INDEXED WHERE name IS NULL ORDER BY id LIMIT most_rows()")
        return [self._record(link, checked_row(row), {}) for row in rows.fetchall()]

    def check_users(self, link: sqlite3.Connection) -> None:
        """CorruptError unless as many rows point to each row as it says."""
        needed = Counter[int]()
        query = f"SELECT {COLUMNS} FROM masks NOT INDEXED WHERE bases IS NOT NULL LIMIT most_rows()"
        for values in link.execute(query).fetchall():
            needed.update(id for id, _ in unpack_bases(checked_row(values)))
        query = "SELECT id,used FROM masks NOT INDEXED WHERE used<>0 LIMIT most_rows()"
        for id, used in link.execute(query).fetchall():
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

    def checked_snapshots(self, link: sqlite3.Connection) -> list[Record]:
        """The masks without a name; CorruptError unless pages and rows are sound."""
        check_pages(link)
        self.check(link)
        return self.snapshots(link)

    def check(self, link: sqlite3.Connection) -> None:
        """CorruptError unless the rows use each other, and the stream, as they say; their content is not looked at."""
        byte_stream.check(link, [(row.start, row.extras + row.data) for row in self._all(link)])

    def _all(self, link: sqlite3.Connection) -> list[StoredRow]:
        """All rows; CorruptError unless each has what its columns may have, and they agree on names and pointers."""
        query = f"SELECT {COLUMNS} FROM masks NOT INDEXED LIMIT most_rows()"
        rows = [checked_row(row) for row in link.execute(query).fetchall()]
        for row in rows:
            if row.name is None and not row.used:
                raise CorruptError(f"mask row {row.id}: expected a snapshot that a mask needs, found it unused")
        self.listing(link)
        self.check_users(link)
        return rows

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _row(self, link: sqlite3.Connection, id: int) -> StoredRow | None:
        found = link.execute(f"SELECT {COLUMNS} FROM masks WHERE id=?", (id,)).fetchone()
        return None if found is None else checked_row(found)

    def known(self, link: sqlite3.Connection, id: int) -> StoredRow:
        """The row of an id; CorruptError if there is none."""
        row = self._row(link, id)
        if row is None:
            raise CorruptError(f"mask row {id}: expected a mask that another one needs, found none")
        return row

    def _record(
        self, link: sqlite3.Connection, row: StoredRow, known: dict[int, Record], *, unread: bool = False
    ) -> Record:
        """The record of a row, its checksum checked; `unread`: of a mask in blocks, only the table is read."""
        bases, begin = self._bases(link, row, known), row.start + row.extras
        extras = byte_stream.read(link, row.start, row.extras)

        def checked(texts: tuple[str, str, str]) -> Record:
            data: Data
            if unread and coding.in_blocks(texts[1]):
                data = self._unread(link, begin, row.data)
            else:
                parts = byte_stream.read_parts(link, begin, row.data)
                data = Parts(list(parts)) if coding.in_blocks(texts[1]) else b"".join(parts)
            found = Record(
                row.id, row.name or "", *texts, row.checksum, extras, data, bases, self._limit, self.backbone
            )
            coding.check_own_sum(found)
            return found

        try:  # the templates seen last are nearly always those of now, and the checksum tells
            return checked(three_texts(self.templates.unpack_by_last(row.about), row.id))
        except CorruptError:
            return checked(self._texts(link, row))

    @staticmethod
    def _unread(link: sqlite3.Connection, start: int, length: int) -> Unread:
        return Unread(length, lambda first, stop: byte_stream.read_parts(link, start + first, stop - first))

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

    def _texts(self, link: sqlite3.Connection, row: StoredRow) -> tuple[str, str, str]:
        """(metadata, codec, prior) of a row."""
        return three_texts(self.templates.unpack(link, row.about), row.id)
