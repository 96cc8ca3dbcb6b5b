"""Ways to store binary masks that others use, all under one rule: packed masks in, bytes out, the same masks back.

What a decoder must know beside the bytes (the layers' shapes, the number of masks) is taken as given, since every
format needs it; where the bytes come in pieces of no fixed length, each piece costs 4 bytes of index.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from bitarray.util import sc_decode, sc_encode
from numpy.typing import NDArray

from benchmarks.storage import huffman
from benchmarks.storage.clock import RUNS, timed
from maskstore import Mask, MaskSpec
from maskstore.masks import bits

INDEX_BYTES = 4
ZSTD_LEVEL = 19


@dataclass(frozen=True)
class Format:
    """Masks of one spec to pieces of bytes, and back: `decode(encode(masks), spec) == masks`."""

    title: str
    encode: Callable[[Sequence[Mask]], list[bytes]]
    decode: Callable[[list[bytes], MaskSpec], list[Mask]]
    indexed: bool = True
    """Whether the pieces have lengths that must be written down."""

    def size(self, pieces: list[bytes]) -> dict[str, int]:
        """Bytes by what they are for."""
        return {"masks": sum(map(len, pieces)), "index": INDEX_BYTES * len(pieces) if self.indexed else 0}


def measure_format(
    form: Format, masks: Sequence[Mask], runs: int = RUNS
) -> tuple[dict[str, int], float | None, float | None]:
    """Bytes by what they are for, processor seconds of encoding and of decoding; AssertionError for another mask."""
    coded, encoding = timed(lambda: form.encode(masks), runs)
    decoded, decoding = timed(lambda: form.decode(coded, masks[0].spec), runs)
    assert decoded == list(masks), f"{form.title}: a mask did not come back"
    return form.size(coded), encoding, decoding


def each_mask(
    title: str, encode: Callable[[Mask], bytes], decode: Callable[[bytes, MaskSpec], Mask], *, indexed: bool = True
) -> Format:
    """A format that stores every mask by itself."""
    return Format(
        title,
        lambda masks: [encode(mask) for mask in masks],
        lambda pieces, spec: [decode(piece, spec) for piece in pieces],
        indexed,
    )


def packed(mask: Mask) -> bytes:
    """One bit a weight, layers end to end, each from a byte on."""
    return b"".join(mask.layer_bytes(layer.name).tobytes() for layer in mask.spec)


def unpacked(data: bytes, spec: MaskSpec) -> Mask:
    """What `packed` was given."""
    words, start = np.zeros(spec.words, dtype=np.uint64), 0
    for layer in spec:
        words[layer.packed] = bits.from_bytes(data[start : start + layer.bytes], layer.size)
        start += layer.bytes
    return Mask(spec, words)


def zstd(mask: Mask) -> bytes:
    """The packed bits under a general compressor."""
    import zstandard

    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(packed(mask))


def from_zstd(data: bytes, spec: MaskSpec) -> Mask:
    """What `zstd` was given."""
    import zstandard

    return unpacked(zstandard.ZstdDecompressor().decompress(data), spec)


def csr16(dense: NDArray[np.bool_]) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """A matrix as compressed sparse rows: column indices in 16 bits and row ends in 32."""
    return np.nonzero(dense)[1].astype(np.uint16), np.cumsum(dense.sum(axis=1)).astype(np.uint32)


def from_csr16(coded: tuple[NDArray[np.uint16], NDArray[np.uint32]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """What `csr16` was given."""
    columns, ends = coded
    dense = np.zeros(shape, dtype=bool)
    dense[np.repeat(np.arange(shape[0]), np.diff(ends, prepend=0)), columns] = True
    return dense


def csr_mask(mask: Mask) -> bytes:
    """Each layer as a matrix `(out, everything else)` in `csr16`: row ends, then columns; the last end is their number.

    ValueError for rows of more than 65536 columns.
    """
    pieces = []
    for layer in mask.spec:
        dense = mask.layer(layer.name).reshape(layer.shape[0], -1)
        if dense.shape[1] > 1 << 16:
            raise ValueError(f"layer {layer.name!r}: expected rows of at most 65536 columns, found {dense.shape[1]}")
        columns, ends = csr16(dense)
        pieces += [ends.tobytes(), columns.tobytes()]
    return b"".join(pieces)


def from_csr_mask(data: bytes, spec: MaskSpec) -> Mask:
    """What `csr_mask` was given."""
    dense, start = {}, 0
    for layer in spec:
        rows = layer.shape[0]
        ends = np.frombuffer(data, dtype=np.uint32, count=rows, offset=start)
        start += ends.nbytes
        columns = np.frombuffer(data, dtype=np.uint16, count=int(ends[-1]), offset=start)
        start += columns.nbytes
        dense[layer.name] = from_csr16((columns, ends), (rows, layer.size // rows)).reshape(layer.shape)
    return Mask.from_dense(dense, spec)


def roaring(mask: Mask) -> bytes:
    """The set positions, flat over all layers, as a roaring bitmap (Lemire et al. 2016), runs merged where it pays."""
    import pyroaring

    bitmap = pyroaring.BitMap(np.flatnonzero(mask.flat()).astype(np.uint32))
    bitmap.run_optimize()
    return bytes(bitmap.serialize())


def from_roaring(data: bytes, spec: MaskSpec) -> Mask:
    """What `roaring` was given."""
    import pyroaring

    flat = np.zeros(spec.bits, dtype=bool)
    flat[np.asarray(pyroaring.BitMap.deserialize(data).to_array())] = True
    return Mask.from_flat(flat, spec)


def bitarray_sparse(mask: Mask) -> bytes:
    """bitarray's own code for sparse bits, over all packed words."""
    return bytes(sc_encode(mask.as_bitarray()))


def from_bitarray_sparse(data: bytes, spec: MaskSpec) -> Mask:
    """What `bitarray_sparse` was given."""
    words = np.frombuffer(sc_decode(data).tobytes(), dtype="<u8")
    return Mask(spec, words.astype(np.uint64))


def _stacked(masks: Sequence[Mask]) -> list[bytes]:
    flat = np.stack([mask.flat() for mask in masks])
    return [huffman.encode(flat[first : first + huffman.STACKED]) for first in range(0, len(flat), huffman.STACKED)]


def _unstacked(pieces: list[bytes], spec: MaskSpec) -> list[Mask]:
    return [Mask.from_flat(flat, spec) for piece in pieces for flat in huffman.decode(piece, spec.bits)]


FORMATS = {
    "bit-packing": each_mask("bit-packing", packed, unpacked, indexed=False),
    "zstd": each_mask(f"zstd, level {ZSTD_LEVEL}, of the packed bits", zstd, from_zstd),
    "csr-16": each_mask("CSR, 16-bit indices", csr_mask, from_csr_mask),
    "roaring": each_mask("roaring bitmap", roaring, from_roaring),
    "bitarray-sparse": each_mask("bitarray's sparse code", bitarray_sparse, from_bitarray_sparse),
    "wsn-huffman": Format(f"Huffman over {huffman.STACKED} stacked masks (WSN)", _stacked, _unstacked),
}
