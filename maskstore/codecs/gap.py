"""`gap`: the runs of zeros between ones; both its bytes and its time grow with the ones, not with the length.

Side information: a LEB128 integer 2 * count + flipped, then, if count > 0, one byte: the binary digits of the longest
gap. `flipped` is 1 where the zeros are the rarer kind and are coded instead. Payload: the gaps' digits through the
range coder. See `docs/format-codecs.md`, "Codec gap".
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.base import ContextSource, EncodedLayer, EntropyCodec
from maskstore.errors import CorruptError
from maskstore.masks import LayerSpec, bits


@dataclass(frozen=True)
class Gap(EntropyCodec):
    """Sparse coding: within a fraction of a per cent of the entropy for independent bits of any density."""

    id: ClassVar[str] = "gap"

    def _encode(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        """Find the rarer kind of bit and code the gaps between its places."""
        from maskstore.codecs.coders import gap_loop as gaps

        where, flipped, digits = _measure(words, layer.size)
        head = _write_leb128(2 * where.size + flipped)
        if not where.size:
            return EncodedLayer(head, b"")
        return EncodedLayer(head + bytes([digits]), gaps.encode(where, layer.size, digits))

    def _decode(
        self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource, words: NDArray[np.uint64]
    ) -> None:
        """Every position must lie inside the layer, and every byte must have been needed."""
        value, used = _read_leb128(coded.side)
        count, flipped = value >> 1, value & 1
        side = used + (1 if count else 0)
        if not used or len(coded.side) != side or 2 * count > layer.size or (not count and coded.payload):
            raise CorruptError(f"layer {layer.name!r}: expected the number of rarer bits, at most half of {layer.size},"
                               " and their longest gap's digits, found other bytes")  # fmt: skip
        if count:
            from maskstore.codecs.coders import gap_loop as gaps
            from maskstore.codecs.coders import range_coder as rangecoder

            digits = coded.side[used]
            if digits > layer.size.bit_length() or rangecoder.fewest_bytes(count * digits) > len(coded.payload):
                raise CorruptError(f"layer {layer.name!r}: expected {count} gaps of {digits} digits in "
                                   f"{len(coded.payload)} bytes, which cannot hold them")  # fmt: skip
            if not gaps.decode(coded.payload, count, layer.size, digits, words):
                raise CorruptError(f"layer {layer.name!r}: expected gaps that end inside the layer, found others")
        if flipped:
            np.invert(words, out=words)
            if layer.size % 64:
                words[-1] &= np.uint64((1 << layer.size % 64) - 1)


def estimate_bits(words: NDArray[np.uint64], size: int) -> float:
    """What `Gap` would need for a layer, in bits: within a few per cent of what it then takes."""
    if size == 0:
        return 0.0
    from maskstore.codecs.coders import gap_loop as gaps

    where, flipped, digits = _measure(words, size)
    head = len(_write_leb128(2 * where.size + flipped))
    return 8.0 * head + (gaps.estimate_bits(where, size, digits) + 16 if where.size else 0)


def _measure(words: NDArray[np.uint64], size: int) -> tuple[NDArray[np.int64], bool, int]:
    """(places of the rarer kind of bit, whether that kind is 0, binary digits of the longest gap)."""
    from maskstore.codecs.coders import gap_loop as gaps

    ones = bits.popcount(words)
    flipped = 2 * ones > size
    where = gaps.positions(words, size, size - ones if flipped else ones, flipped)
    longest = int(np.diff(where, prepend=-1).max()) - 1 if where.size else 0
    return where, flipped, longest.bit_length()


def _write_leb128(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _read_leb128(data: bytes) -> tuple[int, int]:
    """(value, bytes used); no bytes used if `data` does not begin with one in its shortest form."""
    value = 0
    for i, byte in enumerate(data[:10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return (value, i + 1) if byte or i == 0 else (0, 0)
    return 0, 0
