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
    seen = (histogram @ _counts()[GROUPS.index(group)])[: group + 1]
    total = int(seen.sum())
    if not total:
        return (MOST_WEIGHT,) * (group + 1)
    return tuple(max(1, (2 * MOST_WEIGHT * int(n) + total) // (2 * total)) if n else 0 for n in seen)


def cost(histogram: NDArray[np.int64], table: NDArray[np.int64]) -> float:
    """Bits of the bytes of a histogram under a table that has them all."""
    here = histogram > 0
    return float(histogram[here] @ (16 - np.log2(table[here])))


@cache
def _counts() -> NDArray[np.int64]:
    """How many groups of a byte have so many ones, for every size of group, `(4, 256, 9)`."""
    out = np.zeros((len(GROUPS), 256, 9), dtype=np.int64)
    for row, group in enumerate(GROUPS):
        for byte in range(256):
            for at in range(0, 8, group):
                out[row, byte, (byte >> at & (1 << group) - 1).bit_count()] += 1
    return out


@cache
def _log_patterns() -> NDArray[np.float64]:
    """Bits that tell which of the groups with so many ones it is, `(4, 9)`."""
    return np.log2([[max(1, comb(group, ones)) for ones in range(9)] for group in GROUPS])


@compiled
def _entropies(histograms, counts, logs):
    out = np.zeros(counts.shape[0])
    seen = np.empty(counts.shape[2], dtype=np.int64)
    for row in range(histograms.shape[0]):
        for group in range(counts.shape[0]):
            seen[:] = 0
            for byte in range(256):
                times = histograms[row, byte]
                if times:
                    for ones in range(counts.shape[2]):
                        seen[ones] += times * counts[group, byte, ones]
            total = seen.sum()
            for ones in range(counts.shape[2]):
                if seen[ones]:
                    out[group] += seen[ones] * (logs[group, ones] - np.log2(seen[ones] / total))
    return out


@compiled
def sum_of_entropies(ones, sizes):
    """Bits of runs of `sizes` bits, `(runs,)` or `(1,)`, with so many ones each; both float64."""
    total = 0.0
    for run in range(ones.size):
        size = sizes[run if sizes.size > 1 else 0]
        share = min(max(ones[run] / max(size, 1.0), 1e-12), 1 - 1e-12)
        total -= size * (share * np.log2(share) + (1 - share) * np.log2(1 - share))
    return total


def entropies(histograms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bits of the bytes of all classes by groups of 1, 2, 4 and 8, `(4,)`, under the weights that fit best.

    `histograms`, `(classes, 256)`.
    """
    found: NDArray[np.float64] = _entropies(histograms, _counts(), _log_patterns())
    return found


def fit(histograms: NDArray[np.int64]) -> tuple[int, list[tuple[int, ...]], float]:
    """The group that suits the bytes of all classes, the weights of each class, and the bits with all weights.

    `histograms`, `(classes, 256)`.
    """
    sides = 16 * (np.array(GROUPS) + 1) * len(histograms)
    group = GROUPS[int(np.argmin(entropies(histograms) + sides))]
    weights = [weights_of(row, group) for row in histograms]
    paid = sum(cost(row, frequencies(group, each)) for row, each in zip(histograms, weights, strict=True))
    return group, weights, paid + float(sides[GROUPS.index(group)])


def tables(group: int, weights: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    """The frequencies of every class, `(classes, 256)`."""
    return np.stack([frequencies(group, each) for each in weights])
