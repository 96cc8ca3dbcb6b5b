"""Loops of a sparse training step in float32 on the host: few passes over the scores, and no work for weights that a
mask leaves out. `sparse.py` and `layer_adam.py` compute the same with torch elsewhere.
"""

import numpy as np
from numpy.typing import NDArray

from maskstore.kernels import compiled

NEAR = 1 / 64
"""Share of the places that are looked at for a threshold near the last one."""


@compiled(fastmath={"reassoc", "contract", "nsz"})
def gradients(product, signs, scale, out):
    """out = scale * product * signs, flat; returns the sum of its squares."""
    total = np.float32(0.0)
    for i in range(out.size):
        value = product[i] * signs[i] * scale
        out[i] = value
        total += value * value
    return total


@compiled(fastmath={"reassoc", "contract", "nsz"})
def gradients_with_pull(product, pull, signs, scale, out):
    """out = (scale * product + pull) * signs, flat; returns the sum of its squares."""
    total = np.float32(0.0)
    for i in range(out.size):
        value = (product[i] * scale + pull[i]) * signs[i]
        out[i] = value
        total += value * value
    return total


@compiled(error_model="numpy")  # a check for zero at every division would keep the loop from vectors
def adam(scores, gradient, mean, square, rate, first, second, eps, step):
    """Adam's step number `step`, from 1, in place; all flat float32 but the numbers."""
    kept_mean, kept_square, small = np.float32(first), np.float32(second), np.float32(eps)
    new_mean, new_square = np.float32(1.0 - first), np.float32(1.0 - second)
    size = np.float32(rate / (1.0 - first**step))
    root = np.float32(1.0 / np.sqrt(1.0 - second**step))
    for i in range(scores.size):
        g = gradient[i]
        m = kept_mean * mean[i] + new_mean * g
        v = kept_square * square[i] + new_square * g * g
        mean[i], square[i] = m, v
        scores[i] -= size * m / (np.sqrt(v) * root + small)


@compiled
def _near(scores, low, high, found):
    """How many scores are above `high`, and the values from `low` to `high`, as many as `found` has room for."""
    above, inside = 0, 0
    for i in range(scores.size):
        value = scores[i]
        if value > high:
            above += 1
        elif value >= low:
            if inside < found.size:
                found[inside] = value
            inside += 1
    return above, inside


def threshold(scores: NDArray[np.float32], count: int, last: float, width: float) -> float:
    """The `count`-th largest of flat scores, looked for within `width` of where it was last, and else everywhere."""
    found = np.empty(max(64, int(NEAR * scores.size)), dtype=np.float32)
    above, inside = _near(scores, np.float32(last - width), np.float32(last + width), found)
    if above < count <= above + inside and inside <= found.size:
        values = found[:inside]
        return float(np.partition(values, inside - (count - above))[inside - (count - above)])
    return float(np.partition(scores, scores.size - count)[scores.size - count])
