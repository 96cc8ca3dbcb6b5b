"""One stored mask as bytes: the data (offset table and coded layers), the extras, the masks it needs, and the checksum.

`docs/format.md`, "A mask's row", is normative for all three. All integers are little-endian.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.bank.templates import read_leb128, write_leb128
from maskstore.codecs import AnyCodec, Codec, EncodedLayer, codec_from_config, codec_to_json, encode_mask
from maskstore.errors import CorruptError, MaskValueError
from maskstore.files import encode_meta, parse_json
from maskstore.masks import LayerSpec, Mask, MaskSpec, bits
from maskstore.priors import Prior, prior_from_config, prior_to_json

_CRC = struct.Struct("<I")
_ENTRY_LIMIT = 2 * 5 + _CRC.size  # two lengths below 2**35 and a CRC-32
CHECKSUM_BYTES = 8
DIGEST_BYTES = 8
_EXTRA_DTYPES = frozenset(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"])
_REMEMBERED_BYTES = 1 << 20
MAX_BLOB_BYTES = 1_000_000_000  # SQLite's own limit


@dataclass(frozen=True)
class Base:
    """A mask that another one was coded against."""

    digest: bytes
    """`digest_of` the mask; what is decoded from the record must have it."""
    record: "Record"
    """Its row; one that needs no mask itself."""


@dataclass(frozen=True)
class Record:
    """One row of a bank, its texts written out. A snapshot's name is empty."""

    id: int
    name: str
    meta: str
    codec: str
    prior: str
    checksum: bytes
    extras: bytes
    data: bytes
    bases: tuple[Base, ...] = ()
    """The masks that the prior refers to."""

    def compute_checksum(self) -> bytes:
        """BLAKE2b-64 over everything else; each part is preceded by its length, so no byte can move between two."""
        digest = hashlib.blake2b(struct.pack("<q", self.id), digest_size=CHECKSUM_BYTES)
        columns = [self.name.encode(), self.meta.encode(), self.codec.encode(), self.prior.encode()]
        for column in [*columns, b"".join(base.digest for base in self.bases), self.extras, self.data]:
            digest.update(struct.pack("<Q", len(column)))
            digest.update(column)
        return digest.digest()

    def check(self) -> None:
        """CorruptError unless the checksum fits."""
        if self.compute_checksum() != self.checksum:
            raise CorruptError(f"{self.what}: expected the checksum it was stored with, found other bytes")

    @property
    def what(self) -> str:
        """What to call it in a message."""
        return f"mask {self.name!r}" if self.name else "a mask that others need"


def encode_record(
    name: str,
    mask: Mask,
    codec: AnyCodec,
    prior: Prior,
    meta: Mapping[str, Any],
    extras: Mapping[str, Any],
    bases: Sequence[Base] = (),
) -> Record:
    """Code a mask as a record without id and checksum; see `sealed`. `bases`: what the prior refers to."""
    others = base_masks(bases, mask.spec)
    used, layers = encode_mask(codec, mask, prior, others)
    table, chunks = [], []
    for layer, coded in zip(mask.spec, layers, strict=True):
        crc = _CRC.pack(_crc(mask.words[layer.packed], layer))
        table += [write_leb128(len(coded.side)), write_leb128(len(coded.payload)), crc]
        chunks += [coded.side, coded.payload]
    data = b"".join(table + chunks)
    if len(data) > MAX_BLOB_BYTES:
        raise MaskValueError(f"mask {name!r}: expected at most {MAX_BLOB_BYTES} coded bytes, found {len(data)}")
    texts = encode_meta(meta), codec_to_json(used), prior_to_json(prior)
    return Record(0, name, *texts, b"", encode_extras(extras), data, tuple(bases))


def sealed(record: Record, id: int) -> Record:
    """The record under its row id, with its checksum."""
    unsigned = replace(record, id=id)
    return replace(unsigned, checksum=unsigned.compute_checksum())


