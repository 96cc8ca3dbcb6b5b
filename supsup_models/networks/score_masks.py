"""From real scores to a binary mask, with a gradient that passes straight through.

Threshold masks: Mallya et al., "Piggyback", ECCV 2018; used for all MNIST experiments of Wortsman et al. 2020.
Edge-popup: Ramanujan et al., "What's hidden in a randomly weighted neural network?", CVPR 2020; used for CIFAR and
ImageNet, where each layer keeps a share of its weights that `supsup_models.networks.sparsity` gives it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    """A mask that `choose` makes of scores; backward, dL/ds := dL/dM. It takes part in `torch.func`'s transforms."""

    @staticmethod
    def forward(scores: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        return choose(scores)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass  # backward needs nothing

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return tangents[0].clone()  # torch wants a tensor of the function's own

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], scores: Tensor, choose: Callable[[Tensor], Tensor]) -> Any:
        masks = [_StraightThrough.apply(each, choose) for each in scores.unbind(in_dims[0])]
        return torch.stack(masks), 0


def threshold(scores: Tensor) -> Tensor:
    """The mask `M = [s >= 0]` as 0.0 and 1.0 in the scores' shape and dtype; backward, dL/ds := dL/dM."""
    mask: Tensor = _StraightThrough.apply(scores, lambda scores: (scores >= 0).to(scores.dtype))
    return mask


def keep_largest(scores: Tensor, layers: tuple[slice, ...], kept: tuple[int, ...]) -> Tensor:
    """The mask of the `kept[l]` largest scores in each layer's slice, as 0.0 and 1.0; backward, dL/ds := dL/dM.

    `scores` is flat over all layers. Exactly as many are kept as asked for: of equal scores the earlier ones.
    """

    def choose(scores: Tensor) -> Tensor:
        mask = torch.empty_like(scores)
        for layer, count in zip(layers, kept, strict=True):
            _write_largest(scores[layer], count, mask[layer])
        return mask

    mask: Tensor = _StraightThrough.apply(scores, choose)
    return mask


def edge_popup(scores: Tensor, layers: tuple[slice, ...], kept: tuple[int, ...]) -> Tensor:
    """As `keep_largest`, of the magnitudes |s|: a score far below zero keeps its weight as surely as one far above.

    Backward, dL/d|s| := dL/dM, hence dL/ds := sign(s) dL/dM with sign(0) = 1 (Ramanujan et al. 2020, section 3.1).
    """
    return keep_largest(torch.where(scores < 0, -scores, scores), layers, kept)


def _write_largest(scores: Tensor, count: int, mask: Tensor) -> None:
    """Write 1 where one of the `count` largest of `scores` `(n,)` is, 0 elsewhere; 1 <= count <= n."""
    smallest = torch.kthvalue(scores, len(scores) - count + 1).values
    torch.ge(scores, smallest, out=mask)
    surplus = int(mask.sum(dtype=torch.int64)) - count
    if surplus:
        tied = (scores == smallest).nonzero()[:, 0]
        mask[tied[len(tied) - surplus :]] = 0.0
