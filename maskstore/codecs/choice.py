"""Which codec codes a mask: the one that was named, or the one that `CodecChoice` finds to need the fewest bytes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore._configured import from_config
from maskstore.codecs.ans import Ans
from maskstore.codecs.base import Codec, EncodedLayer, Piece, Plan
from maskstore.codecs.gap import ContextGap, Gap
from maskstore.codecs.mix import Mix
from maskstore.codecs.pattern import Pattern
from maskstore.codecs.raw import Raw
from maskstore.codecs.zstd import Zstd
from maskstore.errors import CodecError, UnknownCodecError
from maskstore.masks import Mask, bits
from maskstore.priors import Contexts, Prior

LayerContexts = Callable[[int], Contexts]
"""The contexts of a layer, by its index."""

LEVELS = ("fast", "max")
_RAW, _ZSTD, _GAP, _ANS, _MIX, _PATTERN = Raw(), Zstd(), Gap(), Ans(), Mix(), Pattern()
_CONTEXT_GAP = ContextGap()
_QUICKER = {"fast": 1.05, "max": 1.0}  # how many times the bits it may take, as it decodes many times as fast as ans
_SAMPLE_WORDS, _MORE_WORDS = 1 << 9, 1 << 13
_SPARSE = 64  # with fewer rarer bits than one in so many gap decodes faster than ans, with more slower;
_WORTH = 1.005  # then it has to save this much
_NEAR = 1.1  # how much more than the best so far a sample may promise and still be looked into,
_SLACK = 1024  # and these bits, since small masks are quickly tried
_PROMISING = 0.97  # what codes slowly, or is seldom of use, has to promise so much less by a sample
_MORE_SIDE, _NOTHING = 40, 0.0008  # `pattern` has so many bits a layer more beside the bits than `ans`
_ALIKE, _ALIKE_BITS = 1.002, 512  # samples tell no more; in small ones, what `pattern` stores once weighs much
_WELL = 0.25
_SAVING = 0.9985  # what saves less than that of the plain bits is not worth decoding
_LARGE = 16  # a layer of less than one bit in so many does not decide
_NO_BITS = Plan(0.0, partial(EncodedLayer, b"", b""))


@dataclass(frozen=True)
class CodecChoice:
    """Chooses the codec that codes a mask in the fewest bytes, without coding it by each. Not a codec itself.

    Level "fast" estimates `raw`, `ans` and `gap` from counts, and codes with the best. Under a prior that keeps the
    order of its contexts it estimates `context-gap` too, which may take 5 % more than the best, because it decodes
    faster. `pattern` is estimated, and `zstd` coded too, where a sample says that it could win. Level "max" also codes
    with `mix`, which takes a hundred times as long, and gives no bytes for speed. A bank takes a choice wherever it
    takes a codec; "auto" stands for level "fast", "max" for "max".

    Args:
        level: "fast" or "max".

    Raises:
        CodecError: For another level.

    Examples:
        A sparse mask and a dense one of independent bits:

        >>> import numpy as np
        >>> from maskstore import Mask, Uniform
        >>> from maskstore.codecs import CodecChoice, encode_mask, size_of
        >>> noise = np.random.default_rng(0).random((300, 784))
        >>> for density in (0.001, 0.5):
        ...     mask = Mask.from_dense({"fc1": noise < density})
        ...     codec, layers = encode_mask(CodecChoice("fast"), mask, Uniform())
        ...     print(codec.id, round(8 * size_of(layers) / mask.spec.bits, 2), "bits a parameter")
        gap 0.01 bits a parameter
        raw 1.0 bits a parameter
    """

    level: str = "fast"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise CodecError(f"a choice of codecs: expected level {' or '.join(LEVELS)}, found {self.level!r:.40}")

    def encode(self, mask: Mask, prior: Prior, bases: Sequence[Mask] = ()) -> tuple[Codec, list[EncodedLayer]]:
        """The chosen codec, and the mask's layers coded by it; `bases` are the masks that the prior refers to."""
        # Numba is imported where it is used, so that `import maskstore` stays quick
        from maskstore.codecs.coders import gap_loop

        contexts = cache(lambda index: prior.contexts(mask.spec, index, bases))
        size = mask.spec.bits
        plans: list[Plan] | None = None
        expected: float = sum(8 * layer.bytes for layer in mask.spec.layers)
        likely: Codec = _RAW
        if (found := _bits_of(by_ans := _ans_plans(mask, contexts))) < expected:
            expected, likely, plans = found, _ANS, by_ans
        sample = _sample(mask)
        slow = _SPARSE * min(mask.ones, size - mask.ones) > size
        if _gap_ratio(sample) * size < (_PROMISING * expected if slow else _NEAR * expected + _SLACK):
            by_gap = [
                gap_loop.plan(mask.words[layer.packed], layer.size) if layer.size else _NO_BITS
                for layer in mask.spec.layers
            ]
            if (found := _bits_of(by_gap) * (_WORTH if slow else 1)) < expected:
                expected, likely, plans = found, _GAP, by_gap
        by_context = None if slow else _context_gap_plans(mask, contexts)
        if by_context and (found := _bits_of(by_context) / _QUICKER[self.level]) < expected:
            expected, likely, plans = found, _CONTEXT_GAP, by_context
        promised, looks = _promised_by_pattern(mask, by_ans)
        more = _MORE_SIDE * len(mask.spec)
        better = promised < _PROMISING * expected
        same = not better and likely is _ANS and more < _NOTHING * expected and _knows_nothing(mask, contexts)
        if better or same:  # the same bits under the same densities are coded eight at a time
            by_pattern = _pattern_plans(mask, None if better else looks)
            if (found := _bits_of(by_pattern)) < expected + (more if same else 0):
                expected, likely, plans = found, _PATTERN, by_pattern
        tried = [(likely, _encode(likely, mask, contexts) if plans is None else [plan.encode() for plan in plans])]
        quick = _zstd_ratio(sample)  # of what compresses well, a larger sample is compressed as quickly
        if quick < max(_WELL, expected / max(1, size)) and (
            _zstd_ratio(_sample(mask, _MORE_WORDS)) * size < _NEAR * expected + _SLACK
        ):
            tried.append((_ZSTD, _encode(_ZSTD, mask, contexts)))
        if self.level == "max":
            tried.append((_MIX, _encode(_MIX, mask, contexts)))
        return min(tried, key=lambda candidate: size_of(candidate[1]))

    def candidates(self, samples: Sequence[Piece]) -> tuple[tuple[Codec, ...], float]:
        """The codecs that are worth a look at each block of a layer, the quickest first, and the samples' bits."""
        size = sum(sample.layer.size for sample in samples)
        ones = sum(bits.popcount(sample.words) for sample in samples)
        weighed: dict[Codec, float] = {}

        def weigh(codec: Codec, factor: float = 1.0) -> None:
            weighed[codec] = factor * sum(codec.plan(*sample).bits for sample in samples)

        weigh(_PATTERN)
        weigh(_ANS)
        least, few = min(*weighed.values(), size), [sample.words[:_SAMPLE_WORDS] for sample in samples]
        slow = _SPARSE * min(ones, size - ones) > size
        if min(map(_gap_ratio, few), default=0.0) * size < (_PROMISING if slow else _NEAR) * least + _SLACK:
            weigh(_GAP, _WORTH if slow else 1.0)
        if not slow and all(sample.contexts().places is not None for sample in samples):
            weigh(_CONTEXT_GAP, 1 / _QUICKER[self.level])
            if weighed[_CONTEXT_GAP] < weighed[_ANS]:
                del weighed[_ANS]
        if min(map(_zstd_ratio, few), default=0.0) * size < max(_WELL * size, least):
            weigh(_ZSTD)
        if self.level == "max":
            weigh(_MIX)
        least = _ALIKE * min(*weighed.values(), size)
        dense = _SAVING * size + _ALIKE_BITS // 4 * len(samples)
        worthless = {codec for codec, needed in weighed.items() if needed >= dense}
        weighed[_PATTERN] -= _ALIKE_BITS * len(samples)
        worth = (codec for codec, needed in weighed.items() if needed <= least and codec not in worthless)
        return tuple(worth) or (_RAW,), min(*weighed.values(), size)


