"""Tables of the `pattern` codec: a byte is made of groups of M bits, and only how many are set in a group matters.

A table is one weight for each count 0 ... M. With M = 4 and all weight on 2 it is the table of 2:4 masks: six patterns
of equal probability. With M = 1 it is a density.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from math import comb, lcm, prod

import numpy as np
from numpy.typing import NDArray

from maskstore.kernels import compiled

WHOLE = 1 << 16
GROUPS = (1, 2, 4, 8)
MOST_WEIGHT = 65535


@cache
def _signatures(group: int) -> tuple[list[tuple[int, ...]], NDArray[np.int64]]:
    """The multisets of counts that the groups of a byte can have, and which of them each byte has."""
    found: dict[tuple[int, ...], int] = {}
    of_bytes = []
    for byte in range(256):
        counts = tuple(sorted((byte >> at & (1 << group) - 1).bit_count() for at in range(0, 8, group)))
        of_bytes.append(found.setdefault(counts, len(found)))
    return list(found), np.array(of_bytes, dtype=np.int64)


@lru_cache(maxsize=256)
def frequencies(group: int, weights: tuple[int, ...]) -> NDArray[np.int64]:
    """The frequency of each byte, `(256,)`, 65536 in all, no one alone; Python's integers, the same everywhere.

    A byte has the weight `product over its groups of weights[ones] / comb(group, ones)`.
    """
    signatures, of_bytes = _signatures(group)
    whole = lcm(*(comb(group, ones) for ones in range(group + 1)))
    shares = [weight * (whole // comb(group, ones)) for ones, weight in enumerate(weights)]
    values = [prod(shares[ones] for ones in counts) for counts in signatures]
    total = sum(value * int(n) for value, n in zip(values, np.bincount(of_bytes), strict=True))
    table = np.array([max(1, value * WHOLE // total) if value else 0 for value in values])[of_bytes]
    top = int(np.argmax(table))
    table[top] += WHOLE - table.sum()
    if table[top] == WHOLE:  # the coder's frequencies have sixteen bits
        table[top], table[(top + 1) % 256] = WHOLE - 1, 1
    table.flags.writeable = False
    return table


def weights_of(histogram: NDArray[np.int64], group: int) -> tuple[int, ...]:
    """The weights that fit bytes, of which a histogram `(256,)` tells how often each stands."""
    seen = _groups_seen(histogram, group)
    total = int(seen.sum())
    if not total:
        return (MOST_WEIGHT,) * (group + 1)
    return tuple(max(1, (2 * MOST_WEIGHT * int(n) + total) // (2 * total)) if n else 0 for n in seen)


def cost(histogram: NDArray[np.int64], table: NDArray[np.int64]) -> float:
    """Bits of the bytes of a histogram under a table that has them all."""
    here = histogram > 0
    return float(histogram[here] @ (16 - np.log2(table[here])))


@cache
def _log_patterns(group: int) -> NDArray[np.float64]:
    return np.log2([comb(group, ones) for ones in range(group + 1)])


@compiled
def _groups_seen(histogram, group):
    """How often a group of a byte has each count, `(group + 1,)`."""
    out = np.zeros(group + 1, dtype=np.int64)
    for byte in range(256):
        if histogram[byte]:
            for at in range(0, 8, group):
                rest, ones = byte >> at & (1 << group) - 1, 0
                while rest:
                    rest &= rest - 1
                    ones += 1
                out[ones] += histogram[byte]
    return out


def entropy(histogram: NDArray[np.int64], group: int) -> float:
    """Bits of the bytes of a histogram under the weights that fit them best, quickly and without the table."""
    seen = _groups_seen(histogram, group)
    return float(seen @ (_log_patterns(group) - np.log2(np.maximum(seen, 1) / max(1, seen.sum()))))


def fit(histograms: NDArray[np.int64]) -> tuple[int, list[tuple[int, ...]], float]:
    """The group that suits the bytes of all classes, the weights of each class, and the bits with all weights.

    `histograms`, `(classes, 256)`.
    """
    prices = {
        group: sum(entropy(row, group) for row in histograms) + 16 * (group + 1) * len(histograms) for group in GROUPS
    }
    group = min(prices, key=prices.__getitem__)
    weights = [weights_of(row, group) for row in histograms]
    paid = sum(cost(row, frequencies(group, each)) for row, each in zip(histograms, weights, strict=True))
    return group, weights, paid + 16 * (group + 1) * len(weights)


def tables(group: int, weights: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    """The frequencies of every class, `(classes, 256)`."""
    return np.stack([frequencies(group, each) for each in weights])
