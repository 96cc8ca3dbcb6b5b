"""`auto`: not a format but a choice; the record names the codec that was chosen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs import ans, gap
from maskstore.codecs.ans import Ans
from maskstore.codecs.base import Codec, ContextSource, EncodedLayer
from maskstore.codecs.gap import Gap
from maskstore.codecs.mix import Mix
from maskstore.codecs.raw import Raw
from maskstore.codecs.zstd import Zstd
from maskstore.errors import CodecError
from maskstore.masks import Mask, bits
from maskstore.priors import Contexts, Prior

LayerContexts = Callable[[int], Contexts]
"""The contexts of a layer, by its index."""

LEVELS = ("fast", "max")
_SAMPLE_WORDS = 1 << 13
_SPARSE = 64  # with fewer rarer bits than one in so many gap decodes faster than ans, with more slower;
_WORTH = 1.005  # then it has to save this much
_NEAR = 1.1  # how much more than the best so far a sample may promise and still be looked into,
_SLACK = 1024  # and these bits, since small masks are quickly tried


@dataclass(frozen=True)
class Auto(Codec):
    """Chooses the codec that codes a mask in the fewest bytes, without coding it by each.

    Level "fast" estimates `raw`, `ans` and `gap` from counts, and codes with the best; `zstd` is coded too where a
    sample says that it could win. Level "max" also codes with `mix`, which takes a hundred times as long.
    """

    level: str = "fast"

    id: ClassVar[str] = "auto"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise CodecError(f"codec auto: expected level {' or '.join(LEVELS)}, found {self.level!r:.40}")

    def encode(self, mask: Mask, prior: Prior, bases: Sequence[Mask] = ()) -> tuple[Codec, list[EncodedLayer]]:
        """The chosen codec, and the mask's layers coded by it; `bases` are the masks that the prior refers to."""
        contexts = cache(lambda index: prior.contexts(mask.spec, index, bases))  # dear to make, and used twice
        estimates: list[tuple[float, Codec]] = [(_raw_bits(mask), Raw()), (_ans_bits(mask, contexts), Ans())]
        if _gap_ratio(mask) * mask.spec.bits < _NEAR * min(bound for bound, _ in estimates) + _SLACK:
            slow = _SPARSE * min(mask.ones, mask.spec.bits - mask.ones) > mask.spec.bits
            estimates.append((_gap_bits(mask) * (_WORTH if slow else 1), Gap()))
        expected, likely = min(estimates, key=lambda estimate: estimate[0])
        tried: list[Codec] = [likely]
        if _zstd_ratio(mask) * mask.spec.bits < _NEAR * expected + _SLACK:
            tried.append(Zstd())
        if self.level == "max":
            tried.append(Mix())
        coded = [(codec, _encode(codec, mask, contexts)) for codec in tried]
        return min(coded, key=lambda candidate: size_of(candidate[1]))

    def encode_layer(self, words: NDArray[np.uint64], layer: object, contexts: ContextSource) -> EncodedLayer:
        """Auto chooses for a whole mask: call `encode`."""
        raise CodecError("codec auto: expected a whole mask to choose for, found a single layer")

    def decode_layer(self, coded: EncodedLayer, layer: object, contexts: ContextSource) -> NDArray[np.uint64]:
        """Nothing is ever stored under this id."""
        raise CodecError("codec auto: expected the codec that was chosen, found auto in a record")


def encode_mask(codec: Codec, mask: Mask, prior: Prior, bases: Sequence[Mask] = ()) -> list[EncodedLayer]:
    """All layers of a mask under one codec that codes layer by layer; `bases`: the masks that the prior refers to."""
    return _encode(codec, mask, lambda index: prior.contexts(mask.spec, index, bases))


def estimate_bits(mask: Mask, prior: Prior, bases: Sequence[Mask] = ()) -> float:
    """What `ans` would need for a mask, in bits, to compare priors by."""
    return _ans_bits(mask, lambda index: prior.contexts(mask.spec, index, bases))


def size_of(layers: list[EncodedLayer]) -> int:
    """Bytes of side information and payload together."""
    return sum(len(layer.side) + len(layer.payload) for layer in layers)


def _encode(codec: Codec, mask: Mask, contexts: LayerContexts) -> list[EncodedLayer]:
    return [
        codec.encode_layer(mask.words[layer.packed], layer, lambda index=index: contexts(index))  # type: ignore[misc]
        for index, layer in enumerate(mask.spec)
    ]


def _raw_bits(mask: Mask) -> float:
    return 8.0 * sum(layer.bytes for layer in mask.spec)


def _ans_bits(mask: Mask, contexts: LayerContexts) -> float:
    return sum(
        ans.estimate_bits(mask.words[layer.packed], contexts(index))
        for index, layer in enumerate(mask.spec)
        if layer.size
    )


def _gap_bits(mask: Mask) -> float:
    return sum(gap.estimate_bits(mask.words[layer.packed], layer.size) for layer in mask.spec)


def _zstd_ratio(mask: Mask) -> float:
    """Compressed size of a sample, as a fraction of its packed size; a quicker level would hide runs of equal bits."""
    import zstandard

    sample = bits.as_bytes(_sample(mask)).tobytes()
    return len(zstandard.ZstdCompressor(level=Zstd().level).compress(sample)) / max(1, len(sample))


def _gap_ratio(mask: Mask) -> float:
    """What gap would need for a sample, as a fraction of its packed size."""
    sample = _sample(mask)
    return gap.estimate_bits(sample, 64 * sample.size) / max(1, 64 * sample.size)


def _sample(mask: Mask) -> NDArray[np.uint64]:
    """Words from the middle of the mask, 64 KiB of them if there are so many."""
    start = max(0, (mask.words.size - _SAMPLE_WORDS) // 2)
    return mask.words[start : start + _SAMPLE_WORDS]
