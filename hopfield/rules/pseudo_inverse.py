"""The projection (pseudo-inverse) rule."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hopfield.rules.base import Rule

NEW_DIRECTION = 1e-6  # share of d that a direction's square must have outside the span, else it lies in it already


@dataclass(frozen=True)
class PseudoInverse(Rule):
    """Ψ is the orthogonal projector onto the span of the patterns (Personnaz, Guyon and Dreyfus, "Information storage
    and retrieval in spin-glass like neural networks", J. Physique Lettres 1985).

    Stored patterns are fixed points exactly, correlated ones too, as long as they are linearly independent: up to d of
    them. Basins of attraction are useful to about d / 2, and far wider with the diagonal at zero (Kanter and
    Sompolinsky, "Associative recall of memory without errors", Phys. Rev. A 1987). Incremental: a new pattern adds the
    projector onto what is new in it (Greville 1960), computed in float64. Forgetting needs the other patterns, which Ψ
    does not keep: see the dual memory.

    Examples:
        >>> import torch
        >>> from hopfield import HopfieldNetwork, PseudoInverse, patterns
        >>> stored = patterns.random_patterns(50, 100, torch.Generator().manual_seed(0))
        >>> network = HopfieldNetwork(100, PseudoInverse())
        >>> network.store(stored)
        >>> torch.equal(network.recall(stored), stored)
        True
    """

    id: ClassVar[str] = "pseudo-inverse"

    def learn(self, matrix: Tensor, new: Tensor, earlier: Tensor | None, centre: Tensor | None) -> Tensor:
        """See `Rule.learn`."""
        projector = matrix.to(torch.float64)
        patterns = new.to(torch.float64)
        for block in patterns.split(matrix.shape[0]):
            outside = block - block @ projector
            _, scale, directions = torch.linalg.svd(outside, full_matrices=False)
            kept = directions[scale.square() > NEW_DIRECTION * matrix.shape[0]]
            if not len(kept):
                continue
            # float32 storage leaves a little of the old span in what is new: take it out once more
            basis = torch.linalg.qr((kept - kept @ projector).T).Q
            projector = projector + basis @ basis.T
        return projector.to(matrix.dtype)

    def limit(self, dim: int) -> float:
        """d patterns."""
        return float(dim)