def digest_of(mask: Mask) -> bytes:
    """BLAKE2b-64 of a mask's packed bytes, layer after layer: by it others refer to the mask."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for layer in mask.spec:
        digest.update(bits.as_bytes(mask.words[layer.packed])[: layer.bytes].data)
    return digest.digest()


def base_masks(bases: Sequence[Base], spec: MaskSpec) -> list[Mask]:
    """The masks that a record needs, decoded; CorruptError if one has other bits than the record says."""
    found = []
    for base in bases:
        if base.record.bases:
            raise CorruptError(f"{base.record.what}: expected a mask that needs no other, found that it does")
        mask = _decode_often(base.record, spec)
        if digest_of(mask) != base.digest:
            raise CorruptError(f"{base.record.what}: expected the bits that others were coded against, found others")
        found.append(mask)
    return found


def has_mask(record: Record, digest: bytes, spec: MaskSpec) -> bool:
    """Whether a record that needs no other has the mask of this digest."""
    return digest_of(_decode_often(record, spec)) == digest


def _decode_often(record: Record, spec: MaskSpec) -> Mask:
    return _remembered(spec, record) if len(record.data) <= _REMEMBERED_BYTES else decode_mask(record, spec)


@lru_cache(maxsize=16)
def _remembered(spec: MaskSpec, record: Record) -> Mask:
    """Many masks need the same few, so these are decoded once; the key holds every byte that decoding reads."""
    return decode_mask(record, spec)


def standalone(record: Record, spec: MaskSpec) -> Record:
    """A record that needs no other mask, for where those cannot follow: coded anew under what else its prior knows."""
    if not record.bases:
        return record
    prior = prior_from_config(parse_json(record.prior)).alone
    codec = codec_from_config(parse_json(record.codec))
    coded = encode_record(record.name, decode_mask(record, spec), codec, prior, {}, {})
    return sealed(replace(coded, meta=record.meta, extras=record.extras), record.id)


def decode_mask(record: Record, spec: MaskSpec) -> Mask:
    """All layers of a record."""
    entries, start = read_table(record.data, spec, record.what, len(record.data))
    others = base_masks(record.bases, spec)
    # layer by layer into a list: a hostile spec must fail at its first layer, before memory for all of them is taken
    layers = [np.zeros(0, dtype=np.uint64)]
    decode = layer_decoder(record, spec, others)
    for index, (side, payload, _) in enumerate(entries):
        layers.append(decode(index, entries[index], record.data[start : start + side + payload]))
        start += side + payload
    words = np.concatenate(layers)
    words.flags.writeable = False
    return Mask(spec, words)


def layer_decoder(
    record: Record, spec: MaskSpec, others: Sequence[Mask]
) -> Callable[[int, tuple[int, int, int], bytes], NDArray[np.uint64]]:
    """A function of a layer's index, its entry of the offset table and its bytes, that gives its packed words.

    `record` may lack data; `others` are its bases, decoded.
    """
    codec, prior = _codec_of(record.codec), _prior_of(record.prior)
    prior.check_bases(len(others))
    return partial(_decode_layer, record, spec, codec, prior, others)


def _decode_layer(
    record: Record,
    spec: MaskSpec,
    codec: Codec,
    prior: Prior,
    others: Sequence[Mask],
    index: int,
    entry: tuple[int, int, int],
    chunk: bytes,
) -> NDArray[np.uint64]:
    side, _, crc = entry
    layer = spec.layers[index]
    coded = EncodedLayer(chunk[:side], chunk[side:])
    words = codec.decode_layer(coded, layer, lambda: prior.contexts(spec, index, others))
    if _crc(words, layer) != crc:
        raise CorruptError(f"{record.what}, layer {layer.name!r}: expected CRC-32 {crc:08x}, found other bits")
    return words


@lru_cache(maxsize=64)
def _codec_of(text: str) -> Codec:
    return codec_from_config(parse_json(text))


@lru_cache(maxsize=256)
def _prior_of(text: str) -> Prior:
    return prior_from_config(parse_json(text))


def table_limit(spec: MaskSpec) -> int:
    """The most bytes that the offset table at the start of the data can take."""
    return _ENTRY_LIMIT * len(spec)


def read_table(data: bytes, spec: MaskSpec, what: str, total: int) -> tuple[list[tuple[int, int, int]], int]:
    """The offset table at the start of `data`: (bytes of side information, of payload, CRC-32) of each layer.

    Also returns where the table ends. CorruptError unless the entries account for exactly `total` bytes.
    """
    entries, at = [], 0
    for _ in spec:
        side, at = read_leb128(data, at)
        payload, at = read_leb128(data, at)
        if at + _CRC.size > len(data):
            raise CorruptError(f"{what}: expected an offset table of {len(spec)} layers, found {len(data)} bytes")
        entries.append((side, payload, *_CRC.unpack_from(data, at)))
        at += _CRC.size
    expected = at + sum(side + payload for side, payload, _ in entries)
    if expected != total:
        raise CorruptError(f"{what}: expected {expected} bytes of data, found {total}")
    return entries, at


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
        values = np.frombuffer(data, dtype="<" + dtype, count=prod(shape), offset=start)
        try:
            arrays[key] = values.reshape(shape).copy()
        except ValueError:  # more dimensions than numpy has, or a size beside a 0 that no machine has
            raise wrong from None
        start += size
    if start != len(data):
        raise wrong
    return arrays


def _crc(words: NDArray[np.uint64], layer: LayerSpec) -> int:
    return zlib.crc32(bits.as_bytes(words)[: layer.bytes].data)
