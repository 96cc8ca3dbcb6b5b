"""Which masks of a bank are best coded against which others, by estimated description length.

Every mask that others refer to stays coded by itself, and no mask refers to more than `MOST_BASES`: reading one mask at
random then never decodes more than so many others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import log2

import numpy as np
from numpy.typing import NDArray

from maskstore.bank.record import Record
from maskstore.codecs import estimate_bits, side_by_side
from maskstore.masks import Mask, bits
from maskstore.priors import KeptWeights, Prior, Reference, Related, RunningMean, SeededScores, Uniform

MOST_BASES = 3
_CANDIDATES = 24  # masks looked at as a reference for all others
_POINTER_BITS = 80.0  # an id and a digest
_RELATED_BITS = 100.0  # what two independent masks never seem to share


@dataclass(frozen=True)
class Relation:
    """How one mask should be coded: under `prior`, which refers to the masks at these positions."""

    prior: Related
    bases: tuple[int, ...]


def relate(masks: Sequence[Mask], priors: Sequence[Prior], may_serve: Sequence[bool]) -> dict[int, Relation]:
    """Relations that save bits, by position. `priors` are what is known about each mask alone.

    Masks whose `may_serve` is False are not referred to. A few masks, evenly spaced, are candidates for a reference;
    those that save most together are taken, one after the other.
    """
    servants = [i for i, able in enumerate(may_serve) if able]
    if len(masks) < 2 or not servants:
        return {}
    step = max(1, -(-len(servants) // _CANDIDATES))
    candidates = servants[::step]
    gains = np.array(list(side_by_side(partial(_gains, i, masks, priors[i], candidates) for i in range(len(masks)))))
    chosen = _references(gains, candidates)
    tasks = [i for i in range(len(masks)) if i not in {candidates[c] for c in chosen}]
    found = side_by_side(partial(_best, i, masks, priors[i], candidates, chosen, gains[i]) for i in tasks)
    return {i: relation for i, relation in zip(tasks, found, strict=True) if relation is not None}


def cost_of(row: Record) -> int:
    """Bytes that a way of coding a mask decides on."""
    return len(row.data) + len(row.codec) + len(row.prior) + 10 * len(row.bases)


def _given(prior: Prior) -> Uniform | SeededScores | KeptWeights:
    return prior if isinstance(prior, (Uniform, SeededScores, KeptWeights)) else Uniform()


def _gains(i: int, masks: Sequence[Mask], prior: Prior, candidates: Sequence[int]) -> NDArray[np.float64]:
    """Bits that each candidate would save mask i, pointer included; 0 where that is nothing."""
    alone: float | None = None
    found = np.zeros(len(candidates))
    for c, j in enumerate(candidates):
        if i != j and _shared_bits(masks[i], masks[j]) > _RELATED_BITS:
            alone = estimate_bits(masks[i], prior) if alone is None else alone
            together = estimate_bits(masks[i], Reference(given=_given(prior)), [masks[j]])
            found[c] = max(0.0, alone - together - _POINTER_BITS)
    return found


def _shared_bits(a: Mask, b: Mask) -> float:
    """Mutual information of the bits of two masks, in bits over all layers."""
    total = 0.0
    for layer in a.spec:
        x, y = a.words[layer.packed], b.words[layer.packed]
        both, ones, others = bits.popcount(x & y), bits.popcount(x), bits.popcount(y)
        zeros, without = layer.size - ones, layer.size - others
        cells = [
            (both, ones, others),
            (ones - both, ones, without),
            (others - both, zeros, others),
            (without - ones + both, zeros, without),
        ]
        total += sum(n * log2(n * layer.size / (row * column)) for n, row, column in cells if n)
    return total


def _references(gains: NDArray[np.float64], candidates: Sequence[int]) -> list[int]:
    """Greedily the candidates that together save most; one that is taken saves nothing itself."""
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < len(candidates):
        totals = {}
        for c in set(range(len(candidates))) - set(chosen):
            saved = gains[:, [*chosen, c]].max(axis=1)
            saved[[candidates[k] for k in [*chosen, c]]] = 0.0
            totals[c] = float(saved.sum())
        c = max(totals, key=lambda k: totals[k])
        if totals[c] <= best:
            break
        best = totals[c]
        chosen.append(c)
    return chosen


def _best(
    i: int,
    masks: Sequence[Mask],
    prior: Prior,
    candidates: Sequence[int],
    chosen: Sequence[int],
    gains: NDArray[np.float64],
) -> Relation | None:
    """One reference or the mean of the best few, whichever saves more; None if nothing does."""
    useful = sorted((c for c in chosen if gains[c] > 0), key=lambda c: -gains[c])[:MOST_BASES]
    if not useful:
        return None
    places = tuple(candidates[c] for c in useful)
    one = Relation(Reference(given=_given(prior)), places[:1])
    if len(useful) < 2:
        return one
    mean = RunningMean(given=_given(prior))
    together = estimate_bits(masks[i], mean, [masks[j] for j in places]) + _POINTER_BITS * len(places)
    alone = estimate_bits(masks[i], prior)
    return Relation(mean, places) if alone - together > gains[useful[0]] else one
