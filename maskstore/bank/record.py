"""A stored mask: its row as SQLite has it, its record, and the extra arrays beside it.

`docs/format.md`, "A mask's row", is normative.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from maskstore.bank.blocks import Data
from maskstore.errors import CorruptError
from maskstore.files import Cursor, is_name, parse_object, write_leb128
from maskstore.priors import Backbone

DIGEST_BYTES = 8
MAX_BLOB_BYTES = 1_000_000_000  # SQLite's own limit
MAX_DATA_BYTES = 1 << 34  # more than the packed bits of any mask
MAX_PLACE = 1 << 62  # in the stream
_MAX_BASES = 15
SIGNS, SCALES = "signed:signs", "signed:scales"
"""The extra arrays of a signed mask (`maskstore.bank.signs`)."""


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
    """The columns of a row in their order; CorruptError for values of other types, or out of range.

    Every row that is read passes here. Names have ids from 1 on, snapshots have none and ids below 0.
    """
    if not all(type(value) in kinds for value, kinds in zip(values, _TYPES, strict=True)):
        raise CorruptError(f"mask row {values[0]!r:.20}: expected the columns' types, found others")
    row = StoredRow(*values)
    if not (is_name(row.name) and row.id > 0 if row.name is not None else row.id < 0):
        raise CorruptError(f"mask row {row.id}: expected a name and an id from 1 on, or none and one below 0, "
                           f"found name {row.name!r:.40}")  # fmt: skip
    lengths = row.extras <= MAX_BLOB_BYTES and row.data <= MAX_DATA_BYTES
    if min(row.start, row.extras, row.data, row.used) < 0 or not lengths or row.start > MAX_PLACE:
        raise CorruptError(f"mask row {row.id}: expected places and lengths of a mask, found others")
    return row


def pack_bases(pairs: Sequence[tuple[int, bytes]]) -> bytes | None:
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


@dataclass(frozen=True)
class Base:
    """A mask that another one was coded against."""

    digest: bytes
    """`digest_of` the mask; what is decoded from the record must have it."""
    record: "Record"
    """Its row; one that needs no mask itself."""


@dataclass(frozen=True, repr=False)
class Record:
    """One row of a bank, its texts written out. A snapshot's name is empty."""

    id: int
    name: str
    meta: str
    codec: str
    prior: str
    checksum: bytes = b""
    extras: bytes = b""
    data: Data = b""
    """The offset table, then side information and payload of each layer; or blocks, and then their table."""
    bases: tuple[Base, ...] = ()
    """The masks that the prior refers to."""
    limit: int | None = field(default=None, compare=False)
    """How many bytes decoding it may take (`MaskSource.limit`)."""
    backbone: Backbone | None = field(default=None, compare=False)
    """The weights that it may have been coded against (`KeptWeights`)."""

    @property
    def what(self) -> str:
        """What to call it in a message."""
        return f"mask {self.name!r}" if self.name else "a mask that others need"

    def __repr__(self) -> str:
        return f"Record({self.id}, {self.name!r}, {len(self.data)} coded bytes, {len(self.extras)} of extra arrays)"


class MaskInfo(NamedTuple):
    """What a bank or shard says about a mask without decoding it: `bank.info(name)`, `bank.infos()`.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec
        >>> masks = {"fc1": np.arange(800).reshape(20, 40) % 10 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec.of(masks)) as bank:
        ...         bank.put("task-0", masks, meta={"accuracy": 0.95})
        ...         info = bank.info("task-0")
        >>> info.name, info.meta, info.prior, info.extras_bytes
        ('task-0', {'accuracy': 0.95}, {'id': 'uniform'}, 0)
        >>> info.coded_bytes < 100  # a mask of 800 bits, packed, takes 100 bytes
        True
    """

    name: str
    """The task."""
    meta: dict[str, Any]
    """What was stored beside the mask as `meta`."""
    codec: dict[str, Any]
    """The codec's id and settings."""
    prior: dict[str, Any]
    """The prior's id and fields. Where it refers to other masks, `tasks` are their names. A name is "" for a mask that
    was removed or replaced since, and is kept for those that need it."""
    coded_bytes: int
    """Bytes of offset table, side information and payload."""
    extras_bytes: int
    """Bytes of the extra arrays."""


def info_of(record: Record) -> MaskInfo:
    """What a listing shows of a record."""
    meta, codec, prior = (parse_object(text) for text in (record.meta, record.codec, record.prior))
    if record.bases:
        prior["tasks"] = [base.record.name for base in record.bases]
    return MaskInfo(record.name, meta, codec, prior, len(record.data), len(record.extras))
