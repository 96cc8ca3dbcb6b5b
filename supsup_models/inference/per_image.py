"""Derivatives of each image's own cost by the weights of the masks in a superposition.

For each image b, with a_l its input of layer l and delta_l the gradient of its cost at the output of that layer,

    dL_b/dalpha_i = sum_l <delta_l[b], linear(a_l[b], W_l M_l^i)>,

which is one pass over the layers for each mask. At most one mask is unpacked at a time, and none where
`MaskMatrix.outer_dots` takes the sum straight from the bits. The names are those of `superposition.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstore import MaskMatrix
from maskstore.kernels import has_lookup
from maskstore.masks import bits
from supsup_models.inference.objectives import Objective
from supsup_models.inference.superposition import checked_answers
from supsup_models.networks import LayerFunction, MaskedNetwork


@dataclass(frozen=True)
class LayerTrace:
    """One layer in one pass: its input `(b, in)`, and the gradient of each image's cost at its output `(b, out)`."""

    activation: Tensor
    delta: Tensor


def trace(model: MaskedNetwork, images: Tensor, linear: LayerFunction, objective: Objective) -> list[LayerTrace]:
    """Forward and backward of every image's own cost, with `linear` as the layers' outputs."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def recorded(index: int, activation: Tensor) -> Tensor:
        output = linear(index, activation)
        if not output.requires_grad:  # the first layer: neither images nor frozen weights want a gradient
            output.requires_grad_()
        inputs.append(activation.detach())
        outputs.append(output)
        return output

    with torch.enable_grad():
        logits = model.run(images, recorded)
        # images do not mix, so the gradient of the sum is each image's own
        deltas = torch.autograd.grad(objective.cost(logits).sum(), outputs)
    return [LayerTrace(activation, checked_answers(delta)) for activation, delta in zip(inputs, deltas, strict=True)]


class UnpackedLayer:
    """W_l * M_l^i for one (i, l) at a time, in buffers that are reused: valid until the next call."""

    def __init__(self, model: MaskedNetwork, matrix: MaskMatrix) -> None:
        self._packed = matrix.interleaved
        self._spec = matrix.spec.layers
        self._weights = model.layer_weights(model.weights)
        self._buffers = model.layer_weights(torch.empty_like(model.weights))

    def linear(self, mask: int) -> LayerFunction:
        """The layers' outputs under one mask, for `MaskedNetwork.run`."""
        return lambda index, activation: F.linear(activation, self(mask, index))

    def __call__(self, mask: int, layer: int) -> Tensor:
        spec, buffer = self._spec[layer], self._buffers[layer]
        unpacked = torch.from_numpy(bits.unpack(self._packed.row(mask, spec.packed), spec.size).view("u1"))
        return buffer.copy_(unpacked.view(spec.shape)).mul_(self._weights[layer])


class Mixture:
    """Layer outputs where each image has its own weights of the masks.

    `alpha` is `(b, k)`; masks of weight 0 cost nothing. Used as a network's `linear`:
    output[b] = sum over the masks i of image b of alpha[b, i] linear(a[b], W_l M_l^i).
    """

    def __init__(self, model: MaskedNetwork, unpacked: UnpackedLayer, alpha: Tensor) -> None:
        self.layers = model.spec.layers
        self._unpacked = unpacked
        used = alpha != 0
        self.images_of = [
            (mask, used[:, mask].nonzero().squeeze(1)) for mask in used.any(dim=0).nonzero()[:, 0].tolist()
        ]
        self._shares = [alpha[images, mask].unsqueeze(1) for mask, images in self.images_of]  # (images, 1) each

    def __call__(self, index: int, activation: Tensor) -> Tensor:
        output: Tensor = _MixtureFunction.apply(activation, self, index)
        return output

    def total(
        self, index: int, values: Tensor, product: Callable[[Tensor, Tensor, Tensor], Tensor], size: int
    ) -> Tensor:
        """Sum over the masks of `product(values, weights, share)`, `(b, size)`, by either side of a layer."""
        result = values.new_zeros(len(values), size)
        for (mask, images), share in zip(self.images_of, self._shares, strict=True):
            result.index_add_(0, images, product(values[images], self._unpacked(mask, index), share))
        return result


