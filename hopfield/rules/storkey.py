"""The Storkey rules: the published one, and the first-order form that the paper's code uses."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from hopfield.errors import check_choice
from hopfield.rules.base import Rule

Variant = Literal["first-order", "local-field"]


@dataclass(frozen=True)
class Storkey(Rule):
    """Each pattern is stored less what the memory knows of it already, through its field `h = Ψ z`.

    - `"first-order"`: `Ψ += (1/d) (z zᵀ - I - z hᵀ - h zᵀ)`, as the code of Wortsman et al. (NeurIPS 2020) does it.
      Patterns enter through their Gram matrix alone, so there is a dual form.
    - `"local-field"`: `Ψ_ij += (1/d) (z_i z_j - z_i h_ji - h_ij z_j)` with `h_ij = h_i - Ψ_ij z_j`, the field at i
      without the influence of i and j (Storkey and Valabregue, "The basins of attraction of a new Hopfield learning
      rule", Neural Networks 1999), diagonal kept at zero; in matrix form `z zᵀ - z hᵀ - h zᵀ + (z_i² + z_j²) Ψ_ij`,
      where the last term is 2 Ψ unless there is a centre.

    Holds about `d / sqrt(2 ln d)` patterns (Storkey and Valabregue 1999). Incremental; the order matters, so a pattern
    cannot be taken out exactly.

    Examples:
        >>> import torch
        >>> from hopfield import HopfieldNetwork, Storkey, patterns
        >>> stored = patterns.random_patterns(15, 100, torch.Generator().manual_seed(0))
        >>> network = HopfieldNetwork(100, Storkey())
        >>> network.store(stored)
        >>> torch.equal(network.recall(stored), stored)
        True
    """

    variant: Variant = "first-order"

    id: ClassVar[str] = "storkey"

    def __post_init__(self) -> None:
        check_choice("Storkey's variant", self.variant, get_args(Variant))

    def learn(self, matrix: Tensor, new: Tensor, earlier: Tensor | None, centre: Tensor | None) -> Tensor:
        """See `Rule.learn`; patterns are stored in order."""
        dim = matrix.shape[0]
        for z in new:
            h = matrix @ z
            if self.variant == "local-field":
                squares = z.square()
                matrix.mul_(1 + (squares[:, None] + squares) / dim)
            # z zᵀ - z hᵀ - h zᵀ = (z - h)(z - h)ᵀ - h hᵀ: two rank-one updates, which stay exactly symmetric
            left, right = torch.stack([z - h, -h], dim=1), torch.stack([z - h, h])
            matrix.addmm_(left, right, alpha=1 / dim)
            if self.variant == "local-field":
                matrix.fill_diagonal_(0)
            else:
                matrix.diagonal().sub_(1 / dim)
        return matrix

    def limit(self, dim: int) -> float:
        """`d / sqrt(2 ln d)`, patterns."""
        return dim / math.sqrt(2 * math.log(max(dim, 2)))
