"""Probability tables as curves: for each class three points, at the first, the middle and beyond the last level.

Where levels are the magnitude of an initial score, the log-odds of a trained bit are nearly a straight line in them, so
six bytes say what a walk over all levels says in sixty. Between the knots a curve is straight. `mirrored` curves
are stored for the first half of the classes: class C - 1 - c is class c with zeros and ones exchanged, as when turning
the signs of a score, its weight and its mask bit leaves everything else as it was. `docs/format.md`, "Codec ans".
"""

import numpy as np
from numpy.typing import NDArray

from maskstore.kernels import compiled

KNOTS = 3


@compiled
def point_at(knots, level, levels):
    """The curve's point at a level: linear between the knots at 0, levels / 2 and levels, rounded half up."""
    half = levels >> 1
    piece, rest = (0, level) if level < half else (1, level - half)
    return (knots[piece] * (half - rest) + knots[piece + 1] * rest + (half >> 1)) // half


@compiled
def _cost(costs, knots):
    total = 0.0
    for level in range(costs.shape[0]):
        total += costs[level, point_at(knots, level, costs.shape[0])]
    return total


@compiled
def _descend(costs, knots, step):
    """Move knots one at a time, in halving steps, while that makes the curve cheaper; `costs` is levels x points."""
    best, last = _cost(costs, knots), costs.shape[1] - 1
    while step:
        moved = False
        for k in range(knots.size):
            for change in (-step, step):
                old = knots[k]
                if 0 <= old + change <= last:
                    knots[k] = old + change
                    cost = _cost(costs, knots)
                    if cost < best:
                        best, moved = cost, True
                    else:
                        knots[k] = old
        if not moved:
            step >>= 1
    return best


@compiled
def _fit(costs, knots):
    """Curves for costs of shape (curves, levels, points); fills `knots` (curves, 3) and returns the bits."""
    total = 0.0
    for curve in range(costs.shape[0]):
        knots[curve, :] = costs.shape[2] >> 1
        total += _descend(costs[curve], knots[curve], 32)
    return total


def fit(costs: NDArray[np.float64], *, mirrored: bool) -> tuple[NDArray[np.int64], float]:
    """Cheap curves for `costs`, shape (classes, levels, points): (knots `(curves, 3)` int64, bits of the mask)."""
    if mirrored:
        half = costs.shape[0] // 2
        costs = costs[:half] + costs[half:][::-1, :, ::-1]
    knots = np.zeros((costs.shape[0], KNOTS), dtype=np.int64)
    total = float(_fit(np.ascontiguousarray(costs), knots))
    return knots, total


def points(knots: NDArray[np.int64], levels: int, top: int, *, mirrored: bool) -> NDArray[np.int64]:
    """The point of every class and level, shape (classes, levels); `top` is the last point there is."""
    level, half = np.arange(levels), levels >> 1  # as `point_at`, of all at once
    piece = (level >= half).astype(np.int64)
    rest = level - piece * half
    own = (knots[:, piece] * (half - rest) + knots[:, piece + 1] * rest + (half >> 1)) // half
    return np.concatenate([own, top - own[::-1]]) if mirrored else own