class _MixtureFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Tensor, mixture: Mixture, index: int) -> Tensor:
        ctx.mixture, ctx.index, layer = mixture, index, mixture.layers[index]
        return mixture.total(index, activation, lambda a, w, share: F.linear(a, w).mul_(share), layer.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        mixture, index, layer = ctx.mixture, ctx.index, ctx.mixture.layers[ctx.index]
        # the share is taken of the smaller side, the layer's outputs, here as in `forward`
        result = mixture.total(index, gradients[0], lambda d, w, share: (d * share) @ w, layer.shape[1])
        return result, None, None


def on_packed_bits(model: MaskedNetwork) -> bool:
    """Whether derivatives for each image are best taken straight from the packed bits: float32 on a CPU that can."""
    return model.device.type == "cpu" and model.weights.dtype == torch.float32 and has_lookup()


def packed_image_derivatives(
    model: MaskedNetwork, matrix: MaskMatrix, traced: list[LayerTrace], chosen: Tensor | None = None
) -> Tensor:
    """dL_b/dalpha_i for each image b and every mask i, `(b, k)`, without unpacking a mask; see `on_packed_bits`.

    With `chosen`, int64 `(b, m)`, only for the masks chosen for each image, `(b, m)`. `traced` may be of the first
    layers only, whose part of the sum is then the result.
    """
    rows = None if chosen is None else chosen.numpy()
    total = traced[0].delta.new_zeros(len(traced[0].delta), len(matrix) if chosen is None else chosen.shape[1])
    for layer, weights, at in zip(matrix.spec, model.layer_weights(model.weights), traced, strict=False):
        found = matrix.outer_dots(layer.name, weights.numpy(), at.delta.numpy(), at.activation.numpy(), rows)
        total += torch.from_numpy(found)
    return total


def sketched_image_derivatives(
    model: MaskedNetwork, matrix: MaskMatrix, traced: list[LayerTrace], share: float
) -> Tensor:
    """A cheap guess at `packed_image_derivatives`, `(b, k)`: the first layer's part through its strongest neurons."""
    return packed_image_derivatives(model, matrix, [strongest(traced, share)])


def strongest(traced: list[LayerTrace], share: float) -> LayerTrace:
    """The first layer, which holds most bits and most of the signal, seen through a share of its neurons.

    Only the `share` with the largest gradient counts, chosen for each image.
    """
    at = traced[0]
    kept = max(1, round(share * at.delta.shape[1]))
    neurons = at.delta.abs().topk(kept, dim=1).indices
    delta = torch.zeros_like(at.delta).scatter_(1, neurons, at.delta.gather(1, neurons))
    return LayerTrace(at.activation, delta)


def image_derivatives(
    model: MaskedNetwork, unpacked: UnpackedLayer, traced: list[LayerTrace], images_of: list[tuple[int, Tensor]], k: int
) -> Tensor:
    """dL_b/dalpha_i for each image b and each mask i it is listed under, `(b, k)`; NaN where it is not.

    `images_of` gives pairs of a mask's row and the indices of the images that consider it.
    """
    result = traced[0].delta.new_full((len(traced[0].delta), k), float("nan"))
    for mask, images in images_of:
        everyone = len(images) == len(result)
        total = result.new_zeros(len(images))
        for index, at in enumerate(traced):
            activation, delta = (at.activation, at.delta) if everyone else (at.activation[images], at.delta[images])
            output = F.linear(activation, unpacked(mask, index))
            total += (delta * output).flatten(1).sum(dim=1)
        result[images, mask] = total
    return result
