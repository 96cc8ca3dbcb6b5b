"""Probability tables as walks: a point for each context in their order, of which the first and the steps are stored.

The best walk takes the fewest bits together: its own, and those of the mask under it (a Viterbi search). Levels that
say the same so end up sharing a point at one bit each, and a level seen twice cannot buy a probability of its own.
`docs/format.md`, "Codec ans".
"""

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import CorruptError
from maskstore.kernels import compiled

_FIRST_BITS = 8  # the walk's first point is stored as it is
_BANDS = 5  # steps of a walk up to 2**5 - 1 are searched; longer ones cost 13 bits and more and can be made of two,
_ALL_BANDS = 8  # but not in a walk of a single step: there all are searched


def fit(costs: NDArray[np.float64]) -> tuple[NDArray[np.int64], float]:
    """The best walk: (its points `(entries,)` int64, the bits of walk and mask together).

    `costs`, shape `(entries, points)`: the bits of the mask's part in each entry at each point, in walk order.
    """
    points, bits = _best_walk(costs, float(_FIRST_BITS), _ALL_BANDS if len(costs) == 2 else _BANDS)
    return points, float(bits)


@compiled
def _nearest_minimum(values, sources, distance, out_values, out_sources):
    """The smallest of the values at each place and `distance` to its left and right, and where it came from."""
    points = values.size
    for j in range(points):
        best, source = values[j], sources[j]
        if j >= distance and values[j - distance] < best:
            best, source = values[j - distance], sources[j - distance]
        if j + distance < points and values[j + distance] < best:
            best, source = values[j + distance], sources[j + distance]
        out_values[j], out_sources[j] = best, source


@compiled
def _best_walk(costs, first_bits, bands):
    """The cheapest walk over the points (columns of `costs`), one point an entry (row), and its bits.

    The first point costs `first_bits`, each step what its exp-Golomb code takes.
    """
    entries, points = costs.shape
    back = np.zeros((entries, points), dtype=np.int16)
    total = costs[0] + first_bits
    here = np.arange(points).astype(np.int16)
    near, near_source = np.empty(points), np.empty(points, dtype=np.int16)
    wide, wide_source = np.empty(points), np.empty(points, dtype=np.int16)
    for entry in range(1, entries):
        grown, came = total + 1.0, back[entry]
        came[:] = here
        # Steps of 1 cost 3 bits, of 2-3 five, of 4-7 seven, ... The best of all steps up to 2**n - 1 is the best of
        # three windows of steps up to 2**(n-1) - 1; the shorter steps do no harm, they were offered more cheaply.
        near[:] = total
        near_source[:] = here
        distance, step_bits = 1, 3.0
        for _ in range(bands):
            _nearest_minimum(near, near_source, distance, wide, wide_source)
            for j in range(points):
                if wide[j] + step_bits < grown[j]:
                    grown[j], came[j] = wide[j] + step_bits, wide_source[j]
            near, near_source, wide, wide_source = wide, wide_source, near, near_source
            distance, step_bits = 2 * distance, step_bits + 2.0
        total = grown + costs[entry]
    walk = np.empty(entries, dtype=np.int64)
    walk[-1] = np.argmin(total)
    for entry in range(entries - 1, 0, -1):
        walk[entry - 1] = back[entry, walk[entry]]
    return walk, total.min()


def write(points: NDArray[np.int64]) -> bytes:
    """The walk as bits, least significant first: the first point in 8 bits, then each step in an exp-Golomb code.

    A step d is mapped to z = 2d - 1 (d > 0) or -2d (d <= 0), and z + 1, of n binary digits, is written as n - 1 zeros
    followed by its digits from the most significant down.
    """
    codes = [f"{int(points[0]):08b}"[::-1]]
    for step in np.diff(points).tolist():
        digits = f"{2 * step if step > 0 else -2 * step + 1:b}"
        codes.append("0" * (len(digits) - 1) + digits)
    bits = "".join(codes)
    return int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")


def read(data: bytes, entries: int, top: int) -> NDArray[np.int64]:
    """The points of a walk of so many entries; CorruptError unless `data` is exactly what `write` gives for them.

    `top` is the last point there is.
    """
    if not data:
        raise CorruptError("probability table: expected at least 1 byte, found none")
    bits = "".join(f"{byte:08b}"[::-1] for byte in data)
    points, at = [data[0]], _FIRST_BITS
    while len(points) < entries:
        one = bits.find("1", at)
        end = 2 * one - at + 1  # as many digits as zeros before them, and one more
        if one < 0 or one - at > 9 or end > len(bits):
            raise CorruptError(f"probability table: expected {entries} steps, found {len(points) - 1} and a torn one")
        value, at = int(bits[one:end], 2), end
        points.append(points[-1] + (value // 2 if value % 2 == 0 else -(value // 2)))
    if min(points) < 0 or max(points) > top:
        raise CorruptError(f"probability table: expected points in 0..{top}, found {min(points)}..{max(points)}")
    if len(bits) - at > 7 or "1" in bits[at:]:
        raise CorruptError(f"probability table: expected less than a byte of zeros at its end, found {bits[at:][:16]}")
    return np.array(points, dtype=np.int64)
