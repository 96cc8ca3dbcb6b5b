"""Where things are in an index file, and what its header says; `docs/format-index.md` is the normative page."""

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from maskstore.errors import CorruptError, ForeignFileError, FormatVersionError, MaskStoreError
from maskstore.files import is_name, parse_object
from maskstore.kernels import LANES
from maskstore.masks import MaskSpec

MAGIC = b"MASKINDX"
VERSION = 2
START = struct.Struct("<8sIIQ16s")  # magic, version, nothing, bytes of the header, digest of the header
PAGE = 4096
MOST_HEADER = 1 << 26
"""The most bytes of a header, so that a forged one does not cost more than some hundreds of megabytes."""
PIECE = 1 << 26
"""Bytes that have a digest of their own."""
_GROUP_BYTES = 1 << 26
_GROUP_BLOCKS = 64


def digest_of(data: bytes | memoryview) -> bytes:
    """The checksum of a part of the file."""
    return hashlib.blake2b(data, digest_size=16).digest()


@dataclass(frozen=True)
class Header:
    """What an index says of itself.

    Attributes:
        spec: The layers of every mask.
        names: The masks' names, in row order.
        stamp: What `MaskBank.stamp` was when the index was written.
        small: Digest of the counts and of the masks after the last block.
        pieces: Digests of the masks, rows and chunks, a piece of the file at a time.
    """

    spec: MaskSpec
    names: Sequence[str]
    stamp: str
    small: str
    pieces: Sequence[str]

    @property
    def blocks(self) -> int:
        """How many full blocks of sixteen masks there are."""
        return len(self.names) // LANES

    def to_bytes(self) -> bytes:
        """The start of the file: what says where all else is."""
        layers = [[layer.name, list(layer.shape)] for layer in self.spec]
        fields = {"layers": layers, "names": list(self.names), "stamp": self.stamp, "small": self.small}
        text = json.dumps({**fields, "pieces": list(self.pieces)}, separators=(",", ":")).encode()
        return START.pack(MAGIC, VERSION, 0, len(text), digest_of(text)) + text

    @classmethod
    def of(cls, text: bytes) -> "Header":
        """The header in these bytes of JSON; ValueError, TypeError or KeyError for others."""
        found = parse_object(text.decode())
        layers = {name: tuple(shape) for name, shape in found["layers"]}
        names, pieces = found["names"], found["pieces"]
        if (
            not all(is_name(name) for name in names)
            or len(set(names)) != len(names)
            or len(layers) != len(found["layers"])
        ):
            raise ValueError("names that are none, or that come twice")
        texts = [found["stamp"], found["small"], *pieces]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("digests that are none")
        return cls(MaskSpec(layers), names, texts[0], texts[1], pieces)


@dataclass(frozen=True)
class Places:
    """Where the parts of an index begin, in bytes."""

    counts: int
    rows: int
    blocks: int
    end: int

    @classmethod
    def of(cls, spec: MaskSpec, masks: int, header: int) -> "Places":
        """Of so many masks behind `header` bytes."""
        counts = _up(header, PAGE)
        rows = _up(counts + 4 * spec.bits, PAGE)
        blocks = _up(rows + masks * 8 * spec.words, PAGE)
        return cls(counts, rows, blocks, blocks + masks // LANES * LANES * 8 * spec.words)

    @property
    def pieces(self) -> range:
        """Where the pieces start that have a digest each: all from the rows to the end."""
        return range(self.rows, self.end, PIECE)


def group_of(spec: MaskSpec) -> int:
    """How many blocks are written at a time: at most 64 MiB of them, or one."""
    return max(1, min(_GROUP_BLOCKS, _GROUP_BYTES // (LANES * 8 * spec.words + 1)))


def read_header(start: bytes, rest: bytes, size: int, what: str) -> tuple[Header, Places]:
    """The header from the file's first `START.size` bytes and those that follow, the file being `size` bytes long."""
    magic, version, nothing, length, digest = START.unpack(start)
    if magic != MAGIC:
        raise ForeignFileError(f"{what}: expected an index of masks, found another file")
    if version != VERSION:
        raise FormatVersionError(
            f"{what}: expected an index of version {VERSION}, found version {version}; `write_index` writes it anew"
        )
    if nothing or len(rest) != length or digest_of(rest) != digest:
        raise damaged(what, "a header that is not as it was written")
    try:
        header = Header.of(rest)
        places = Places.of(header.spec, len(header.names), START.size + length)
    except (ValueError, TypeError, KeyError, RecursionError, MaskStoreError) as error:
        raise damaged(what, f"a header that makes no sense ({' '.join(str(error).split())[:100]})") from error
    if places.end != size or len(header.pieces) != len(places.pieces):
        raise damaged(what, f"{size} bytes and {len(header.pieces)} digests where {places.end} bytes belong")
    return header, places


def digests_of(file: BinaryIO, places: Places) -> list[str]:
    """The digests of a file's pieces, which is read from front to back."""
    file.seek(places.rows)
    return [digest_of(file.read(min(PIECE, places.end - start))).hex() for start in places.pieces]


def damaged(what: str, found: str) -> CorruptError:
    """The error for an index that is not as it was written."""
    return CorruptError(f"{what}: expected an intact index, found {found}; `write_index` writes it anew")


def _up(value: int, to: int) -> int:
    return -(-value // to) * to
