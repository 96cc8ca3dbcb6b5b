"""One stored mask as bytes: the data blob (offset table and coded layers), the extras blob and the checksum.

`docs/format.md`, "A mask's row", is normative for all three. All integers are little-endian.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore import bits
from maskstore.codecs.auto import Auto, encode_mask
from maskstore.codecs.base import Codec, EncodedLayer
from maskstore.errors import CorruptError, MaskValueError
from maskstore.mask import Mask
from maskstore.priors import Prior, prior_from_config, prior_to_json
from maskstore.registry import codec_from_config, codec_to_json
from maskstore.spec import LayerSpec, MaskSpec

_ENTRY = struct.Struct("<III")  # bytes of side information, bytes of payload, CRC-32 of the layer's packed bytes
CHECKSUM_BYTES = 16
_EXTRA_DTYPES = frozenset(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"])
MAX_BLOB_BYTES = 1_000_000_000  # SQLite's own limit


@dataclass(frozen=True)
class Record:
    """One row of a bank, as stored."""

    id: int
    name: str
    meta: str
    codec: str
    prior: str
    checksum: bytes
    extras: bytes
    data: bytes

    def compute_checksum(self) -> bytes:
        """BLAKE2b-128 over every other column; each is preceded by its length, so no byte can move between two."""
        digest = hashlib.blake2b(struct.pack("<q", self.id), digest_size=CHECKSUM_BYTES)
        columns = [self.name.encode(), self.meta.encode(), self.codec.encode(), self.prior.encode()]
        for column in [*columns, self.extras, self.data]:
            digest.update(struct.pack("<Q", len(column)))
            digest.update(column)
        return digest.digest()

    def check(self) -> None:
        """CorruptError unless the checksum fits."""
        if self.compute_checksum() != self.checksum:
            raise CorruptError(f"mask {self.name!r}: expected the checksum it was stored with, found other bytes")


def encode_record(
    name: str, mask: Mask, codec: Codec, prior: Prior, meta: Mapping[str, Any], extras: Mapping[str, Any]
) -> Record:
    """Code a mask as a record without id and checksum; see `sealed`."""
    if isinstance(codec, Auto):
        codec, layers = codec.encode(mask, prior)
    else:
        layers = encode_mask(codec, mask, prior)
    table, chunks = [], []
    for layer, coded in zip(mask.spec, layers, strict=True):
        table.append(_ENTRY.pack(len(coded.side), len(coded.payload), _crc(mask.words[layer.packed], layer)))
        chunks += [coded.side, coded.payload]
    data = b"".join(table + chunks)
    if len(data) > MAX_BLOB_BYTES:
        raise MaskValueError(f"mask {name!r}: expected at most {MAX_BLOB_BYTES} coded bytes, found {len(data)}")
    return Record(
        0, name, encode_meta(meta), codec_to_json(codec), prior_to_json(prior), b"", encode_extras(extras), data
    )


def sealed(record: Record, id: int) -> Record:
    """The record under its row id, with its checksum."""
    unsigned = Record(id, record.name, record.meta, record.codec, record.prior, b"", record.extras, record.data)
    return Record(**{**unsigned.__dict__, "checksum": unsigned.compute_checksum()})


def decode_mask(record: Record, spec: MaskSpec) -> Mask:
    """All layers of a record."""
    entries = read_table(record.data, spec, record.name, len(record.data))
    # layer by layer into a list: a hostile spec must fail at its first layer, before memory for all of them is taken
    layers, start = [np.zeros(0, dtype=np.uint64)], table_bytes(spec)
    for index, (side, payload, _) in enumerate(entries):
        chunk = record.data[start : start + side + payload]
        layers.append(decode_layer(record, spec, index, entries[index], chunk))
        start += side + payload
    words = np.concatenate(layers)
    words.flags.writeable = False
    return Mask(spec, words)


def decode_layer(
    record: Record, spec: MaskSpec, index: int, entry: tuple[int, int, int], chunk: bytes
) -> NDArray[np.uint64]:
    """The packed words of one layer from its entry of the offset table and its bytes; `record` may lack data."""
    side, _, crc = entry
    codec, prior = codec_from_config(parse_json(record.codec)), prior_from_config(parse_json(record.prior))
    layer = spec.layers[index]
    words = codec.decode_layer(EncodedLayer(chunk[:side], chunk[side:]), layer, lambda: prior.contexts(spec, index))
    if _crc(words, layer) != crc:
        raise CorruptError(f"mask {record.name!r}, layer {layer.name!r}: expected CRC-32 {crc:08x}, found other bits")
    return words


def table_bytes(spec: MaskSpec) -> int:
    """Bytes of the offset table at the start of a data blob."""
    return _ENTRY.size * len(spec)


def read_table(data: bytes, spec: MaskSpec, name: str, total: int) -> Sequence[tuple[int, int, int]]:
    """Entries of the offset table; CorruptError unless they account for exactly `total` bytes of data."""
    if len(data) < table_bytes(spec):
        raise CorruptError(f"mask {name!r}: expected an offset table of {table_bytes(spec)} bytes, found {len(data)}")
    entries = list(_ENTRY.iter_unpack(data[: table_bytes(spec)]))
    expected = table_bytes(spec) + sum(side + payload for side, payload, _ in entries)
    if expected != total:
        raise CorruptError(f"mask {name!r}: expected {expected} bytes of data, found {total}")
    return entries


def encode_meta(meta: Mapping[str, Any]) -> str:
    """Canonical compact JSON; MaskValueError for what JSON cannot hold (NaN too)."""
    try:
        text = json.dumps(dict(meta), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        text.encode()  # an unpaired surrogate is valid in a Python string, but not in a file
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise MaskValueError(f"metadata: expected JSON values, found {error}") from None


def parse_json(text: str) -> Any:
    """JSON from a stored column; CorruptError if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CorruptError(f"stored JSON: expected JSON, found {text[:60]!r}") from None


