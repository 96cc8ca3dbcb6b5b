"""A row of a bank as SQLite has it: its checked columns, and the texts and pointers packed into two of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from maskstore.bank import record
from maskstore.bank import templates as texts
from maskstore.bank.record import DIGEST_BYTES, Record
from maskstore.errors import CorruptError

COLUMNS = "id,name,about,checksum,start,extras,data,used,bases"
MAX_BASES = 15


class StoredRow(NamedTuple):
    """A row as SQLite has it."""

    id: int
    name: str | None
    about: bytes
    checksum: bytes
    start: int
    extras: int
    data: int
    used: int
    bases: bytes | None


_TYPES = ((int,), (str, type(None)), (bytes,), (bytes,), (int,), (int,), (int,), (int,), (bytes, type(None)))


def checked_row(values: tuple[Any, ...]) -> StoredRow:
    """The columns of a row in their order; CorruptError for values of other types, or out of range."""
    if not all(type(value) in kinds for value, kinds in zip(values, _TYPES, strict=True)):
        raise CorruptError(f"mask row {values[0]!r:.20}: expected the columns' types, found others")
    row = StoredRow(*values)
    if min(row.start, row.extras, row.data, row.used) < 0 or row.extras + row.data > 2 * record.MAX_BLOB_BYTES:
        raise CorruptError(f"mask row {row.id}: expected places and lengths of a mask, found others")
    return row


def split_texts(row: StoredRow, templates: Sequence[str]) -> tuple[str, str, str]:
    """(metadata, codec, prior) of a row under these templates."""
    parts = texts.unpack(row.about, templates).split("\n")
    if len(parts) != 3:
        raise CorruptError(f"mask row {row.id}: expected metadata, codec and prior, found {len(parts)} texts")
    return parts[0], parts[1], parts[2]


def pack_bases(new: Record, ids: Sequence[int]) -> bytes | None:
    """The pointers of a record to what it needs, which has these ids here."""
    return packed_pairs([(id, base.digest) for id, base in zip(ids, new.bases, strict=True)])


def packed_pairs(pairs: Sequence[tuple[int, bytes]]) -> bytes | None:
    """Ids as LEB128 of 2 id, or of -2 id - 1 for snapshots, each followed by its digest; None without any."""
    return b"".join(texts.write_leb128(2 * id if id >= 0 else -2 * id - 1) + d for id, d in pairs) or None


def unpack_bases(row: StoredRow) -> list[tuple[int, bytes]]:
    """(id, digest) of each mask that a row needs; CorruptError for more than a row can need."""
    pairs: list[tuple[int, bytes]] = []
    at, data = 0, row.bases or b""
    while at < len(data):
        value, at = texts.read_leb128(data, at)
        if at + DIGEST_BYTES > len(data) or len(pairs) == MAX_BASES:
            raise CorruptError(f"mask row {row.id}: expected at most {MAX_BASES} masks that it needs, found more bytes")
        pairs.append((-(value + 1 >> 1) if value & 1 else value >> 1, data[at : at + DIGEST_BYTES]))
        at += DIGEST_BYTES
    return pairs
