"""Perceptron couplings: every neuron of every pattern must be held by its field."""

import math
import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hopfield.errors import LearningWarning, RuleError
from hopfield.rules.base import Rule

_CHECK_EVERY = 25  # steps; looking whether all is learnt costs as much as half a step


@dataclass(frozen=True)
class Perceptron(Rule):
    """Couplings with `z_i h_i > margin |Ψ_i|` for every neuron i of every pattern, |Ψ_i| the length of a row.

    The condition is Gardner's ("The space of interactions in neural network models", J. Phys. A 1988), who found that
    free couplings can satisfy it for `1 / ((1 + κ²) Φ(κ) + κ φ(κ))` patterns per neuron, κ the margin: 2 at κ = 0.
    Symmetric couplings (of which alone there is an energy) hold fewer; at κ = 0 and d = 512 this rule still finds them
    at 1.6, and `limit` says 1.5. They are learnt as a batch relaxation perceptron: steepest descent on the squared
    violations of `z_i h_i >= 1`, with Nesterov's momentum and restarts (O'Donoghue and Candes 2015), from zero.

    A memory with a centre c learns them with the threshold that it applies, θ = 1: h = Ψ (z - c) + c.

    All patterns are learnt anew at each store, so the memory keeps them. `LearningWarning` if some could not be.

    Examples:
        >>> import torch
        >>> from hopfield import HopfieldNetwork, Perceptron, patterns
        >>> stored = patterns.random_patterns(50, 100, torch.Generator().manual_seed(0))
        >>> network = HopfieldNetwork(100, Perceptron())
        >>> network.store(stored)
        >>> torch.equal(network.recall(stored), stored)
        True
    """

    margin: float = 0.0
    symmetric: bool = True
    max_steps: int = 3000

    id: ClassVar[str] = "perceptron"
    needs_patterns: ClassVar[bool] = True
    threshold: ClassVar[float | None] = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf or self.max_steps < 1:
            raise RuleError(f"Perceptron: expected margin >= 0 and max_steps >= 1, found {self}")

    def learn(self, matrix: Tensor, new: Tensor, earlier: Tensor | None, centre: Tensor | None) -> Tensor:
        """See `Rule.learn`; what `matrix` held is replaced."""
        patterns = new if earlier is None else torch.cat([earlier, new])
        push = patterns.new_zeros(()) if centre is None else centre
        signs = (patterns + push).sign()
        largest = max(float(torch.linalg.matrix_norm(patterns, 2)) ** 2, 1e-30)  # patterns may all be the centre
        rate = 1 / (2 * largest if self.symmetric else largest)
        couplings, ahead, momentum = torch.zeros_like(matrix), torch.zeros_like(matrix), 1.0
        for step in range(1, self.max_steps + 1):
            wanted: Tensor = 1 + self.margin * torch.linalg.vector_norm(ahead, dim=1)
            missing = (wanted - signs * (patterns @ ahead.T + push)).clamp(min=0) * signs  # (k, d)
            ascent = missing.T @ patterns
            if self.symmetric:
                ascent = ascent + ascent.T
            ascent.fill_diagonal_(0)
            following = ahead + rate * ascent
            if float((following - couplings).flatten() @ ascent.flatten()) < 0:
                momentum = 1.0
            gained = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = following + (momentum - 1) / gained * (following - couplings)
            couplings, momentum = following, gained
            if step % _CHECK_EVERY == 0 and self._held(couplings, patterns, signs, push).all():
                return couplings
        held = self._held(couplings, patterns, signs, push).all(1).float().mean()
        if held < 1:
            warnings.warn(
                f"Perceptron: expected all {len(patterns)} patterns learnt in {self.max_steps} steps, found "
                f"{100 * float(held):.1f} %",
                LearningWarning,
                stacklevel=4,  # whoever called `store`
            )
        return couplings

    def _held(self, couplings: Tensor, patterns: Tensor, signs: Tensor, push: Tensor) -> Tensor:
        return torch.gt(
            signs * (patterns @ couplings.T + push), self.margin * torch.linalg.vector_norm(couplings, dim=1)
        )

    def limit(self, dim: int) -> float:
        """Gardner's bound for free couplings; three quarters of it, an experience, for symmetric ones."""
        k = self.margin
        below = (1 + math.erf(k / math.sqrt(2))) / 2
        density = math.exp(-k * k / 2) / math.sqrt(2 * math.pi)
        bound = dim / ((1 + k * k) * below + k * density)
        return 0.75 * bound if self.symmetric else bound