def encode_extras(extras: Mapping[str, Any]) -> bytes:
    """Arrays as a 4-byte header length, a JSON header `{name: [dtype, shape]}` and the raw bytes in order."""
    if not extras:
        return b""
    header, chunks = {}, []
    for name, value in extras.items():
        if not isinstance(name, str):
            raise MaskValueError(f"extras: expected names that are strings, found {name!r:.40}")
        array = np.asarray(value)
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).reshape(array.shape)
        if array.dtype.str[1:] not in _EXTRA_DTYPES:
            raise MaskValueError(f"extras {name!r}: expected numbers or bools, found dtype {array.dtype}")
        header[name] = [array.dtype.str[1:], list(array.shape)]
        chunks.append(array.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    return b"".join([struct.pack("<I", len(text)), text, *chunks])


def decode_extras(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    """What `encode_extras` was given; CorruptError on anything else."""
    if not data:
        return {}
    wrong = CorruptError(f"mask {name!r}: expected its extra arrays, found bytes that do not describe them")
    length = int.from_bytes(data[:4], "little")
    header = parse_json(data[4 : 4 + length].decode(errors="replace"))
    if not isinstance(header, dict):
        raise wrong
    arrays, start = {}, 4 + length
    for key, entry in header.items():
        match entry:
            case [str(dtype), list(shape)] if dtype in _EXTRA_DTYPES and all(type(n) is int and n >= 0 for n in shape):
                size = prod(shape) * np.dtype(dtype).itemsize
            case _:
                raise wrong
        if start + size > len(data):
            raise wrong
        arrays[key] = np.frombuffer(data, dtype="<" + dtype, count=prod(shape), offset=start).reshape(shape).copy()
        start += size
    if start != len(data):
        raise wrong
    return arrays


def _crc(words: NDArray[np.uint64], layer: LayerSpec) -> int:
    return zlib.crc32(bits.as_bytes(words)[: layer.bytes].data)