AnyCodec = str | Codec | CodecChoice
"""What a caller may ask for: a codec's id, "auto", "max", a codec or a choice."""
_CODECS: dict[str, type[Codec]] = {codec.id: codec for codec in (Raw, Zstd, Gap, ContextGap, Ans, Mix, Pattern)}
_CHOICES = {"auto": CodecChoice("fast"), "max": CodecChoice("max")}


def encode_mask(
    codec: AnyCodec, mask: Mask, prior: Prior, bases: Sequence[Mask] = ()
) -> tuple[Codec, list[EncodedLayer]]:
    """A mask as bytes.

    Args:
        codec: What to code by; a choice looks at the mask first.
        mask: The mask.
        prior: What encoder and decoder know about it.
        bases: The masks that the prior refers to.

    Returns:
        The codec that was used, which is `codec` itself unless that is a choice, and the mask's layers in order.

    Raises:
        UnknownCodecError: For an id that this version does not know.
    """
    chosen = get_codec(codec)
    if isinstance(chosen, CodecChoice):
        return chosen.encode(mask, prior, bases)
    return chosen, _encode(chosen, mask, lambda index: prior.contexts(mask.spec, index, bases))


def codec_names() -> tuple[str, ...]:
    """What `get_codec` takes: the ids of all codecs that this version knows, and the names of the choices."""
    return (*_CODECS, *_CHOICES)


