"""Probability tables of the `ans` codec: quantised, smoothed by description length, and coded in a few bits an entry.

A probability is one of 177 points, evenly spaced in log-odds from -11 to 11 in steps of 1/8. A table is a walk over the
grid of contexts, class by class and level by level, and only the steps are stored. The encoder finds the walk that
minimises the bits of the table plus the bits of the mask under it (a Viterbi search), so levels that say the same end
up sharing a point at one bit each, and a level seen twice cannot buy a probability of its own.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import CorruptError
from maskstore.priors import Contexts

POINTS = 177
_FIRST_BITS = 8  # the walk's first point is stored as it is


@cache
def point_probabilities() -> NDArray[np.uint32]:
    """P(bit = 1) of each point in units of 2**-16: round(65536 / (1 + exp(-(j - 88) / 8))), `(177,)` uint32."""
    log_odds = (np.arange(POINTS) - 88) / 8
    table = np.rint(65536 / (1 + np.exp(-log_odds))).astype(np.uint32)
    table.flags.writeable = False
    return table


@cache
def _point_costs() -> NDArray[np.float64]:
    """Bits that a 0 and a 1 cost at each point, shape `(2, 177)`."""
    ones = point_probabilities() / 65536
    return -np.log2(np.stack([1 - ones, ones]))


def fit(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], float]:
    """The best walk for `counts`, shape `(entries, 2)`: zeros and ones seen in each entry, in walk order.

    Returns the points, `(entries,)` int64, and the total cost in bits of table and mask together.
    """
    from maskstore.codecs import rans  # Numba is imported where it is used, so that `import maskstore` stays quick

    costs = counts.astype(np.float64) @ _point_costs()
    return rans.best_walk(costs, float(_FIRST_BITS))


def choose(counts: NDArray[np.int64], known: Contexts) -> tuple[int, NDArray[np.int64], float]:
    """The merging of levels and the walk with the fewest bits in total: (shift, points, bits).

    `counts`, shape `(levels * classes, 2)`: zeros and ones seen in each context.
    """
    best: tuple[int, NDArray[np.int64], float] | None = None
    for shift in range(known.levels.bit_length()):
        merged = counts.reshape(known.levels >> shift, 1 << shift, known.classes, 2).sum(axis=1)
        points, bits = fit(merged.transpose(1, 0, 2).reshape(-1, 2))
        if best is None or bits < best[2]:
            best = (shift, points, bits)
    assert best is not None
    return best


def spread(points: NDArray[np.int64], shift: int, known: Contexts) -> NDArray[np.int64]:
    """The point of every context id, shape `(levels * classes,)`, from a walk over merged levels."""
    by_class = points.reshape(known.classes, known.levels >> shift)
    return np.ascontiguousarray(np.repeat(by_class, 1 << shift, axis=1).T).reshape(-1)


def write(points: NDArray[np.int64]) -> bytes:
    """The walk as bits, least significant first: the first point in 8 bits, then each step in an exp-Golomb code.

    A step d is mapped to z = 2d - 1 (d > 0) or -2d (d <= 0), and z + 1, of n binary digits, is written as n - 1 zeros
    followed by its digits from the most significant down.
    """
    out, length = int(points[0]), _FIRST_BITS
    for step in np.diff(points).tolist():
        value = 2 * step if step > 0 else -2 * step + 1
        digits = value.bit_length()
        reversed_value = int(format(value, "b")[::-1], 2)
        out |= reversed_value << (length + digits - 1)
        length += 2 * digits - 1
    return out.to_bytes((length + 7) // 8, "little")


def read(data: bytes, entries: int) -> NDArray[np.int64]:
    """The points of a walk of `entries` steps; CorruptError unless `data` is exactly what `write` gives for them."""
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little").tolist()
    if len(bits) < _FIRST_BITS:
        raise CorruptError(f"probability table: expected at least 1 byte, found {len(data)}")
    point = sum(bit << i for i, bit in enumerate(bits[:_FIRST_BITS]))
    points, at = [point], _FIRST_BITS
    while len(points) < entries:
        zeros = 0
        while at < len(bits) and not bits[at]:
            at, zeros = at + 1, zeros + 1
        if zeros > 9 or at + zeros >= len(bits):
            raise CorruptError(f"probability table: expected {entries} steps, found {len(points) - 1} and a torn one")
        value = 0
        for bit in bits[at : at + zeros + 1]:
            value = 2 * value + bit
        at += zeros + 1
        point += value // 2 if value % 2 == 0 else -(value // 2)
        points.append(point)
    if min(points) < 0 or max(points) >= POINTS or len(bits) - at > 7 or any(bits[at:]):
        raise CorruptError(f"probability table: expected points in 0..{POINTS - 1} and zero padding, found neither")
    return np.array(points, dtype=np.int64)


def read_merged(data: bytes, shift: int, known: Contexts) -> NDArray[np.int64]:
    """`read` for contexts whose levels are merged by 2**shift; CorruptError if there are not so many levels."""
    if known.levels >> shift == 0:
        raise CorruptError(f"probability table: expected to merge at most {known.levels} levels, found 2**{shift}")
    return read(data, (known.levels >> shift) * known.classes)
