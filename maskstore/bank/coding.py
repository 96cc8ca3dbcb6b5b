"""Masks to records and back: coded layers behind an offset table, checksums, and the masks that a mask needs.

`docs/format.md`, "A mask's row", is normative. All integers are little-endian.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskstore.bank import blocks
from maskstore.bank.extras import decode_extras, encode_extras
from maskstore.bank.record import (
    DIGEST_BYTES,
    MAX_BLOB_BYTES,
    Base,
    Record,
)
from maskstore.codecs import (
    BLOCKED_BITS,
    AnyCodec,
    Budget,
    Codec,
    EncodedLayer,
    codec_from_config,
    codec_to_json,
    encode_mask,
    layout_from_json,
    side_by_side,
)
from maskstore.errors import CorruptError, MaskValueError, SpecError
from maskstore.files import Cursor, encode_meta, parse_json, parse_object, write_leb128
from maskstore.masks import LayerSpec, Mask, MaskSpec, bits
from maskstore.priors import Prior, prior_from_config, prior_to_json

_CRC = struct.Struct("<I")
_CHECKSUM_BYTES = 8
_REMEMBERED_BYTES = 1 << 24
_GROUPS, _GROUP_BITS = 16, 1 << 19  # layers that are decoded together: to begin a thread takes as long as many bits,
_QUICK_BYTES = 1 << 17  # or as so many bytes of gaps


class TableEntry(NamedTuple):
    """One layer in the offset table at the start of a record's data."""

    side_bytes: int
    payload_bytes: int
    crc: int
    """CRC-32 of the layer's packed bits, decoded."""

    @property
    def size(self) -> int:
        """Bytes of the coded layer."""
        return self.side_bytes + self.payload_bytes


def encode_record(
    name: str,
    mask: Mask,
    codec: AnyCodec,
    prior: Prior,
    *,
    meta: Mapping[str, Any] | None = None,
    extras: Mapping[str, Any] | None = None,
    bases: Sequence[Base] = (),
) -> Record:
    """Code a mask as a record without id and checksum; see `sealed`. `bases`: what the prior refers to."""
    new = described(name, prior, meta=meta, extras=extras, bases=bases)
    how, data = encode_data(mask, codec, prior, base_masks(bases, mask.spec) if bases else [])
    return replace(new, codec=how, data=data)


def described(
    name: str,
    prior: Prior,
    *,
    meta: Mapping[str, Any] | None = None,
    extras: Mapping[str, Any] | None = None,
    bases: Sequence[Base] = (),
) -> Record:
    """A record of a mask that is yet to be coded; MaskValueError for more extra arrays than a row can have."""
    arrays = encode_extras(extras) if extras else b""
    if len(arrays) > MAX_BLOB_BYTES:
        expected = f"at most {MAX_BLOB_BYTES} bytes of extra arrays"
        raise MaskValueError(f"mask {name!r}: expected {expected}, found {len(arrays)}")
    text = encode_meta(meta) if meta else "{}"
    return Record(0, name, text, "", _prior_text(prior), extras=arrays, bases=tuple(bases))


def encode_data(mask: Mask, codec: AnyCodec, prior: Prior, others: Sequence[Mask] = ()) -> tuple[str, blocks.Data]:
    """What a record says in the place of its codec, and its data."""
    if mask.spec.bits >= BLOCKED_BITS:
        encoder = blocks.BlockEncoder(mask.spec, blocks.layers_of(mask, mask.spec), codec, prior, others)
        data = blocks.Parts(list(encoder))
        return encoder.layout.to_json(), data
    used, layers = encode_mask(codec, mask, prior, others)
    table, chunks = [], []
    for layer, coded in zip(mask.spec.layers, layers, strict=True):
        crc = _CRC.pack(_crc(mask.words[layer.packed], layer))
        table += [write_leb128(len(coded.side)), write_leb128(len(coded.payload)), crc]
        chunks += [coded.side, coded.payload]
    return codec_to_json(used), b"".join(table + chunks)


