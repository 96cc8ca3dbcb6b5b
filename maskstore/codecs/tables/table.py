"""Probability tables of the codecs `ans` and `mix`: quantised, and as detailed as the description length allows.

A probability is one of 177 points, evenly spaced in log-odds from -11 to 11 in steps of 1/8. A table is a walk over the
grid of contexts, class by class and level by level (`maskstore.codecs.tables.walks`). Where the levels follow a line,
curves of three points a class (`maskstore.codecs.tables.curves`) need fewer bytes still. The shorter description wins.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.tables import curves, walks
from maskstore.errors import CorruptError
from maskstore.priors import Contexts

POINTS = 177
CURVES, MIRRORED_CURVES = 14, 15
_CURVE_FORMS = (CURVES, MIRRORED_CURVES)
_FEWEST_LEVELS = 8


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


@dataclass(frozen=True)
class Table:
    """A probability table as it is stored: a walk over merged levels, or curves."""

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
        return walks.write(self.values)


def choose(counts: NDArray[np.int64], known: Contexts) -> tuple[Table, float]:
    """The table with the fewest bits in total, and these bits: those of the table and of the mask under it.

    `counts`, shape `(levels * classes, 2)`: zeros and ones seen in each context.
    """
    found = []
    for shift in range(known.levels.bit_length()):
        merged = counts.reshape(known.levels >> shift, 1 << shift, known.classes, 2).sum(axis=1)
        points, bits = walks.fit(_costs(merged.transpose(1, 0, 2).reshape(-1, 2)))
        found.append((Table(shift, points), bits))
    for form in _CURVE_FORMS:
        if _takes(form, known):
            costs = _costs(counts).reshape(known.levels, known.classes, POINTS)
            knots, bits = curves.fit(costs.transpose(1, 0, 2), mirrored=form == MIRRORED_CURVES)
            found.append((Table(form, knots), bits + 8 * knots.size))
    return min(found, key=lambda candidate: candidate[1])


def _costs(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bits that zeros and ones `(n, 2)` take together at each point, `(n, 177)`."""
    return counts.astype(np.float64) @ _point_costs()


def _takes(form: int, known: Contexts) -> bool:
    """Whether contexts can have curves of this form."""
    return known.levels >= _FEWEST_LEVELS and (form == CURVES or known.classes % 2 == 0)


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
    return Table(form, walks.read(data, (known.levels >> form) * known.classes, POINTS - 1))
