"""The bytes of a shard around its records: index and footer. `docs/format-shards.md` is normative.

    magic (8) | records, back to back | index | footer (80)

All integers are little-endian.
"""

import hashlib
import struct
from dataclasses import dataclass, replace
from typing import Any

from maskstore.bank import MAX_BLOB_BYTES, Record, check_sum
from maskstore.errors import CorruptError, FormatVersionError, NotABankError, SpecError
from maskstore.files import Cursor, is_name, parse_object
from maskstore.masks import MaskSpec

MAGIC = b"MSKSHARD"
VERSION = 1
_FOOTER = struct.Struct("<8sIIQQQQ16s16s")
FOOTER_BYTES = _FOOTER.size
_ROW = struct.Struct("<q4I2Q8s")
_COUNT = struct.Struct("<I")
_STORED, _ZSTD = 0, 1
_MAX_RATIO, _FREE_BYTES = 64, 1 << 20  # an index of n stored bytes is at most 64 n + 1 MiB
_LEVEL = 12


@dataclass(frozen=True)
class Footer:
    """Where the index lies and what it must be."""

    compression: int
    file_size: int
    index_start: int
    index_bytes: int
    """As stored."""
    plain_bytes: int
    """After decompression."""
    index_digest: bytes

    @property
    def index_stop(self) -> int:
        """Where the footer starts."""
        return self.index_start + self.index_bytes


@dataclass(frozen=True)
class Entry:
    """One mask in the index: everything of its record but the two blobs, and where those lie."""

    row: Record
    """The record with empty blobs."""
    start: int
    extras_bytes: int
    data_bytes: int

    @property
    def stop(self) -> int:
        """End of the blobs."""
        return self.start + self.extras_bytes + self.data_bytes

    def record(self, blobs: bytes) -> Record:
        """The whole record, from the bytes `start` to `stop`; its checksum is checked."""
        cut = self.extras_bytes
        record = replace(self.row, extras=blobs[:cut], data=blobs[cut:])
        check_sum(record)
        return record


@dataclass(frozen=True)
class Index:
    """All that a reader knows before it reads a mask."""

    spec: MaskSpec
    meta: dict[str, Any]
    entries: tuple[Entry, ...]


def digest(data: bytes) -> bytes:
    """BLAKE2b-128."""
    return hashlib.blake2b(data, digest_size=16).digest()


def encode_row(record: Record) -> bytes:
    """A record's place in the index."""
    texts = [text.encode() for text in (record.name, record.meta, record.codec, record.prior)]
    lengths = map(len, texts)
    return _ROW.pack(record.id, *lengths, len(record.extras), len(record.data), record.checksum) + b"".join(texts)


def encode_end(spec: MaskSpec, meta: str, rows: list[bytes], start: int) -> bytes:
    """Index and footer of a shard whose records end at `start`."""
    import zstandard

    head = [part for text in (spec.to_json(), meta) for part in (_COUNT.pack(len(text.encode())), text.encode())]
    plain = b"".join([*head, _COUNT.pack(len(rows)), *rows])
    stored, compression = zstandard.ZstdCompressor(level=_LEVEL).compress(plain), _ZSTD
    if len(plain) > _limit(len(stored)):  # readers refuse what could be a decompression bomb
        stored, compression = plain, _STORED
    size = start + len(stored) + FOOTER_BYTES
    footer = _FOOTER.pack(
        MAGIC, VERSION, compression, size, start, len(stored), len(plain), digest(stored), b""
    )[:-16]  # fmt: skip
    return stored + footer + digest(footer)


def decode_footer(data: bytes, where: str) -> Footer:
    """A footer from the last bytes of a file; every number in it is checked against the others."""
    data = data[-FOOTER_BYTES:]
    if len(data) < FOOTER_BYTES or not data.startswith(MAGIC):
        raise NotABankError(f"{where}: expected a shard, found a file that does not end like one")
    _, version, compression, size, start, stored, plain, index_digest, own = _FOOTER.unpack(data)
    if own != digest(data[:-16]):
        raise CorruptError(f"{where}: expected the footer as it was written, found other bytes")
    if version != VERSION:
        raise FormatVersionError(f"{where}: expected shard version 1 to {VERSION}, found {version}")
    known = compression == _ZSTD or (compression == _STORED and stored == plain)
    if not known or start < len(MAGIC) or start + stored + FOOTER_BYTES != size or plain > _limit(stored):
        raise CorruptError(f"{where}: expected a footer that fits its file, found other numbers")
    return Footer(compression, size, start, stored, plain, index_digest)


def decode_index(stored: bytes, footer: Footer, where: str) -> Index:
    """The index from its stored bytes; records must lie back to back from the magic to the index."""
    if len(stored) != footer.index_bytes or digest(stored) != footer.index_digest:
        raise CorruptError(f"{where}: expected the index as it was written, found other bytes")
    cursor = Cursor(_plain(stored, footer, where), f"{where}, index")
    try:
        spec, meta = MaskSpec.from_json(_text(cursor)), parse_object(_text(cursor))
    except (SpecError, CorruptError) as error:
        raise CorruptError(f"{where}: {error}") from None
    (count,) = cursor.numbers(_COUNT)
    entries: list[Entry] = []
    at, last, names = len(MAGIC), None, set()
    for _ in range(count):
        id, *lengths, extras, data, checksum = cursor.numbers(_ROW)
        name, meta_text, codec, prior = (cursor.text(length) for length in lengths)
        if not is_name(name) or name in names or (last is not None and id <= last):
            raise CorruptError(f"{where}: expected distinct names in order of their ids, found {name!r:.80}")
        if extras + data > 2 * MAX_BLOB_BYTES or at + extras + data > footer.index_start:
            raise CorruptError(
                f"{where}, task {name!r:.80}: expected its bytes before the index, found {extras + data}"
            )
        entries.append(Entry(Record(id, name, meta_text, codec, prior, checksum), at, extras, data))
        at, last = at + extras + data, id
        names.add(name)
    if at != footer.index_start or cursor.left:
        raise CorruptError(f"{where}: expected {footer.index_start - at} more bytes of records, found the index's end")
    return Index(spec, meta, tuple(entries))


def _text(cursor: Cursor) -> str:
    (length,) = cursor.numbers(_COUNT)
    return cursor.text(length)


def _plain(stored: bytes, footer: Footer, where: str) -> bytes:
    if footer.compression == _STORED:
        return stored
    import zstandard

    try:
        if zstandard.frame_content_size(stored) != footer.plain_bytes:
            raise CorruptError(f"{where}: expected an index of {footer.plain_bytes} bytes, found another size")
        return zstandard.ZstdDecompressor().decompress(stored, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"{where}: expected a Zstandard frame, found: {error}") from None


def _limit(stored: int) -> int:
    return _MAX_RATIO * stored + _FREE_BYTES
