"""`gap`: the runs of zeros between ones; both its bytes and its time grow with the ones, not with the length.

`context-gap` is the same over bits in another order.

Side information: a LEB128 integer 2 * count + flipped, then, if count > 0, one byte: the binary digits of the longest
gap. `flipped` is 1 where the zeros are the rarer kind and are coded instead. Payload: the gaps' digits through the
range coder. See `docs/format-codecs.md`, "Codec gap".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.base import ContextSource, EncodedLayer, EntropyCodec, Plan
from maskstore.errors import CorruptError
from maskstore.files import Cursor
from maskstore.masks import LayerSpec, bits
from maskstore.priors import Places


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
    by_ones: ClassVar[bool] = True

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
        _decode(coded, layer, lambda: _THEMSELVES, words)


@dataclass(frozen=True)
class ContextGap(EntropyCodec):
    """`Gap` over the bits in the order of their contexts: those of a context, and of its neighbours, are alike.

    Of a sparse mask under a prior with ordered contexts, within a few per cent of `Ans`, and decoded several times as
    fast where the prior keeps that order, as `KeptWeights` does.

    Examples:
        A mask that drops one weight in a hundred, mostly small ones:

        >>> import numpy as np
        >>> from maskstore import Backbone, KeptWeights, Mask
        >>> from maskstore.codecs import Ans, ContextGap, Gap, encode_mask, size_of
        >>> rng = np.random.default_rng(0)
        >>> weights = rng.normal(size=(300, 784)).astype("f4")
        >>> dropped = rng.random(weights.shape) < 0.03 * np.exp(-abs(weights) / 0.5)
        >>> mask, prior = Mask.from_dense({"fc": ~dropped}), KeptWeights(Backbone({"fc": weights}))
        >>> [size_of(encode_mask(codec, mask, prior)[1]) for codec in (Gap(), ContextGap(), Ans())]
        [2410, 2324, 2260]
    """

    id: ClassVar[str] = "context-gap"
    weight: ClassVar[int] = 105  # for each bit a byte of context, and eight and four while places are sorted
    by_ones: ClassVar[bool] = True

    def _encode(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        return Gap()._encode(_ordered(words, layer, contexts), layer, contexts)

    def _plan(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> Plan:
        """The digits of the gaps, counted, tell the bits within a few per cent."""
        return Gap()._plan(_ordered(words, layer, contexts), layer, contexts)

    def cost(self, coded: EncodedLayer, layer: LayerSpec) -> int:
        """The packed bits, contexts and places, and the time that the gaps take."""
        return Gap().cost(coded, layer) + (self.weight - 1) * layer.bytes

    def _decode(
        self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource, words: NDArray[np.uint64]
    ) -> None:
        """As `Gap`."""
        _decode(coded, layer, lambda: contexts().by_context(), words)


_THEMSELVES: Places = np.zeros(0, dtype=np.uint32)


def _ordered(words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> NDArray[np.uint64]:
    return bits.pack(bits.unpack(words, layer.size)[contexts().by_context()])


def _decode(coded: EncodedLayer, layer: LayerSpec, places: Callable[[], Places], words: NDArray[np.uint64]) -> None:
    from maskstore.codecs.coders import gap_loop, range_coder

    count, flipped, digits = _described(coded, layer)
    if count:
        if digits > layer.size.bit_length() or range_coder.fewest_bytes(count * digits) > len(coded.payload):
            raise CorruptError(f"layer {layer.name!r}: expected bytes enough for {count} gaps of {digits} "
                               f"digits, found {len(coded.payload)}")  # fmt: skip
        data, model = range_coder.as_array(coded.payload), gap_loop.model(layer.size, count, digits)
        if not gap_loop.decode(data, count, layer.size, digits, *model, places(), words):
            raise CorruptError(f"layer {layer.name!r}: expected gaps that end inside the layer, found others")
    if flipped:
        np.invert(words, out=words)
        bits.clear_padding(words, layer.size)


def _described(coded: EncodedLayer, layer: LayerSpec) -> tuple[int, int, int]:
    """(number of the rarer bits, whether those are zeros, binary digits of the longest gap)."""
    found = _read_side(coded.side)
    if found is None or 2 * found[0] > layer.size or (not found[0] and coded.payload):
        raise CorruptError(f"layer {layer.name!r}: expected the number of rarer bits, at most half of {layer.size}, "
                           "and their longest gap's digits, found other bytes")  # fmt: skip
    return found


@lru_cache(maxsize=4096)
def _read_side(side: bytes) -> tuple[int, int, int] | None:
    """The same of any layer; None for bytes that are not of that form."""
    cursor = Cursor(side, "gap")
    try:
        value = cursor.leb128()
    except CorruptError:
        return None
    count = value >> 1
    return None if cursor.left != (count > 0) else (count, value & 1, side[-1] if count else 0)
