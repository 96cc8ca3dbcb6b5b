"""The density whose masks take a given number of bits: a task is trained at a few densities and its masks are coded."""

from collections.abc import Callable
from math import log

from maskstore import Mask
from maskstore.codecs import Mix, encode_mask, size_of
from maskstore.priors import Prior
from supsup_models.errors import NetworkError

_TRIALS = 6
_TOO_FEW = 0.96  # of the target: fewer bits than that would leave accuracy on the table
_AIM = 0.98
_SLOPE = 0.85  # d log bits / d log density of trained masks, until two trials say better


def coded_bits(mask: Mask, prior: Prior) -> float:
    """Bits per parameter of a mask's payload and side information under the `mix` codec, as `compact --level max`."""
    return 8 * size_of(encode_mask(Mix(), mask, prior)[1]) / mask.spec.bits


def find_density(target: float, bits_at: Callable[[float], float], *, start: float, most: float, least: float) -> float:
    """A density whose masks take between 0.96 times the target and the target, in bits per parameter.

    `bits_at` trains and codes a mask of a density; it is called at most six times, from `start`, and only within
    `least` and `most`. The trial closest below the target is good enough where none meets it. NetworkError if all
    trials take more.
    """
    tried: list[tuple[float, float]] = []
    density = max(least, min(start, most))
    for _ in range(_TRIALS):
        bits = bits_at(density)
        tried.append((density, bits))
        if _TOO_FEW * target <= bits <= target or (bits <= target and density == most):
            return density
        density = max(least, min(most, density * (_AIM * target / bits) ** (1.0 / _slope(tried))))
        if any(abs(density / earlier - 1.0) < 1e-3 for earlier, _ in tried):
            break
    below = [(bits, density) for density, bits in tried if bits <= target]
    if not below:
        fewest = min(bits for _, bits in tried)
        raise NetworkError(
            f"target bits: expected a target that masks can meet, found {target:g}; the fewest tried are {fewest:.3g}"
        )
    return max(below)[1]


def _slope(tried: list[tuple[float, float]]) -> float:
    """d log bits / d log density through the last two trials, kept sensible."""
    if len(tried) < 2 or tried[-1][0] == tried[-2][0]:
        return _SLOPE
    (before, earlier), (last, later) = tried[-2:]
    return min(1.5, max(0.3, log(later / earlier) / log(last / before)))
