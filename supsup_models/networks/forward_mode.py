"""Derivatives along a direction of the weights: forward-mode, one pass for all images of a batch."""

import warnings
from functools import cache

import torch
import torch.autograd.forward_ad as fwd
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from supsup_models.networks.base import Extras, MaskedModel


def logits_along(
    model: MaskedModel, flat_weights: Tensor, direction: Tensor, images: Tensor, extras: Extras = None
) -> tuple[Tensor, Tensor]:
    """Logits `(b, outputs)` under given effective weights, and their derivative along a direction of these.

    The logits have a graph if gradients are on and the weights want one. Attention runs without its fused kernels, for
    which torch has no forward-mode derivative.

    Args:
        model: The network.
        flat_weights: Effective weights, `(spec.bits,)`.
        direction: Of the same shape.
        images: `(b, inputs)`.
        extras: Normalisation statistics.
    """
    load_forward_mode()
    with sdpa_kernel(SDPBackend.MATH), fwd.dual_level():
        layers = map(model.layer_weights, (flat_weights, direction))
        weights = [fwd.make_dual(primal, tangent) for primal, tangent in zip(*layers, strict=True)]
        logits, tangents = fwd.unpack_dual(model.run_layers(images, weights, extras))
    return logits, torch.zeros_like(logits) if tangents is None else tangents.detach()


@cache
def load_forward_mode() -> None:
    """Once, because what torch loads for forward-mode derivatives warns of itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with fwd.dual_level():
            fwd.make_dual(torch.zeros(1), torch.zeros(1))
