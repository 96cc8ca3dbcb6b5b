"""The manifest of a shard set: which mask is where. `docs/format-shards.md` is normative.

    header (72) | body

The header says how many bytes the body has, and has its digest. All that a shard's index says of a mask is here too,
by columns, so that a set of 100 000 masks opens with one request, in a fraction of a second, and a mask is one range.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.bank import MAX_BLOB_BYTES, Record
from maskstore.errors import CorruptError, FormatVersionError, LimitError, NotABankError, SpecError
from maskstore.files import Cursor, parse_object
from maskstore.interop.shards.format import FOOTER_BYTES, MAGIC, Entry, digest
from maskstore.masks import MaskSpec

NAME = "manifest"
SET_MAGIC = b"MSKSHSET"
SET_VERSION = 1
_HEADER = struct.Struct("<8sIIQQQ16s16s")
HEADER_BYTES = _HEADER.size
_TEXT, _COUNTS = struct.Struct("<I"), struct.Struct("<IIQIQ")
_STORED, _ZSTD = 0, 1
_MAX_RATIO, _FREE_BYTES = 64, 1 << 20  # a body of n stored bytes is at most 64 n + 1 MiB
_MAX_PLAIN = 1 << 30  # unless `limit` says more
_MAX_NAME = 512
_MAX_TOTAL = float(1 << 62)
_LEVEL = 6
_SHARD = np.dtype([("digest", "V16"), ("bytes", "<u8"), ("masks", "<u4")])
_COLUMNS = tuple(
    (name, np.dtype(kind))
    for name, kind in (
        ("id", "<i8"), ("extras", "<u4"), ("data", "<u8"), ("checksum", "V8"),
        ("meta", "<u4"), ("codec", "<u4"), ("prior", "<u4"),
    )
)  # fmt: skip


@dataclass(frozen=True)
class Shard:
    """One shard of a set."""

    digest: bytes
    """Of its index, which has the checksums of all its masks: another content is another digest, and another name."""
    size: int
    masks: int

    @property
    def name(self) -> str:
        """The object's name in the set."""
        return f"shards/{self.digest.hex()}.shard"


@dataclass(frozen=True)
class Header:
    """What the first bytes say of the rest."""

    compression: int
    generation: int
    stored: int
    plain: int
    digest: bytes
    own: bytes
    """Digest of the header, which has that of the body: it names the manifest."""


@dataclass(frozen=True)
class Manifest:
    """A shard set at one moment."""

    generation: int
    """1 for a new set, and one more after each change."""
    spec: MaskSpec
    meta: dict[str, Any]
    shards: tuple[Shard, ...]
    names: tuple[str, ...]
    texts: tuple[str, ...]
    """Metadata, codecs and priors, each text once."""
    columns: dict[str, NDArray[Any]]
    """A value for each mask."""
    own: bytes = b""

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """In which shard each mask is, and where its record starts there."""
        counts = np.array([shard.masks for shard in self.shards], dtype=np.int64)
        sizes = self.columns["extras"].astype(np.int64) + self.columns["data"].astype(np.int64)
        before = np.concatenate([[0], np.cumsum(sizes)])
        firsts = np.concatenate([[0], np.cumsum(counts)])[:-1]
        shard_of = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        return shard_of, len(MAGIC) + before[:-1] - before[firsts][shard_of]

    def entry(self, row: int, start: int) -> Entry:
        """All of a mask but its bytes."""
        column = {name: values[row] for name, values in self.columns.items()}
        meta, codec, prior = (self.texts[int(column[name])] for name in ("meta", "codec", "prior"))
        record = Record(int(column["id"]), self.names[row], meta, codec, prior, column["checksum"].tobytes())
        return Entry(record, start, int(column["extras"]), int(column["data"]))


def gather(
    generation: int,
    spec: MaskSpec,
    meta: dict[str, Any],
    shards: Sequence[tuple[Shard, Sequence[Entry]]],
    before: Manifest | None = None,
) -> Manifest:
    """A manifest of new shards, behind those of another one."""
    texts = {text: i for i, text in enumerate(before.texts if before else ())}
    entries = [entry for _, found in shards for entry in found]

    def index(values: Iterable[str]) -> list[int]:
        return [texts.setdefault(value, len(texts)) for value in values]

    new: dict[str, Any] = {
        "id": [entry.row.id for entry in entries],
        "extras": [entry.extras_bytes for entry in entries],
        "data": [entry.data_bytes for entry in entries],
        "checksum": [entry.row.checksum for entry in entries],
        "meta": index(entry.row.meta for entry in entries),
        "codec": index(entry.row.codec for entry in entries),
        "prior": index(entry.row.prior for entry in entries),
    }
    columns = {
        name: np.concatenate([before.columns[name] if before else np.empty(0, kind), np.array(new[name], dtype=kind)])
        for name, kind in _COLUMNS
    }
    names = (*(before.names if before else ()), *(entry.row.name for entry in entries))
    all_shards = (*(before.shards if before else ()), *(shard for shard, _ in shards))
    return Manifest(generation, spec, meta, all_shards, names, tuple(texts), columns)


