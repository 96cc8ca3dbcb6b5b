"""The forward pass under a weighted sum of masks, and derivatives by each mask's weight, with the masks packed.

Given masks M^1..M^k, p(alpha) = f(x, W * sum_i alpha_i M^i) (Wortsman et al. 2020, equation 3). Layers are linear in
their weights, so with g = dL/d(sum_i alpha_i W M^i) for the whole batch

    dL/dalpha_i = <g * W, M^i>                                    one packed dot product for all masks,

and for each image b by itself, with a_l its input and delta_l the gradient at the output of layer l,

    dL_b/dalpha_i = sum_l <delta_l[b], linear(a_l[b], W_l M_l^i)>   one pass over the layers for each mask.

At most one mask is unpacked at a time, and none where `MaskMatrix.outer_dots` takes the sum straight from the bits.

Normalisation layers with running statistics (converted networks) have none that fit a superposition: in it they
normalise with the statistics of the batch, so its images have to be of one task. A single mask has its own.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskMatrix
from maskstore.kernels import has_lookup
from maskstore.masks import bits
from maskstore.torch import PackedMasks
from supsup_models.errors import ImageValueError
from supsup_models.inference.compiled import fits as passes
from supsup_models.inference.objectives import Objective
from supsup_models.networks import LayerFunction, MaskedModel, MaskedNetwork, TaskExtras

NO_EXTRAS: TaskExtras = MappingProxyType({})


def run_each(
    model: MaskedModel,
    matrix: MaskMatrix,
    images: Tensor,
    rows: NDArray[np.int64],
    extras: TaskExtras = NO_EXTRAS,
) -> Tensor:
    """Logits `(b, outputs)` of each image under the mask of its own row of the matrix, `rows` `(b,)`, without gradient.

    `extras` are the masks' normalisation statistics, by name.
    """
    result = images.new_empty(len(images), model.outputs)
    with torch.no_grad():
        for row in np.unique(rows).tolist():
            chosen = torch.from_numpy(np.flatnonzero(rows == row)).to(images.device)
            weights = model.masked_weights(matrix[row])
            result[chosen] = model.run_with(images[chosen], weights, extras.get(matrix.names[row]))
    return result


def superposed_weights(model: MaskedModel, rows: PackedMasks) -> Tensor:
    """Effective weights of the superposition that derivatives are taken at, flat `(spec.bits,)`; not to be written to.

    The mean of the masks, alpha = 1/k; in a network of given densities `expected_weights`, which are what that mean
    tends to as independent masks arrive, and which training knows before it has seen another task. Each network's last
    ones are kept, for the next batch: frozen weights that are written to all the same have to be so through torch, not
    through `.data` or a numpy view, of which no trace is left.
    """
    share = rows.mean() if model.densities is None else model.densities
    kept = _SUPERPOSED.get(model)
    if kept is not None and kept.holds(model.weights, share):
        return kept.product
    product = share.to(model.weights) * model.weights if isinstance(share, Tensor) else expected_weights(model)
    if not model.weights.is_inference():  # of those, nobody could tell that they were written to
        _SUPERPOSED[model] = _Superposed(model.weights, _state(model.weights), share, product)
    return product


def _state(tensor: Tensor) -> tuple[int, int]:
    """What changes when a tensor is written to, or is given another memory (`tensor.data = ...`)."""
    return tensor._version, tensor.data_ptr()


@dataclass(frozen=True)
class _Superposed:
    """What `superposed_weights` came to, and of what."""

    weights: Tensor
    state: tuple[int, int]
    share: Tensor | tuple[float, ...]
    product: Tensor

    def holds(self, weights: Tensor, share: Tensor | tuple[float, ...]) -> bool:
        """Whether it is of these: the same objects, unchanged since."""
        return self.weights is weights and self.share is share and self.state == _state(weights)


_SUPERPOSED: WeakKeyDictionary[MaskedModel, _Superposed] = WeakKeyDictionary()


def expected_weights(model: MaskedModel) -> Tensor:
    """W times the expectation of a mask, flat `(spec.bits,)`: each layer's density, one half for threshold masks."""
    densities = model.densities or (0.5,) * len(model.spec.layers)
    layers = zip(model.layer_weights(model.weights), densities, strict=True)
    return torch.cat([(weights * density).reshape(-1) for weights, density in layers])


def mask_derivatives(model: MaskedModel, flat_weights: Tensor, images: Tensor, objective: Objective) -> Tensor:
    """g * W: the derivative of the batch's mean cost by every bit of a mask, flat `(spec.bits,)`.

    `flat_weights` are the effective weights of the superposition; `matrix.dot` of the result is dL/dalpha. A
    `MaskedNetwork` of plain linear layers in float32 on a CPU with AVX-512 takes compiled passes (`passes.py`), every
    other network autograd.
    """
    if passes.fits(model, flat_weights, images):
        found, are_numbers = passes.mask_derivatives(model, flat_weights, images, objective)
        return found if are_numbers else checked_answers(found)
    by_layer = [weight.detach().requires_grad_() for weight in model.layer_weights(flat_weights)]
    with torch.enable_grad():
        logits = model.run_layers(images, by_layer)
        gradients = torch.autograd.grad(objective.cost(logits).mean(), by_layer)
    result = torch.empty_like(model.weights)
    for gradient, weights, out in zip(gradients, *map(model.layer_weights, (model.weights, result)), strict=True):
        torch.mul(gradient, weights, out=out)
    return checked_answers(result)