def get_codec(codec: AnyCodec) -> Codec | CodecChoice:
    """The codec of an id, with its default settings, or the choice of a name; a codec or choice is given back.

    UnknownCodecError for anything else.
    """
    if isinstance(codec, Codec | CodecChoice):
        return codec
    if isinstance(codec, str) and codec in _CHOICES:
        return _CHOICES[codec]
    if isinstance(codec, str) and codec in _CODECS:
        return _CODECS[codec]()
    raise UnknownCodecError(f"codec {codec!r:.40}: expected one of {', '.join(codec_names())}")


@lru_cache(maxsize=64)
def codec_to_json(codec: Codec) -> str:
    """Compact JSON of a codec's id and settings."""
    return json.dumps(codec.to_config(), separators=(",", ":"))


def codec_from_config(config: object) -> Codec:
    """The codec that a JSON object describes; UnknownCodecError, or CodecError for settings it does not take."""
    return from_config(config, _CODECS, "codec", UnknownCodecError)


def estimate_bits(mask: Mask, prior: Prior, bases: Sequence[Mask] = ()) -> float:
    """What `ans` would need for a mask, in bits, to compare priors by."""
    return _bits_of(_ans_plans(mask, lambda index: prior.contexts(mask.spec, index, bases)))


def size_of(layers: Sequence[EncodedLayer]) -> int:
    """Bytes of side information and payload together."""
    return sum(len(layer.side) + len(layer.payload) for layer in layers)


def _encode(codec: Codec, mask: Mask, contexts: LayerContexts) -> list[EncodedLayer]:
    return [
        codec.encode_layer(mask.words[layer.packed], layer, partial(contexts, index))
        for index, layer in enumerate(mask.spec.layers)
    ]


def _ans_plans(mask: Mask, contexts: LayerContexts) -> list[Plan]:
    from maskstore.codecs.coders import rans

    return [
        rans.plan(mask.words[layer.packed], contexts(index)) if layer.size else _NO_BITS
        for index, layer in enumerate(mask.spec.layers)
    ]


def _context_gap_plans(mask: Mask, contexts: LayerContexts) -> list[Plan] | None:
    """None where the prior does not keep the order of the contexts: to find it takes longer than `ans` does."""
    if any(contexts(index).places is None for index in range(len(mask.spec))):
        return None
    return [
        _CONTEXT_GAP.plan(mask.words[layer.packed], layer, partial(contexts, index))
        for index, layer in enumerate(mask.spec.layers)
    ]


def _promised_by_pattern(mask: Mask, by_ans: Sequence[Plan]) -> tuple[float, dict[int, Any]]:
    """Bits that `pattern` would need, as samples of the large layers promise, and what these layers have.

    The other layers are as under `ans`.
    """
    from maskstore.codecs.coders import pattern_plan

    total, looks = 0.0, {}
    for index, (layer, plan) in enumerate(zip(mask.spec.layers, by_ans, strict=True)):
        if _LARGE * layer.size > mask.spec.bits:
            promised, looks[index] = pattern_plan.promise(mask.words[layer.packed], layer)
            total += promised
        else:
            total += plan.bits
    return total, looks


def _knows_nothing(mask: Mask, contexts: LayerContexts) -> bool:
    """Whether the prior tells the bits of a layer apart in none."""
    return all(contexts(index).levels * contexts(index).classes == 1 for index in range(len(mask.spec)))


def _pattern_plans(mask: Mask, looks: dict[int, Any] | None) -> list[Plan]:
    """Plans after looking for everything in each layer, or for what `looks` say, and nothing in other layers."""
    from maskstore.codecs.coders import pattern_plan

    known = dict.fromkeys(range(len(mask.spec))) if looks is None else looks
    return [
        pattern_plan.plan(mask.words[layer.packed], layer, known.get(index, pattern_plan.ROWS))
        if layer.size
        else _NO_BITS
        for index, layer in enumerate(mask.spec.layers)
    ]


def _bits_of(plans: Sequence[Plan]) -> float:
    return sum(plan.bits for plan in plans)


def _zstd_ratio(sample: NDArray[np.uint64]) -> float:
    """Compressed size of a sample, as a fraction of its packed size; a quicker level would hide runs of equal bits."""
    import zstandard

    packed = bits.as_bytes(sample).tobytes()
    return len(zstandard.ZstdCompressor(level=_ZSTD.level).compress(packed)) / max(1, len(packed))


def _gap_ratio(sample: NDArray[np.uint64]) -> float:
    """What gap would need for a sample, as a fraction of its packed size."""
    from maskstore.codecs.coders import gap_loop

    return gap_loop.plan(sample, 64 * sample.size).bits / (64 * sample.size) if sample.size else 0.0


def _sample(mask: Mask, words: int = _SAMPLE_WORDS) -> NDArray[np.uint64]:
    """So many words from the middle of the mask, if there are so many."""
    start = max(0, (mask.words.size - words) // 2)
    return mask.words[start : start + words]
