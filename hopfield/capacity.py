"""How much a memory holds: its load factor, theory, scans over loads and over the noise of cues, and their plots."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from hopfield import patterns as pt
from hopfield.dynamics import Update
from hopfield.errors import CapacityWarning, LearningWarning, RuleError
from hopfield.memories import Memory
from maskstore.errors import needing

MakeMemory = Callable[[torch.Tensor], Memory]
"""Makes a memory that holds the given patterns `(k, d)`."""


def load_factor(memory: Memory) -> float:
    """Stored patterns per neuron, k / d.

    Examples:
        >>> import torch
        >>> from hopfield import HopfieldNetwork, capacity
        >>> network = HopfieldNetwork(64)
        >>> network.store(torch.ones(64))
        >>> capacity.load_factor(network)
        0.015625
    """
    return len(memory) / memory.dim


def hebbian_bit_error(load: float) -> float:
    """Probability that one bit of a stored random pattern is unstable under the Hebb rule, before any dynamics.

    It is `erfc(sqrt(1 / (2 load))) / 2`: a signal of 1 against Gaussian crosstalk of variance k / d.

    Args:
        load: Patterns per neuron, k / d.

    Source:
        Hertz, Krogh and Palmer, "Introduction to the Theory of Neural Computation", 1991, equation 2.16.

    Examples:
        >>> from hopfield import capacity
        >>> round(capacity.hebbian_bit_error(0.138), 4)
        0.0036
    """
    return math.erfc(math.sqrt(1 / (2 * load))) / 2 if load > 0 else 0.0


def break_even_patterns(memory_bytes: int, dim: int) -> float:
    """From how many patterns of d bits a memory of fixed size is smaller than the packed patterns.

    Args:
        memory_bytes: Size of the memory, `Memory.nbytes`.
        dim: Number of neurons d.

    Examples:
        >>> from hopfield import HopfieldNetwork, capacity
        >>> capacity.break_even_patterns(HopfieldNetwork(512).nbytes, 512)
        10272.0
    """
    return memory_bytes / (dim / 8)


@dataclass(frozen=True)
class CapacityPoint:
    """What `scan_capacity` found at one number of patterns, as means over the seeds.

    Examples:
        >>> from hopfield.capacity import CapacityPoint
        >>> CapacityPoint(patterns=50, dim=200, exact=0.9, bits=0.99).load
        0.25
    """

    patterns: int
    dim: int
    exact: float
    """Fraction of patterns that are fixed points, every bit."""
    bits: float
    """Fraction of bits that are right where recall from the pattern itself comes to rest."""
    exact_error: float = 0.0
    """Standard error of `exact`, from the seeds; 0 for one seed."""

    @property
    def load(self) -> float:
        """Patterns per neuron."""
        return self.patterns / self.dim


def scan_capacity(make: MakeMemory, dim: int, counts: Sequence[int], *, seeds: int = 3) -> list[CapacityPoint]:
    """Store random patterns in growing numbers and see which stay.

    A scan overloads memories on purpose, so capacity and learning warnings are silenced.

    Args:
        make: Makes a memory and stores the given patterns `(k, d)` in it, all of them. An empty one is an error.
        dim: Number of neurons d, at least 2.
        counts: Numbers of patterns k to try, each at least 1.
        seeds: How many sets of random patterns to take the mean over.

    Returns:
        One point for each count.

    Raises:
        RuleError: A number outside its range.

    Examples:
        >>> from hopfield import DualMemory, capacity
        >>> points = capacity.scan_capacity(DualMemory.of_patterns, 128, (3, 40), seeds=1)
        >>> [(point.patterns, point.exact > 0.9) for point in points]  # the Hebb rule keeps 3 patterns, not 40
        [(3, True), (40, False)]
    """
    if dim < 2 or seeds < 1 or not counts or min(counts) < 1:
        raise RuleError(f"scan: expected dim >= 2, seeds >= 1 and counts >= 1, found {dim}, {seeds}, {list(counts)}")
    points = []
    for count in counts:
        exact, bits = [], 0.0
        for seed in range(seeds):
            patterns = pt.random_patterns(count, dim, torch.Generator().manual_seed(seed))
            memory = _quietly(make, patterns)
            field = memory.field(patterns)
            exact.append(float((pt.signs_or(field, patterns) == patterns).all(1).float().mean()))
            bits += float((memory.recall(patterns) == patterns).float().mean())
        points.append(CapacityPoint(count, dim, mean(exact), bits / seeds, _error(exact)))
    return points


def largest_reaching(points: Sequence[CapacityPoint], *, exact: float = 0.0, bits: float = 0.0) -> CapacityPoint | None:
    """The point with the most patterns such that it and all points with fewer patterns reach these fractions.

    Args:
        points: Points of one scan, in any order.
        exact: Least fraction of patterns that are fixed points.
        bits: Least fraction of right bits.

    Returns:
        The point, or None if not even the one with the fewest patterns reaches the fractions.

    Examples:
        >>> from hopfield.capacity import CapacityPoint, largest_reaching
        >>> points = [CapacityPoint(10, 100, 1.0, 1.0), CapacityPoint(20, 100, 0.7, 0.98)]
        >>> largest_reaching(points, exact=0.99).patterns
        10
    """
    best = None
    for point in sorted(points, key=lambda p: p.patterns):
        if point.exact < exact or point.bits < bits:
            break
        best = point
    return best


@dataclass(frozen=True)
class BasinPoint:
    """What `scan_basins` recalled from cues with one fraction of bits flipped.

    Examples:
        >>> from hopfield.capacity import BasinPoint
        >>> BasinPoint(noise=0.2, exact=0.98).exact
        0.98
    """

    noise: float
    """Fraction of the cue's bits that were flipped."""
    exact: float
    """Fraction of patterns recalled without a wrong bit, mean over the seeds."""
    exact_error: float = 0.0
    """Standard error of `exact`, from the seeds; 0 for one seed."""


