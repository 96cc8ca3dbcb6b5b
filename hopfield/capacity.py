"""How much a memory holds: its load, theory beside experience, and scans over loads and cue noise."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from hopfield import patterns as pt
from hopfield.dynamics import Update
from hopfield.errors import CapacityWarning, LearningWarning, RuleError
from hopfield.memories import Memory

MakeMemory = Callable[[torch.Tensor], Memory]
"""A memory that holds the given patterns `(k, d)`."""


def load(memory: Memory) -> float:
    """Stored patterns per neuron, k / d."""
    return len(memory) / memory.dim


def hebbian_bit_error(patterns_per_neuron: float) -> float:
    """Probability that one bit of a stored pattern is unstable under the Hebb rule: `erfc(sqrt(1 / (2 load))) / 2`.

    For random patterns, before any dynamics (Hertz, Krogh and Palmer, "Introduction to the Theory of Neural
    Computation", 1991, equation 2.16): signal 1 against Gaussian crosstalk of variance k/d.
    """
    if patterns_per_neuron <= 0:
        return 0.0
    return math.erfc(math.sqrt(1 / (2 * patterns_per_neuron))) / 2


@dataclass(frozen=True)
class CapacityPoint:
    """What was found at one number of patterns, as means over the seeds."""

    patterns: int
    dim: int
    exact: float
    """Fraction of patterns that are fixed points, every bit."""
    bits: float
    """Fraction of bits right where recall from the pattern itself comes to rest."""

    @property
    def load(self) -> float:
        """Patterns per neuron."""
        return self.patterns / self.dim


def scan_capacity(make: MakeMemory, dim: int, counts: Sequence[int], *, seeds: int = 3) -> list[CapacityPoint]:
    """Store random patterns in growing numbers and see which stay: one point for each count.

    Overloading is the purpose, so capacity and learning warnings are silenced.
    """
    if dim < 2 or seeds < 1 or not counts or min(counts) < 1:
        raise RuleError(f"scan: expected dim >= 2, seeds >= 1 and counts >= 1, found {dim}, {seeds}, {list(counts)}")
    points = []
    for count in counts:
        exact, bits = 0.0, 0.0
        for seed in range(seeds):
            patterns = pt.random_patterns(count, dim, torch.Generator().manual_seed(seed))
            memory = _quietly(make, patterns)
            field = memory.field(patterns)
            exact += float((pt.signs_or(field, patterns) == patterns).all(1).float().mean())
            bits += float((memory.recall(patterns) == patterns).float().mean())
        points.append(CapacityPoint(count, dim, exact / seeds, bits / seeds))
    return points


def largest(points: Sequence[CapacityPoint], *, exact: float = 0.0, bits: float = 0.0) -> CapacityPoint | None:
    """The point with the most patterns that still reaches these fractions, as do all points with fewer patterns."""
    best = None
    for point in sorted(points, key=lambda p: p.patterns):
        if point.exact < exact or point.bits < bits:
            break
        best = point
    return best


@dataclass(frozen=True)
class BasinPoint:
    """What was recalled from cues with one fraction of bits flipped."""

    noise: float
    exact: float
    """Fraction of patterns recalled without a wrong bit, mean over the seeds."""


def scan_basins(
    make: MakeMemory,
    dim: int,
    count: int,
    noises: Sequence[float],
    *,
    seeds: int = 5,
    update: Update | str = Update.SYNCHRONOUS,
) -> list[BasinPoint]:
    """Recall `count` random patterns from cues with a fraction of their bits flipped: one point for each fraction."""
    if count < 1 or seeds < 1 or any(not 0 <= noise <= 1 for noise in noises):
        raise RuleError(f"scan: expected count and seeds >= 1, noises in [0, 1], found {count}, {seeds}, {noises}")
    exact = [0.0] * len(noises)
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        patterns = pt.random_patterns(count, dim, generator)
        memory = _quietly(make, patterns)
        for index, noise in enumerate(noises):
            recalled = memory.recall(pt.flip(patterns, noise, generator), update=update)
            exact[index] += float((recalled == patterns).all(1).float().mean()) / seeds
    return [BasinPoint(noise, fraction) for noise, fraction in zip(noises, exact, strict=True)]


def break_even_patterns(memory_bytes: int, dim: int) -> float:
    """From how many patterns on a memory of fixed size is smaller than the packed patterns of d bits each."""
    return memory_bytes / (dim / 8)


def _quietly(make: MakeMemory, patterns: torch.Tensor) -> Memory:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CapacityWarning)
        warnings.simplefilter("ignore", LearningWarning)
        return make(patterns)
