"""`gap`: the runs of zeros between ones; both its bytes and its time grow with the ones, not with the length.

Side information: a LEB128 integer 2 * count + flipped, then, if count > 0, one byte: the binary digits of the longest
gap. `flipped` is 1 where the zeros are the rarer kind and are coded instead. Payload: the gaps' digits through the
range coder. See `docs/format-codecs.md`, "Codec gap".
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.base import ContextSource, EncodedLayer, EntropyCodec, Plan
from maskstore.errors import CorruptError
from maskstore.files import Cursor
from maskstore.masks import LayerSpec, bits


@dataclass(frozen=True)
class Gap(EntropyCodec):
    """Sparse coding: within a fraction of a per cent of the entropy for independent bits of any density.

    Decodes faster than any other codec where one bit in a hundred is set, or is not.

    Examples:
        >>> import numpy as np
        >>> from maskstore import Mask, Uniform
        >>> from maskstore.codecs import Gap, encode_mask, size_of
        >>> mask = Mask.from_dense({"fc1": np.random.default_rng(0).random((300, 784)) < 0.01})
        >>> _, layers = encode_mask(Gap(), mask, Uniform())
        >>> size_of(layers), mask.nbytes
        (2413, 29400)
    """

    id: ClassVar[str] = "gap"
    costs_by_side: ClassVar[bool] = True

    def _encode(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        from maskstore.codecs.coders import gap_loop

        return gap_loop.code(layer.size, *gap_loop.measure(words, layer.size))

    def _plan(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> Plan:
        """The digits of the gaps, counted, tell the bits within a few per cent."""
        from maskstore.codecs.coders import gap_loop

        return gap_loop.plan(words, layer.size)

    def cost(self, coded: EncodedLayer, layer: LayerSpec) -> int:
        """The packed bits, and the time that the gaps take."""
        count, digits = _described(coded, layer)[::2] if layer.size else (0, 0)
        return layer.bytes + 4 * count * digits

    def _decode(
        self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource, words: NDArray[np.uint64]
    ) -> None:
        """Every position must lie inside the layer, and every byte must have been needed."""
        from maskstore.codecs.coders import gap_loop, range_coder

        count, flipped, digits = _described(coded, layer)
        if count:
            if digits > layer.size.bit_length() or range_coder.fewest_bytes(count * digits) > len(coded.payload):
                raise CorruptError(f"layer {layer.name!r}: expected bytes enough for {count} gaps of {digits} "
                                   f"digits, found {len(coded.payload)}")  # fmt: skip
            data, model = range_coder.as_array(coded.payload), gap_loop.model(layer.size, count, digits)
            if not gap_loop.decode(data, count, layer.size, digits, *model, words):
                raise CorruptError(f"layer {layer.name!r}: expected gaps that end inside the layer, found others")
        if flipped:
            np.invert(words, out=words)
            bits.clear_padding(words, layer.size)


def _described(coded: EncodedLayer, layer: LayerSpec) -> tuple[int, int, int]:
    """(number of the rarer bits, whether those are zeros, binary digits of the longest gap)."""
    cursor = Cursor(coded.side, f"layer {layer.name!r}")
    value = cursor.leb128()
    count = value >> 1
    if cursor.left != (count > 0) or 2 * count > layer.size or (not count and coded.payload):
        raise CorruptError(f"layer {layer.name!r}: expected the number of rarer bits, at most half of {layer.size}, "
                           "and their longest gap's digits, found other bytes")  # fmt: skip
    return count, value & 1, coded.side[-1] if count else 0