def in_blocks(text: str) -> bool:
    """Whether a record's text about its codec is that of a mask in blocks."""
    return text.startswith('{"id":"blocks"')


def sealed(record: Record, id: int) -> Record:
    """The record under its row id, with its checksum."""
    unsigned = replace(record, id=id)
    return replace(unsigned, checksum=checksum_of(unsigned))


def checksum_of(record: Record) -> bytes:
    """BLAKE2b-64 over all but the checksum; each part is preceded by its length, so no byte can move between two.

    Of data in blocks only the table is looked at: it has the checksums of the blocks.
    """
    digest = hashlib.blake2b(struct.pack("<q", record.id), digest_size=_CHECKSUM_BYTES)
    texts = (record.name, record.meta, record.codec, record.prior)
    digests = b"".join([base.digest for base in record.bases])
    for part in (*map(str.encode, texts), digests, record.extras):
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    digest.update(struct.pack("<Q", len(record.data)))
    digest.update(blocks.tail_of(record.data, record.what) if in_blocks(record.codec) else record.data[:])
    return digest.digest()


def check_sum(record: Record) -> None:
    """CorruptError unless the record has the checksum it was stored with, and its blocks have theirs."""
    check_own_sum(record)
    if in_blocks(record.codec):
        blocks.check_blocks(record.data, record.what)


def check_own_sum(record: Record) -> None:
    """As `check_sum`, of the row itself: the blocks of a mask in blocks are not looked at."""
    if checksum_of(record) != record.checksum:
        raise CorruptError(f"{record.what}: expected the checksum it was stored with, found other bytes")


def check_content(record: Record, spec: MaskSpec) -> None:
    """CorruptError unless metadata, extra arrays and every bit of a record can be read."""
    decode_extras(record.extras, record.name, record.limit)
    parse_object(record.meta)
    decode_mask(record, spec)


def check_contents(records: Sequence[Record], spec: MaskSpec, limit: int | None) -> None:
    """`check_content` of several; LimitError if all together cost more to decode than the limit allows."""
    budget = Budget(limit)
    for record in records:
        charge(record, spec, budget)
        check_content(record, spec)


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
    few = 8 * spec.words <= _REMEMBERED_BYTES and len(record.data) <= _REMEMBERED_BYTES
    return _remembered(spec, record) if few else decode_mask(record, spec)


@lru_cache(maxsize=16)
def _remembered(spec: MaskSpec, record: Record) -> Mask:
    """Many masks need the same few, so these are decoded once; the key holds every byte that decoding reads."""
    return decode_mask(record, spec)


def standalone(record: Record, spec: MaskSpec) -> Record:
    """A record that needs no other mask, for where those cannot follow: coded anew under what else its prior knows."""
    if not record.bases:
        return record
    codec = "auto" if in_blocks(record.codec) else codec_of(record.codec)
    coded = encode_record(record.name, decode_mask(record, spec), codec, prior_for(record).alone)
    return sealed(replace(coded, meta=record.meta, extras=record.extras), record.id)


def decode_mask(record: Record, spec: MaskSpec, *, unpacked: bool = False, prior: Prior | None = None) -> Mask:
    """All layers of a record; LimitError if that takes more than its source's limit allows.

    `unpacked`: the caller will also unpack it, to a byte for each bit. `prior`: the one that the record's text stands
    for, where that does not say all of it.
    """
    if in_blocks(record.codec):
        charge(record, spec, Budget(record.limit), unpacked=unpacked, prior=prior)
        return Mask(spec, open_blocks(record, spec, prior=prior).decode_all())
    layers = _coded_layers(record, spec)
    charge(record, spec, Budget(record.limit), unpacked=unpacked, layers=layers)
    decode = _layer_decoder(record, spec, base_masks(record.bases, spec), prior)
    quick = codec_of(record.codec).by_ones and len(record.data) < _QUICK_BYTES
    words: NDArray[np.uint64] | None = None
    each = _in_order(spec, quick, lambda index: decode(index, *layers[index]))
    for layer, found in zip(spec, each, strict=True):
        if words is None:  # a hostile file must fail at its first layer, before memory for all of them is taken
            words = found if len(spec) == 1 else np.empty(spec.words, dtype=np.uint64)
        words[layer.packed] = found
    words = np.zeros(0, dtype=np.uint64) if words is None else words
    words.flags.writeable = False
    return Mask(spec, words)


