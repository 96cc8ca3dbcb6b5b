"""From real scores to a binary mask, with a gradient that passes straight through.

Threshold masks: Mallya et al., "Piggyback", ECCV 2018; used for all MNIST experiments of Wortsman et al. 2020.
"""

from typing import Any

import torch
from torch import Tensor


class _Threshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        return (scores >= 0).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


def threshold(scores: Tensor) -> Tensor:
    """The mask `M = [s >= 0]` as 0.0 and 1.0 in the scores' shape and dtype; backward, dL/ds := dL/dM."""
    mask: Tensor = _Threshold.apply(scores)
    return mask
