"""Minimum probability flow: couplings under which probability leaves the patterns as slowly as possible."""

import math
import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hopfield.errors import LearningWarning, RuleError
from hopfield.rules.base import Rule

_MEMORY = 0.9  # of the momentum


@dataclass(frozen=True)
class ProbabilityFlow(Rule):
    """Symmetric couplings that minimise the flow `K = Σ exp(-z_i h_i)` from patterns to states one spin away.

    The sum goes over all neurons of all patterns. K is convex, and once it is below 1 every pattern is a fixed point
    with a margin at every neuron. Its gradient by a coupling is local.

    All patterns are learnt anew at each store, so the memory keeps them. It holds at least as many random patterns as
    there are neurons. `LearningWarning` if some could not be learnt.

    Source:
        Sohl-Dickstein, Battaglino and DeWeese, "New method for parameter estimation in probabilistic models: minimum
        probability flow", Phys. Rev. Letters 2011; Hillar, Sohl-Dickstein and Koepsell, "Efficient and optimal
        binary Hopfield associative memory storage using minimum probability flow", arXiv 1204.2916.

    Examples:
        >>> import torch
        >>> from hopfield import HopfieldNetwork, ProbabilityFlow, patterns
        >>> stored = patterns.random_patterns(50, 100, torch.Generator().manual_seed(0))
        >>> network = HopfieldNetwork(100, ProbabilityFlow(), centre=None)
        >>> network.store(stored)
        >>> torch.equal(network.recall(stored), stored)
        True
    """

    steps: int = 500

    id: ClassVar[str] = "probability-flow"
    needs_patterns: ClassVar[bool] = True
    threshold: ClassVar[float | None] = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RuleError(f"ProbabilityFlow: expected steps >= 1, found {self.steps}")

    def learn(self, matrix: Tensor, new: Tensor, earlier: Tensor | None, centre: Tensor | None) -> Tensor:
        """See `Rule.learn`; what `matrix` held is replaced."""
        patterns = new if earlier is None else torch.cat([earlier, new])
        push = patterns.new_zeros(()) if centre is None else centre
        signs = (patterns + push).sign()
        count, dim = patterns.shape
        couplings, moving = torch.zeros_like(matrix), torch.zeros_like(matrix)
        squares = torch.zeros((), dtype=matrix.dtype, device=matrix.device)
        for step in range(self.steps):
            flow = torch.exp(-signs * (patterns @ couplings + push)).clamp(max=1e4)  # (k, d)
            ascent = (flow * signs).T @ patterns
            ascent = (ascent + ascent.T).fill_diagonal_(0) / (2 * count)
            squares = 0.99 * squares + 0.01 * ascent.square().mean()
            size = (squares / (1 - 0.99 ** (step + 1))).sqrt().clamp(min=1e-12)
            moving = _MEMORY * moving + (1 - _MEMORY) * ascent / size
            rate = 0.5 / math.sqrt(dim) * (1 - step / self.steps)
            couplings = couplings + rate * moving
        held = (signs * (patterns @ couplings + push) > 0).all(1).float().mean()
        if held < 1:
            warnings.warn(
                f"ProbabilityFlow: expected all {count} patterns learnt in {self.steps} steps, found "
                f"{100 * float(held):.1f} %",
                LearningWarning,
                stacklevel=4,  # whoever called `store`
            )
        return couplings

    def limit(self, dim: int) -> float:
        """d patterns, what it holds at least by the experience of its authors."""
        return float(dim)