def _in_order(spec: MaskSpec, quick: bool, decode: Callable[[int], NDArray[np.uint64]]) -> Iterator[NDArray[np.uint64]]:
    """The words of each layer, in order; on all cores, if it takes longer than for threads to begin. Those of the first
    layer come before any other is begun."""
    yield decode(0)
    groups: list[list[int]] = []
    share = max(spec.bits // _GROUPS, _GROUP_BITS)
    room = 0
    for index, layer in enumerate(spec.layers[1:], start=1):
        if room <= 0:
            groups, room = [*groups, []], share
        groups[-1].append(index)
        room -= layer.size
    if quick or len(groups) < 2:
        yield from map(decode, range(1, len(spec)))
        return

    def decoded(group: list[int]) -> list[NDArray[np.uint64]]:
        return [decode(index) for index in group]

    for found in side_by_side(partial(decoded, group) for group in groups):
        yield from found


def decode_on_demand(record: Record, spec: MaskSpec) -> Mask:
    """As `decode_mask`; of a mask in blocks, all bytes are read and checked, and layers decoded when they are used."""
    if not in_blocks(record.codec):
        return decode_mask(record, spec)
    charge(record, spec, Budget(record.limit))
    return Mask.on_demand(spec, blocks.HeldBlocks(open_blocks(record, spec)))


def charge(
    record: Record, spec: MaskSpec, budget: Budget, *, unpacked: bool = False, prior: Prior | None = None,
    layers: Sequence[tuple[EncodedLayer, int]] = (),
) -> None:  # fmt: skip
    """Count what decoding a record, and the masks that it needs, will cost; LimitError if that is too much.

    `layers`: those of the record, if its caller has read them.
    """
    for one in (record, *(base.record for base in record.bases)):
        if in_blocks(one.codec):
            open_blocks(one, spec, (), prior=prior).charge_all(budget, record.what, unpacked=unpacked and one is record)
            continue
        codec = codec_of(one.codec)
        for layer, (coded, _) in zip(spec, (one is record and layers) or _coded_layers(one, spec), strict=True):
            budget.spend(record.what, codec, coded, layer, unpacked=unpacked and one is record)


def decode_one(record: Record, spec: MaskSpec, index: int, rows: slice | None = None) -> NDArray[np.bool_]:
    """One layer of a record, or some of its rows, as a bool array; the other layers are not decoded.

    Of a mask in blocks only the blocks that hold the rows are read. SpecError for rows of a layer without a dimension.
    """
    layer, budget = spec.layers[index], Budget(record.limit)
    if rows is not None and not (layer.shape and _is_slice(rows)):
        raise SpecError(f"rows: expected a slice such as slice(0, 10) of a layer with rows, found {rows!r:.40}")
    if in_blocks(record.codec):
        return open_blocks(record, spec).decode_rows(index, rows, budget)
    coded, crc = _coded_layers(record, spec)[index]
    budget.spend(record.what, codec_of(record.codec), coded, layer, unpacked=True)
    words = _layer_decoder(record, spec, base_masks(record.bases, spec))(index, coded, crc)
    whole = bits.unpack(words, layer.size).reshape(layer.shape)
    return whole if rows is None else whole[rows].copy()


def _is_slice(rows: object) -> bool:
    try:
        return isinstance(rows, slice) and bool(rows.indices(1))
    except (TypeError, ValueError):  # of what are no whole numbers, or a step of zero
        return False


def layer_bytes(record: Record, spec: MaskSpec) -> list[tuple[int, int]]:
    """(payload bytes, side bytes) of each layer."""
    if in_blocks(record.codec):
        table = blocks.read_table(record.data, spec, layout_from_json(record.codec), record.what)
        cuts = [table.entries[first : first + len(cut)] for first, cut in zip(table.starts, table.cuts, strict=False)]
        return [(int(cut["payload"].sum(dtype=np.int64)), int(cut["side"].sum(dtype=np.int64))) for cut in cuts]
    entries, _ = read_table(record.data[:], spec, record.what, len(record.data))
    return [(entry.payload_bytes, entry.side_bytes) for entry in entries]


def open_blocks(
    record: Record, spec: MaskSpec, others: Sequence[Mask] | None = None, *, prior: Prior | None = None
) -> blocks.BlockDecoder:
    """What decodes the blocks of a record in blocks; `others` are its bases, decoded, or decoded here if not given.

    `prior`: as in `decode_mask`.
    """
    known = prior or prior_for(record)
    known.check_bases(len(record.bases))
    layout = layout_from_json(record.codec)
    if others is None:
        others = base_masks(record.bases, spec)
    return blocks.BlockDecoder(record.data, layout, spec, known, others, record.what)


def _coded_layers(record: Record, spec: MaskSpec) -> list[tuple[EncodedLayer, int]]:
    """Each layer's bytes and the checksum of its bits."""
    data = record.data[:]
    entries, start = read_table(data, spec, record.what, len(data))
    layers = []
    for side, payload, crc in entries:
        layers.append((EncodedLayer(data[start : start + side], data[start + side : start + side + payload]), crc))
        start += side + payload
    return layers


def _layer_decoder(
    record: Record, spec: MaskSpec, others: Sequence[Mask], given: Prior | None = None
) -> Callable[[int, EncodedLayer, int], NDArray[np.uint64]]:
    """A function of a layer's index, its bytes and the checksum of its bits, that gives its packed words.

    `others` are the record's bases, decoded; `given` is its prior, where its text does not say all of it.
    """
    codec, prior = codec_of(record.codec), given or prior_for(record)
    prior.check_bases(len(others))

    def decode(index: int, coded: EncodedLayer, crc: int) -> NDArray[np.uint64]:
        layer = spec.layers[index]
        words = codec.decode_layer(coded, layer, lambda: prior.contexts(spec, index, others))
        if _crc(words, layer) != crc:
            expected = f"expected CRC-32 {crc:08x}"
            raise CorruptError(f"{record.what}, layer {layer.name!r}: {expected}, found other bits")
        return words

    return decode


@lru_cache(maxsize=64)
def codec_of(text: str) -> Codec:
    """The codec that a record's text describes."""
    return codec_from_config(parse_json(text))


@lru_cache(maxsize=256)
def prior_of(text: str) -> Prior:
    """The prior that a record's text describes."""
    return prior_from_config(parse_json(text))


def prior_for(record: Record) -> Prior:
    """The prior of a record, with the weights that it needs; BackboneError if these are missing or others."""
    return prior_of(record.prior).over(record.backbone, record.what)


_prior_text = lru_cache(maxsize=256)(prior_to_json)


def read_table(data: bytes, spec: MaskSpec, what: str, total: int) -> tuple[list[TableEntry], int]:
    """The offset table at the start of `data`, an entry a layer, and where it ends.

    CorruptError unless the entries account for exactly `total` bytes.
    """
    cursor = Cursor(data, what)
    entries = [TableEntry(cursor.leb128(), cursor.leb128(), *cursor.numbers(_CRC)) for _ in spec]
    expected = cursor.at + sum(entry.size for entry in entries)
    if expected != total:
        raise CorruptError(f"{what}: expected {expected} bytes of data, found {total}")
    return entries, cursor.at


def _crc(words: NDArray[np.uint64], layer: LayerSpec) -> int:
    return zlib.crc32(bits.as_bytes(words)[: layer.bytes].data)
