"""The Hebb rule."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hopfield.rules.base import Rule


@dataclass(frozen=True)
class Hebbian(Rule):
    """`Ψ += (1/d) z zᵀ` (Hopfield, "Neural networks and physical systems with emergent collective computational
    abilities", PNAS 1982; with a centre, Tsodyks and Feigel'man, Europhysics Letters 1988).

    Holds `d / (2 ln d)` patterns of which almost all are exact fixed points (McEliece et al., IEEE Trans. Inf. Theory
    1987), and 0.138 d with a few per cent of wrong bits (Amit, Gutfreund, Sompolinsky, PRL 1985). Incremental, and the
    order does not matter; forgetting subtracts.

    Examples:
        >>> import torch
        >>> from hopfield import HopfieldNetwork, Hebbian, patterns
        >>> stored = patterns.random_patterns(5, 100, torch.Generator().manual_seed(0))
        >>> network = HopfieldNetwork(100, Hebbian())
        >>> network.store(stored)
        >>> torch.equal(network.recall(stored), stored)
        True
    """

    id: ClassVar[str] = "hebbian"

    def learn(self, matrix: Tensor, new: Tensor, earlier: Tensor | None, centre: Tensor | None) -> Tensor:
        """See `Rule.learn`."""
        return matrix.addmm_(new.T, new, alpha=1 / matrix.shape[0])

    def unlearn(self, matrix: Tensor, old: Tensor) -> Tensor:
        """See `Rule.unlearn`."""
        return matrix.addmm_(old.T, old, alpha=-1 / matrix.shape[0])

    def limit(self, dim: int) -> float:
        """`d / (2 ln d)`, patterns."""
        return dim / (2 * math.log(max(dim, 2)))