def scan_basins(
    make: MakeMemory,
    dim: int,
    count: int,
    noises: Sequence[float],
    *,
    seeds: int = 5,
    update: Update = "synchronous",
) -> list[BasinPoint]:
    """Recall random patterns from cues with a growing fraction of their bits flipped.

    Args:
        make: Makes a memory and stores the given patterns `(k, d)` in it, all of them.
        dim: Number of neurons d.
        count: Number of patterns k.
        noises: Fractions of bits to flip, in [0, 1].
        seeds: How many sets of random patterns to take the mean over.
        update: As in `hopfield.dynamics.relax`.

    Returns:
        One point for each fraction.

    Raises:
        RuleError: A number outside its range, or an unknown `update`.

    Examples:
        >>> from hopfield import DualMemory, PseudoInverse, capacity
        >>> def make(patterns):
        ...     return DualMemory.of_patterns(patterns, PseudoInverse())
        >>> [point.exact for point in capacity.scan_basins(make, 128, 10, (0.1, 0.5), seeds=1)]
        [1.0, 0.0]
    """
    if count < 1 or seeds < 1 or any(not 0 <= noise <= 1 for noise in noises):
        raise RuleError(f"scan: expected count and seeds >= 1, noises in [0, 1], found {count}, {seeds}, {noises}")
    exact: list[list[float]] = [[] for _ in noises]
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        patterns = pt.random_patterns(count, dim, generator)
        memory = _quietly(make, patterns)
        for index, noise in enumerate(noises):
            recalled = memory.recall(pt.flip(patterns, noise, generator), update=update)
            exact[index].append(float((recalled == patterns).all(1).float().mean()))
    return [BasinPoint(noise, mean(found), _error(found)) for noise, found in zip(noises, exact, strict=True)]


def plot_capacity(
    scans: Mapping[str, Sequence[CapacityPoint]], path: Path, *, limits: Mapping[str, float] | None = None
) -> None:
    """Plot the fraction of exact fixed points over patterns per neuron, one curve a name.

    Args:
        scans: Points by the name of their curve.
        path: The file to write, in any format of matplotlib.
        limits: Loads (patterns per neuron) drawn as dotted lines in the colour of the curve of that name.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from hopfield.capacity import CapacityPoint, plot_capacity
        >>> points = [CapacityPoint(10, 100, 1.0, 1.0), CapacityPoint(20, 100, 0.7, 0.98)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_capacity({"Hebb": points}, Path(folder, "capacity.svg"), limits={"Hebb": 0.138})
    """
    curves = {
        name: [(point.load, point.exact, point.exact_error) for point in points] for name, points in scans.items()
    }
    axes = {"xlabel": "patterns per neuron", "ylabel": "exact fixed points", "xscale": "log"}
    _plot(curves, path, axes, limits or {})


def plot_basins(scans: Mapping[str, Sequence[BasinPoint]], path: Path) -> None:
    """Plot the fraction recalled exactly over the fraction of flipped bits in the cue, one curve a name.

    Args:
        scans: Points by the name of their curve.
        path: The file to write, in any format of matplotlib.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from hopfield.capacity import BasinPoint, plot_basins
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_basins({"Hebb": [BasinPoint(0.1, 1.0), BasinPoint(0.3, 0.2)]}, Path(folder, "basins.svg"))
    """
    curves = {
        name: [(point.noise, point.exact, point.exact_error) for point in points] for name, points in scans.items()
    }
    _plot(curves, path, {"xlabel": "flipped bits in the cue", "ylabel": "recalled exactly"}, {})


def _plot(
    curves: dict[str, list[tuple[float, float, float]]], path: Path, axes: dict[str, Any], limits: Mapping[str, float]
) -> None:
    with needing("matplotlib", path):
        from matplotlib.figure import Figure  # slow to import, and not needed without a plot

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for name, points in curves.items():
        x, y, error = zip(*points, strict=True) if points else ((), (), ())
        bars = axis.errorbar(x, y, yerr=error, marker="o", markersize=3, label=name)
        if name in limits:
            axis.axvline(limits[name], color=bars.lines[0].get_color(), linestyle=":", linewidth=1)
    axis.set(ylim=(-0.02, 1.02), **axes)
    axis.legend()
    figure.savefig(path)


def _error(found: Sequence[float]) -> float:
    """Standard error of a mean."""
    return stdev(found) / math.sqrt(len(found)) if len(found) > 1 else 0.0


def _quietly(make: MakeMemory, patterns: torch.Tensor) -> Memory:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CapacityWarning)
        warnings.simplefilter("ignore", LearningWarning)
        return make(patterns)
