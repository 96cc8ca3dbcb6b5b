"""Probability tables of the codecs `ans` and `mix`: quantised, and as detailed as the description length allows.

A probability is one of 177 points, evenly spaced in log-odds from -11 to 11 in steps of 1/8. A table is a walk over the
grid of contexts, class by class and level by level, and only the steps are stored. The encoder finds the walk that
minimises the bits of the table plus the bits of the mask under it (a Viterbi search), so levels that say the same end
up sharing a point at one bit each, and a level seen twice cannot buy a probability of its own. Where the levels follow
a line, curves of three points a class (`maskstore.codecs.tables.curves`) need fewer bytes still; the shorter
description wins.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.tables import curves
from maskstore.errors import CorruptError
from maskstore.kernels import compiled
from maskstore.priors import Contexts

POINTS = 177
_FIRST_BITS = 8  # the walk's first point is stored as it is
CURVES, MIRRORED_CURVES = 14, 15
_CURVE_FORMS = (CURVES, MIRRORED_CURVES)
_FEWEST_LEVELS = 8
_BANDS = 5  # steps of a walk up to 2**5 - 1 are searched; longer ones cost 13 bits and more and can be made of two,
_ROUNDING = 1e-3  # bits
_ALL_BANDS = 8  # but not in a walk of a single step: there all are searched


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


def fit(counts: NDArray[np.int64], limit: float = float("inf")) -> tuple[NDArray[np.int64], float]:
    """The best walk for `counts`, shape `(entries, 2)`: zeros and ones seen in each entry, in walk order.

    Returns the points, `(entries,)` int64, and the total cost in bits of table and mask together: infinity, and
    no points, where that is more than the limit.
    """
    costs = counts.astype(np.float64) @ _point_costs()
    points, bits = _best_walk(costs, float(_FIRST_BITS), _ALL_BANDS if len(costs) == 2 else _BANDS, limit)
    return points, float(bits)


@dataclass(frozen=True)
class Table:
    """A probability table as it is stored: a walk over merged levels, or curves (`maskstore.codecs.tables.curves`)."""

    form: int
    """0 to 8: a walk whose levels are merged by 2**form; or CURVES or MIRRORED_CURVES."""
    values: NDArray[np.int64]
    """The points of the walk, or the knots `(curves, 3)`."""

    def points(self, known: Contexts) -> NDArray[np.int64]:
        """The point of every context id, shape `(levels * classes,)`."""
        if self.form in _CURVE_FORMS:
            by_class = curves.points(self.values, known.levels, POINTS - 1, mirrored=self.form == MIRRORED_CURVES)
        else:
            merged = self.values.reshape(known.classes, known.levels >> self.form)
            by_class = np.repeat(merged, 1 << self.form, axis=1)
        return np.ascontiguousarray(by_class.T).reshape(-1)

    def log_odds(self, known: Contexts) -> NDArray[np.int64]:
        """Log-odds of a 1 in every context in units of 2**-12, shape `(levels * classes,)`."""
        return (self.points(known) - POINTS // 2) * 512

    def probabilities(self, known: Contexts) -> NDArray[np.uint32]:
        """P(1) of every context id in units of 2**-16, shape `(levels * classes,)`."""
        return point_probabilities()[self.points(known)]

    def write(self) -> bytes:
        """The stored bytes; the form is stored beside them, by the codec."""
        if self.form in _CURVE_FORMS:
            return self.values.astype(np.uint8).tobytes()
        return write(self.values)


def choose(counts: NDArray[np.int64], known: Contexts) -> tuple[Table, float]:
    """The table with the fewest bits in total, and these bits: those of the table and of the mask under it.

    `counts`, shape `(levels * classes, 2)`: zeros and ones seen in each context.
    """
    found = []
    for form in _CURVE_FORMS:
        if _takes(form, known):
            costs = (counts.astype(np.float64) @ _point_costs()).reshape(known.levels, known.classes, POINTS)
            knots, bits = curves.fit(costs.transpose(1, 0, 2), mirrored=form == MIRRORED_CURVES)
            found.append((Table(form, knots), bits + 8 * knots.size))
    least = min((bits for _, bits in found), default=float("inf"))
    for shift in reversed(range(known.levels.bit_length())):  # the short walks, which are quickly found, first
        merged = counts.reshape(known.levels >> shift, 1 << shift, known.classes, 2).sum(axis=1)
        entries = merged.transpose(1, 0, 2).reshape(-1, 2)
        points, bits = fit(entries, least + _ROUNDING)
        if bits <= least:
            found.append((Table(shift, points), bits))
            least = bits
    return min(found, key=lambda candidate: (candidate[1], candidate[0].form))


def _takes(form: int, known: Contexts) -> bool:
    """Whether contexts can have curves of this form."""
    return known.levels >= _FEWEST_LEVELS and (form == CURVES or known.classes % 2 == 0)


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
def _best_walk(costs, first_bits, bands, limit):
    """The cheapest walk over the points (columns of `costs`), one point an entry (row), and its bits.

    The first point costs `first_bits`, each step what its exp-Golomb code takes. A walk of more bits than `limit` may
    be found to have infinitely many.
    """
    # loops in the place of array expressions: these take seconds to compile
    entries, points = costs.shape
    rest = np.zeros(entries + 1)  # what the entries from one on take at least
    for entry in range(entries - 1, -1, -1):
        least = costs[entry, 0]
        for j in range(1, points):
            least = min(least, costs[entry, j])
        rest[entry] = rest[entry + 1] + least + 1.0
    back = np.zeros((entries, points), dtype=np.int16)
    total, here = np.empty(points), np.empty(points, dtype=np.int16)
    for j in range(points):
        total[j], here[j] = costs[0, j] + first_bits, j
    near, near_source = np.empty(points), np.empty(points, dtype=np.int16)
    wide, wide_source = np.empty(points), np.empty(points, dtype=np.int16)
    grown = np.empty(points)
    walk = np.zeros(entries, dtype=np.int64)
    low, high = 0, points  # no walk within the limit goes through other points of the last entry
    for entry in range(1, entries + 1):
        most = limit - rest[entry]
        while low < high and total[low] > most:
            low += 1
        while low < high and total[high - 1] > most:
            high -= 1
        if low == high:
            return walk, np.inf
        if entry == entries:
            break
        first, stop = max(0, low - (1 << bands) + 1), min(points, high + (1 << bands) - 1)
        for j in range(first, low):
            total[j] = np.inf
        for j in range(high, stop):
            total[j] = np.inf
        # Steps of 1 cost 3 bits, of 2-3 five, of 4-7 seven, ... The best of all steps up to 2**n - 1 is the best of
        # three windows of steps up to 2**(n-1) - 1; the shorter steps do no harm, they were offered more cheaply.
        for j in range(first, stop):
            grown[j], back[entry, j] = total[j] + 1.0, here[j]
            near[j], near_source[j] = total[j], here[j]
        distance, step_bits = 1, 3.0
        for _ in range(bands):
            _nearest_minimum(
                near[first:stop], near_source[first:stop], distance, wide[first:stop], wide_source[first:stop]
            )
            for j in range(first, stop):
                if wide[j] + step_bits < grown[j]:
                    grown[j], back[entry, j] = wide[j] + step_bits, wide_source[j]
            near, near_source, wide, wide_source = wide, wide_source, near, near_source
            distance, step_bits = 2 * distance, step_bits + 2.0
        for j in range(first, stop):
            total[j] = grown[j] + costs[entry, j]
        low, high = first, stop
    walk[-1] = low
    for j in range(low + 1, high):
        if total[j] < total[walk[-1]]:
            walk[-1] = j
    for entry in range(entries - 1, 0, -1):
        walk[entry - 1] = back[entry, walk[entry]]
    return walk, total[walk[-1]]


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


def read(data: bytes, entries: int) -> NDArray[np.int64]:
    """The points of a walk of `entries` steps; CorruptError unless `data` is exactly what `write` gives for them."""
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
    if min(points) < 0 or max(points) >= POINTS:
        raise CorruptError(f"probability table: expected points in 0..{POINTS - 1}, found {min(points)}..{max(points)}")
    if len(bits) - at > 7 or "1" in bits[at:]:
        raise CorruptError(f"probability table: expected less than a byte of zeros at its end, found {bits[at:][:16]}")
    return np.array(points, dtype=np.int64)


def read_table(form: int, data: bytes, known: Contexts) -> Table:
    """The table that `Table.write` gave; CorruptError for bytes or a form that do not fit the contexts."""
    if form in _CURVE_FORMS:
        knots = np.frombuffer(data, dtype=np.uint8).astype(np.int64)
        count = known.classes // 2 if form == MIRRORED_CURVES else known.classes
        if not _takes(form, known):
            raise CorruptError(f"probability table: expected a walk over {known.levels} levels, found curves")
        if knots.size != 3 * count or knots.max() >= POINTS:
            raise CorruptError(
                f"probability table: expected {count} curves of 3 points below {POINTS}, found {knots[:12].tolist()}"
            )
        return Table(form, knots.reshape(count, 3))
    if known.levels >> form == 0:
        raise CorruptError(f"probability table: expected to merge at most {known.levels} levels, found 2**{form}")
    return Table(form, read(data, (known.levels >> form) * known.classes))
