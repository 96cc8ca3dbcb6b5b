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

    The logits have a graph if the weights want gradients. Attention runs without its fused kernels, which have no
    forward-mode derivative: torch takes others for the products, and where some tensor wants a gradient.

    Args:
        model: The network.
        flat_weights: Effective weights, `(spec.bits,)`.
        direction: Of the same shape.
        images: `(b, inputs)`.
        extras: Normalisation statistics.
    """
    load_forward_mode()
    wanted = flat_weights.requires_grad
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), fwd.dual_level():
        start = flat_weights if wanted else flat_weights.detach().requires_grad_()
        layers = map(model.layer_weights, (start, direction))
        weights = [fwd.make_dual(primal, tangent) for primal, tangent in zip(*layers, strict=True)]
        logits, tangents = fwd.unpack_dual(model.run_layers(images, weights, extras))
    tangents = torch.zeros_like(logits) if tangents is None else tangents
    return logits if wanted else logits.detach(), tangents.detach()


@cache
def load_forward_mode() -> None:
    """Once, because what torch loads for forward-mode derivatives warns of itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with fwd.dual_level():
            fwd.make_dual(torch.zeros(1), torch.zeros(1))
