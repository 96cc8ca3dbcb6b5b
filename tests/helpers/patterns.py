"""What the hopfield tests store."""

import torch
from torch import Tensor

from hopfield import patterns


def random_patterns(count: int, dim: int, seed: int = 0, *, mean: float = 0.0) -> Tensor:
    """Patterns of -1 and +1, `(count, dim)`, that follow from the seed."""
    return patterns.random_patterns(count, dim, torch.Generator().manual_seed(seed), mean=mean)
