"""From real scores to a binary mask, with a gradient that passes straight through.

Threshold masks: Mallya et al., "Piggyback", ECCV 2018; used for all MNIST experiments of Wortsman et al. 2020.
Edge-popup: Ramanujan et al., "What's hidden in a randomly weighted neural network?", CVPR 2020; used for CIFAR and
ImageNet, where each layer keeps a share of its weights that `supsup_models.networks.sparsity` gives it.
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


class _EdgePopup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, layers: tuple[slice, ...], kept: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(scores)
        mask = torch.empty_like(scores)
        for layer, count in zip(layers, kept, strict=True):
            _keep_largest(scores[layer].abs(), count, mask[layer])
        return mask

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (scores,) = ctx.saved_tensors
        return torch.where(scores < 0, -gradients[0], gradients[0]), None, None


def edge_popup(scores: Tensor, layers: tuple[slice, ...], kept: tuple[int, ...]) -> Tensor:
    """The mask of the `kept[l]` scores of largest magnitude in each layer's slice, as 0.0 and 1.0.

    `scores` is flat over all layers. Exactly as many are kept as asked for: of equal magnitudes the earlier ones.
    Backward, dL/d|s| := dL/dM, hence dL/ds := sign(s) dL/dM with sign(0) = 1 (Ramanujan et al. 2020, section 3.1).
    """
    mask: Tensor = _EdgePopup.apply(scores, layers, kept)
    return mask


class _KeepLargest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, layers: tuple[slice, ...], kept: tuple[int, ...]) -> Tensor:
        mask = torch.empty_like(scores)
        for layer, count in zip(layers, kept, strict=True):
            _keep_largest(scores[layer], count, mask[layer])
        return mask

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None, None


def keep_largest(scores: Tensor, layers: tuple[slice, ...], kept: tuple[int, ...]) -> Tensor:
    """The mask of the `kept[l]` largest scores in each layer's slice, as 0.0 and 1.0; backward, dL/ds := dL/dM.

    As `edge_popup`, but for the sign: a score far below zero is as sure to be left out as one far above is to stay.
    """
    mask: Tensor = _KeepLargest.apply(scores, layers, kept)
    return mask


def _keep_largest(magnitude: Tensor, count: int, mask: Tensor) -> None:
    """Write 1 where one of the `count` largest of `magnitude` `(n,)` is, 0 elsewhere; 1 <= count <= n."""
    smallest = torch.kthvalue(magnitude, len(magnitude) - count + 1).values
    torch.ge(magnitude, smallest, out=mask)
    surplus = int(mask.sum(dtype=torch.int64)) - count
    if surplus:
        tied = (magnitude == smallest).nonzero()[:, 0]
        mask[tied[len(tied) - surplus :]] = 0.0