def encode_manifest(manifest: Manifest, meta: str) -> bytes:
    """A manifest as bytes; `meta` is the bank's metadata as JSON."""
    import zstandard

    names, texts = ("\0".join(values).encode() for values in (manifest.names, manifest.texts))
    shards = np.array([(shard.digest, shard.size, shard.masks) for shard in manifest.shards], dtype=_SHARD)
    counts = _COUNTS.pack(len(shards), len(manifest.names), len(names), len(manifest.texts), len(texts))
    head = [
        part for text in (manifest.spec.to_json(), meta) for part in (_TEXT.pack(len(text.encode())), text.encode())
    ]
    columns = [manifest.columns[name].tobytes() for name, _ in _COLUMNS]
    plain = b"".join([*head, counts, shards.tobytes(), *columns, names, texts])
    stored, compression = zstandard.ZstdCompressor(level=_LEVEL).compress(plain), _ZSTD
    if len(plain) > _MAX_RATIO * len(stored) + _FREE_BYTES:  # readers refuse what could be a decompression bomb
        stored, compression = plain, _STORED
    header = _HEADER.pack(
        SET_MAGIC, SET_VERSION, compression, manifest.generation, len(stored), len(plain), digest(stored), b""
    )[:-16]  # fmt: skip
    return header + digest(header) + stored


def decode_header(data: bytes, where: str, limit: int | None) -> Header:
    """The header from the first bytes of a manifest. LimitError for a body that is larger than is allowed."""
    if len(data) < HEADER_BYTES or not data.startswith(SET_MAGIC):
        raise NotABankError(f"{where}: expected the manifest of a shard set, found another file")
    _, version, compression, generation, stored, plain, of_body, own = _HEADER.unpack(data[:HEADER_BYTES])
    if own != digest(data[: HEADER_BYTES - 16]):
        raise CorruptError(f"{where}: expected the header as it was written, found other bytes")
    if version != SET_VERSION:
        raise FormatVersionError(f"{where}: expected manifest version 1 to {SET_VERSION}, found {version}")
    known = compression == _ZSTD or (compression == _STORED and stored == plain)
    if not known or not generation or plain > _MAX_RATIO * stored + _FREE_BYTES:
        raise CorruptError(f"{where}: expected a header of numbers that fit, found others")
    allowed = _MAX_PLAIN if limit is None else limit
    if max(stored, plain) > allowed:
        raise LimitError(
            f"{where}: expected a manifest of at most {allowed} bytes, found {max(stored, plain)} "
            "(a larger `limit=` allows it)"
        )
    return Header(compression, generation, stored, plain, of_body, own)


def decode_manifest(body: bytes, header: Header, where: str) -> Manifest:
    """A manifest from its stored body; every number is compared with what it must fit."""
    if len(body) != header.stored or digest(body) != header.digest:
        raise CorruptError(f"{where}: expected the body as it was written, found other bytes")
    cursor = Cursor(_plain(body, header, where), where)
    try:
        spec, meta = MaskSpec.from_json(_text(cursor)), parse_object(_text(cursor))
    except (SpecError, CorruptError) as error:
        raise CorruptError(f"{where}: {error}") from None
    shard_count, count, name_bytes, text_count, text_bytes = cursor.numbers(_COUNTS)
    found = np.frombuffer(cursor.take(shard_count * _SHARD.itemsize), dtype=_SHARD)
    shards = tuple(Shard(one["digest"].tobytes(), int(one["bytes"]), int(one["masks"])) for one in found)
    columns = {name: np.frombuffer(cursor.take(count * kind.itemsize), dtype=kind) for name, kind in _COLUMNS}
    names, texts = _split(cursor, name_bytes, count), _split(cursor, text_bytes, text_count)
    cursor.end()
    manifest = Manifest(header.generation, spec, meta, shards, names, texts, columns, header.own)
    _check(manifest, where)
    return manifest


def _check(manifest: Manifest, where: str) -> None:
    columns, names, shards = manifest.columns, manifest.names, manifest.shards
    lengths = [len(name) for name in names]
    if names and (min(lengths) < 1 or max(lengths) > _MAX_NAME or len(set(names)) != len(names)):
        raise CorruptError(f"{where}: expected distinct names of 1 to {_MAX_NAME} characters, found others")
    if sum(shard.masks for shard in shards) != len(names) or any(not shard.masks for shard in shards):
        raise CorruptError(f"{where}: expected shards that hold its {len(names)} masks, found others")
    if names and max(int(columns[name].max()) for name in ("meta", "codec", "prior")) >= len(manifest.texts):
        raise CorruptError(f"{where}: expected texts by their numbers, found numbers of none")
    sizes = columns["extras"].astype(np.float64) + columns["data"].astype(np.float64)
    if names and (
        int(columns["extras"].max()) > MAX_BLOB_BYTES or sizes.max() > 2 * MAX_BLOB_BYTES or sizes.sum() > _MAX_TOTAL
    ):
        raise CorruptError(f"{where}: expected masks of at most {2 * MAX_BLOB_BYTES} bytes, found more")
    last = np.cumsum([shard.masks for shard in shards], dtype=np.int64) - 1
    if names:
        stops = manifest.places()[1][last] + sizes[last].astype(np.int64)
        if any(stop + FOOTER_BYTES > shard.size for stop, shard in zip(stops.tolist(), shards, strict=True)):
            raise CorruptError(f"{where}: expected shards as large as their masks, found smaller ones")


def _split(cursor: Cursor, size: int, count: int) -> tuple[str, ...]:
    """Texts with a NUL between each two."""
    text = cursor.text(size)
    found = text.count("\0") + 1 if count else 0
    if found != count or (not count and size):
        raise CorruptError(f"{cursor.what}: expected {count} texts, found {found}")
    return tuple(text.split("\0")) if count else ()


def _text(cursor: Cursor) -> str:
    (length,) = cursor.numbers(_TEXT)
    return cursor.text(length)


def _plain(body: bytes, header: Header, where: str) -> bytes:
    if header.compression == _STORED:
        return body
    import zstandard

    try:
        if zstandard.frame_content_size(body) != header.plain:
            raise CorruptError(f"{where}: expected a body of {header.plain} bytes, found another size")
        return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"{where}: expected a Zstandard frame, found: {error}") from None
