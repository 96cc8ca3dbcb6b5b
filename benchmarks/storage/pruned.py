"""Masks of a pruned transformer of a billion parameters, without its weights: its shapes, and drawn weights.

Shapes are those of the linear layers of Llama 3.2 1B: 16 blocks, width 2048, 8 of 32 heads for keys and values, 8192
hidden units. No real weights are used. Weights are normal, with a scale for each row and each column (log-normal, 0.2
and 0.1). The norms of the inputs, which Wanda multiplies by, are log-normal (0.5), and one channel in 200 is 20 times
as large, as is known of such networks (Dettmers et al., "LLM.int8()", arXiv 2208.07339). How well a mask can be coded
depends on these numbers, so the rows compare coders, and say little about a real network.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import ceil
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.storage.banks import measure_bank
from benchmarks.storage.cases import SEED, Place
from benchmarks.storage.entropies import best_static_bits, n_of_m_bits
from benchmarks.storage.formats import FORMATS, measure_format
from benchmarks.storage.judged import StoredMask
from benchmarks.storage.optional import OPTIONAL
from benchmarks.storage.results import LeftOutError, Row
from maskstore import Mask, MaskSpec
from maskstore.priors import Uniform

Keep = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.bool_]]
"""Weights `(out, in)` and the norms of the inputs `(in,)` to what is kept."""


@dataclass(frozen=True)
class PrunedCase:
    """The network, and how many of its equal blocks are really coded; the rest is counted as these."""

    width: int = 2048
    hidden: int = 8192
    keys: int = 512
    blocks: int = 16
    coded: int = 1

    def to_json(self) -> dict[str, Any]:
        """What results depend on."""
        return {**asdict(self), "seed": SEED}

    def shapes(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """The linear layers of the blocks that are coded."""
        width, hidden, keys = self.width, self.hidden, self.keys
        for block in range(self.coded):
            yield from ((f"layers.{block}.{name}_proj", (width, width)) for name in "qo")
            yield from ((f"layers.{block}.{name}_proj", (keys, width)) for name in "kv")
            yield from ((f"layers.{block}.{name}_proj", (hidden, width)) for name in ("gate", "up"))
            yield f"layers.{block}.down_proj", (width, hidden)


def magnitude(weights: NDArray[np.float32], norms: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The larger half of a layer's weights (Han et al. 2015)."""
    size = np.abs(weights)
    return np.asarray(size > np.median(size))


def wanda(weights: NDArray[np.float32], norms: NDArray[np.float32]) -> NDArray[np.bool_]:
    """In each row the half with the larger |weight| * norm of its input (Sun et al., arXiv 2306.11695)."""
    size = np.abs(weights) * norms
    half = size.shape[1] // 2
    return np.asarray(size > np.partition(size, half - 1, axis=1)[:, half - 1 : half])


def wanda_2_of_4(weights: NDArray[np.float32], norms: NDArray[np.float32]) -> NDArray[np.bool_]:
    """In each group of four neighbours of a row the two with the larger |weight| * norm of its input."""
    size = (np.abs(weights) * norms).reshape(len(weights), -1, 4)
    kept = np.zeros(size.shape, dtype=bool)
    np.put_along_axis(kept, np.argpartition(size, 1, axis=2)[:, :, 2:], True, axis=2)
    return kept.reshape(weights.shape)


PATTERNS: Mapping[str, tuple[str, Keep]] = {
    "magnitude": ("magnitude, 50 %", magnitude),
    "wanda": ("Wanda, 50 % of each row", wanda),
    "wanda-2-4": ("Wanda, 2 of 4", wanda_2_of_4),
}


@lru_cache(maxsize=1)  # the rows of one pattern follow one another
def pruned_mask(case: PrunedCase, pattern: str) -> Mask:
    """What a way of pruning keeps of the drawn weights."""
    rng, kept = np.random.default_rng(SEED), {}
    for name, shape in case.shapes():
        scales = np.exp(0.2 * rng.standard_normal((shape[0], 1))) * np.exp(0.1 * rng.standard_normal(shape[1]))
        norms = np.exp(0.5 * rng.standard_normal(shape[1])) * np.where(rng.random(shape[1]) < 0.005, 20, 1)
        weights = rng.standard_normal(shape, dtype=np.float32) * scales.astype(np.float32)
        kept[name] = PATTERNS[pattern][1](weights, norms.astype(np.float32))
    return Mask.from_dense(kept, MaskSpec(dict(case.shapes())))


class PrunedMethod:
    """One way of pruning, and one way to store its mask."""

    def __init__(self, pattern: str, how: str) -> None:
        self.pattern, self.how = pattern, how

    def config(self, case: PrunedCase) -> dict[str, Any]:
        """The case."""
        return case.to_json()

    def measure(self, case: PrunedCase, place: Place) -> Row:
        """Bytes of the whole network; those of the coded blocks, multiplied."""
        optional = OPTIONAL.get(self.how)
        if optional is not None and optional.why_absent:
            raise LeftOutError(optional.why_absent)
        mask = pruned_mask(case, self.pattern)
        times, group, encoding, decoding = case.blocks // case.coded, "format", None, None
        if self.how == "entropy":
            group, title = "bound", "entropy of the pattern"
            bits = n_of_m_bits(mask, 2, 4) if self.pattern == "wanda-2-4" else best_static_bits(mask)
            parts = {"masks": ceil(bits / 8)}
        elif self.how == "auto":
            group, title = "ours", "ours, whole file, codec auto"
            stored = [StoredMask("pruned", mask, {}, Uniform(), {})]
            parts, encoding, decoding, _ = measure_bank(mask.spec, {}, stored, level="fast")
        else:
            form = optional.format if optional else FORMATS[self.how]
            title = form.title
            parts, encoding, decoding = measure_format(form, [mask], runs=1)
        return Row(
            title,
            group,
            {name: times * size for name, size in parts.items()},
            1,
            times * mask.spec.bits,
            encode_seconds=None if encoding is None else times * encoding,
            decode_seconds=None if decoding is None else times * decoding,
            notes={"pattern": PATTERNS[self.pattern][0], "blocks_coded": case.coded},
        )


HOWS = ("auto", "entropy", "bit-packing", "constriction", "zstd", "xz", "roaring", "bitarray-sparse", "csr-16")
PRUNED: Mapping[str, PrunedMethod] = MappingProxyType(
    {f"{pattern}-{how}": PrunedMethod(pattern, how) for pattern in PATTERNS for how in HOWS}
)
