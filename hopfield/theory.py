"""What memories hold by theory: signal against noise, and the mean-field equations of the Hebb rule."""

import math
from statistics import NormalDist

import torch

from hopfield.errors import RuleError

_NORMAL = NormalDist()


def covariance_gap(dim: int, ones: int, count: int, *, one_bit: bool = False) -> float:
    """How far the drives of neurons that are to be on and off lie apart, in standard deviations of their noise.

    It is `sqrt(d / (k p (1 - p)))` for k patterns with p d ones, and `sqrt(2 / π)` of that with one-bit couplings.

    Args:
        dim: Number of neurons d.
        ones: Ones of a pattern, p d.
        count: Number of random patterns k, at least 1.
        one_bit: Whether the couplings are rounded to their signs.

    Raises:
        RuleError: A number outside its range.

    Source:
        Tsodyks and Feigel'man, Europhysics Letters 1988; for one bit, Sompolinsky, Phys. Rev. A 1986.

    Examples:
        >>> from hopfield import theory
        >>> round(theory.covariance_gap(4096, 205, 1000), 2)
        9.28
        >>> round(theory.covariance_gap(4096, 205, 1000, one_bit=True), 1)
        7.4
    """
    if not 1 <= ones < dim or count < 1:
        raise RuleError(f"gap: expected 1 <= ones < dim and count >= 1, found {ones}, {dim} and {count}")
    share = ones / dim
    gap = math.sqrt(dim / (count * share * (1 - share)))
    return gap * math.sqrt(2 / math.pi) if one_bit else gap


def wrong_ones(dim: int, ones: int, gap: float) -> float:
    """The share of a pattern's ones that are lost in one step from the pattern itself, with `ones` winners.

    As many neurons are wrongly on as wrongly off: the threshold t solves `(d - n) Q(t) = n Q(gap - t)`, Q the tail of
    the normal distribution.

    Args:
        dim: Number of neurons d.
        ones: Ones of a pattern, n.
        gap: As `covariance_gap` gives it.

    Examples:
        >>> from hopfield import theory
        >>> round(theory.wrong_ones(4096, 205, 4.0), 3)
        0.084
    """
    low, high = -10.0, gap + 10.0
    for _ in range(80):
        middle = (low + high) / 2
        if (dim - ones) * _tail(middle) > ones * _tail(gap - middle):
            low = middle
        else:
            high = middle
    return _tail(gap - low)


def covariance_patterns(dim: int, ones: int, *, one_bit: bool = False) -> float:
    """Random patterns of which 99 % are fixed points of covariance couplings with winners.

    A half per cent of them have a neuron wrongly off, and as many one wrongly on. For d without limit, with errors
    allowed, the count grows as `d / (2 p |ln p|)` (Tsodyks and Feigel'man 1988); it is far below that at sizes in use.

    Args:
        dim: Number of neurons d.
        ones: Ones of a pattern, p d.
        one_bit: Whether the couplings are rounded to their signs.

    Examples:
        >>> from hopfield import theory
        >>> round(theory.covariance_patterns(4096, 205)), round(theory.covariance_patterns(4096, 205, one_bit=True))
        (1122, 714)
    """
    on, off = _NORMAL.inv_cdf(1 - 0.005 / ones), _NORMAL.inv_cdf(1 - 0.005 / (dim - ones))
    return (covariance_gap(dim, ones, 1, one_bit=one_bit) / (on + off)) ** 2


def willshaw_share(dim: int, ones: int, count: int) -> float:
    """The share of synapses that are 1 after storing random patterns, `1 - (1 - p²)^k`.

    Args:
        dim: Number of neurons d.
        ones: Ones of a pattern, p d.
        count: Number of patterns k.

    Source:
        Willshaw, Buneman and Longuet-Higgins, Nature 1969.

    Examples:
        >>> from hopfield import theory
        >>> round(theory.willshaw_share(2048, 11, 24000), 3)
        0.5
    """
    return -math.expm1(count * math.log1p(-((ones / dim) ** 2)))


def pattern_bits(dim: int, ones: int) -> float:
    """Bits of information of a random pattern with a given number of ones: log2 of `d` over `ones`.

    Args:
        dim: Number of neurons d.
        ones: Ones of a pattern.

    Examples:
        >>> from hopfield import theory
        >>> round(theory.pattern_bits(4096, 205))
        1169
    """
    return (math.lgamma(dim + 1) - math.lgamma(ones + 1) - math.lgamma(dim - ones + 1)) / math.log(2)


def hebbian_overlap(load: float, temperature: float = 0.0) -> float:
    """Overlap m of a Hebb network with a stored pattern at rest, 0 where the pattern is lost.

    It solves, from m = 1, the replica-symmetric equations `m = <tanh β(m + sqrt(α r) z)>`, `q = <tanh² β(...)>`,
    `r = q / (1 - C)²` and `C = β (1 - q)`, with z a normal number; at temperature 0 their limits.

    Args:
        load: α, random patterns per neuron.
        temperature: T = 1 / β, in units of the energy, from 0 on.

    Raises:
        RuleError: A negative number.

    Source:
        Amit, Gutfreund and Sompolinsky, "Storing infinite numbers of patterns in a spin-glass model of neural
        networks", Phys. Rev. Letters 1985, and "Statistical mechanics of neural networks near saturation", Annals of
        Physics 1987.

    Examples:
        >>> from hopfield import theory
        >>> round(theory.hebbian_overlap(0.137), 2), theory.hebbian_overlap(0.139)
        (0.98, 0.0)
        >>> round(theory.hebbian_overlap(0.05, temperature=0.4), 2)
        0.97
    """
    if not 0 <= load < math.inf or not 0 <= temperature < math.inf:
        raise RuleError(f"overlap: expected a load and a temperature of at least 0, found {load} and {temperature}")
    points = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    weights = torch.exp(-points.square() / 2)
    weights /= weights.sum()
    m, noise = 1.0, load  # α r
    for _ in range(5000):
        if temperature > 0:
            soft = torch.tanh((m + math.sqrt(noise) * points) / temperature)
            new, square = float(weights @ soft), float(weights @ soft.square())
            answer = (1 - square) / temperature
        else:
            width = math.sqrt(2 * max(noise, 1e-30))
            new, square = math.erf(m / width), 1.0
            answer = 2 / (math.sqrt(math.pi) * width) * math.exp(-((m / width) ** 2))
        if answer >= 1 or new < 1e-3:
            return 0.0
        following = load * square / (1 - answer) ** 2
        if abs(new - m) + abs(following - noise) < 1e-10:
            break
        m, noise = new, following
    return m


def _tail(x: float) -> float:
    return math.erfc(x / math.sqrt(2)) / 2