def checked_answers(values: Tensor) -> Tensor:
    """ImageValueError for values that are not numbers: the images are too large for the network's arithmetic.

    Asked of a gradient before its packed dot product, which would miss a NaN where no mask has its bit set.
    """
    # as a NaN in a sum makes the sum one, a pass that a slower look follows only where it (or infinities) did
    if torch.isnan(values.sum()) and torch.isnan(values).any():
        raise ImageValueError("images: expected values that the network can compute with, found NaN in its answers")
    return values


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
        self._layers = model.layers
        self._packed = matrix.interleaved
        self._spec = matrix.spec.layers
        self._weights = model.layer_weights(model.weights)
        self._buffers = model.layer_weights(torch.empty_like(model.weights))

    def linear(self, mask: int) -> LayerFunction:
        """The layers' outputs under one mask, for `MaskedNetwork.run`."""
        return lambda index, activation: self._layers[index].apply(activation, self(mask, index))

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
        self._model = model
        self._unpacked = unpacked
        used = alpha != 0
        self.images_of = [
            (mask, used[:, mask].nonzero().squeeze(1)) for mask in used.any(dim=0).nonzero()[:, 0].tolist()
        ]
        self._shares = [alpha[images, mask].unsqueeze(1) for mask, images in self.images_of]  # (images, 1) each

    def __call__(self, index: int, activation: Tensor) -> Tensor:
        output: Tensor = _MixtureFunction.apply(activation, self, index)
        return output

    def forward(self, index: int, activation: Tensor) -> Tensor:
        layer = self._model.layers[index]
        output = activation.new_zeros(len(activation), layer.shape[0])
        for (mask, images), share in zip(self.images_of, self._shares, strict=True):
            output.index_add_(0, images, layer.apply(activation[images], self._unpacked(mask, index)).mul_(share))
        return output

    def backward(self, index: int, delta: Tensor) -> Tensor:
        layer = self._model.layers[index]
        result = delta.new_zeros(len(delta), layer.shape[1])
        for (mask, images), share in zip(self.images_of, self._shares, strict=True):
            result.index_add_(0, images, layer.transposed(delta[images] * share, self._unpacked(mask, index)))
        return result


class _MixtureFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Tensor, linear: Mixture, index: int) -> Tensor:
        ctx.linear, ctx.index = linear, index
        return linear.forward(index, activation)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return ctx.linear.backward(ctx.index, gradients[0]), None, None


def on_packed_bits(model: MaskedNetwork) -> bool:
    """Whether derivatives for each image are best taken straight from the packed bits: float32 on a CPU that can."""
    return model.device.type == "cpu" and model.weights.dtype == torch.float32 and has_lookup()


def packed_image_derivatives(
    model: MaskedNetwork, matrix: MaskMatrix, traced: list[LayerTrace], chosen: Tensor | None = None
) -> Tensor:
    """dL_b/dalpha_i for each image b and every mask i, `(b, k)`, without unpacking a mask; see `on_packed_bits`.

    With `chosen`, int64 `(b, m)`, only for the masks chosen for each image, `(b, m)`.
    """
    rows = None if chosen is None else chosen.numpy()
    total = traced[0].delta.new_zeros(len(traced[0].delta), len(matrix) if chosen is None else chosen.shape[1])
    for layer, weights, at in zip(matrix.spec, model.layer_weights(model.weights), traced, strict=True):
        found = matrix.outer_dots(layer.name, weights.numpy(), at.delta.numpy(), at.activation.numpy(), rows)
        total += torch.from_numpy(found)
    return total


def sketched_image_derivatives(
    model: MaskedNetwork, matrix: MaskMatrix, traced: list[LayerTrace], share: float
) -> Tensor:
    """A cheap guess at `packed_image_derivatives`, `(b, k)`: the first layer's part through its strongest neurons.

    The first layer holds most bits and most of the signal; of its neurons only the `share` with the largest gradient
    counts, chosen for each image.
    """
    at = traced[0]
    kept = max(1, round(share * at.delta.shape[1]))
    neurons = at.delta.abs().topk(kept, dim=1).indices
    delta = torch.zeros_like(at.delta).scatter_(1, neurons, at.delta.gather(1, neurons))
    weights = model.layer_weights(model.weights)[0]
    first = matrix.spec.layers[0].name
    return torch.from_numpy(matrix.outer_dots(first, weights.numpy(), delta.numpy(), at.activation.numpy()))


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
            output = model.layers[index].apply(activation, unpacked(mask, index))
            total += (delta * output).flatten(1).sum(dim=1)
        result[images, mask] = total
    return result
