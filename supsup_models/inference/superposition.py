"""The masks of a matrix, mixed in one network, and the derivative of a batch's cost by every bit of a mask.

Given masks M^1..M^k, p(alpha) = f(x, W * sum_i alpha_i M^i) (Wortsman et al. 2020, equation 3). Layers are linear in
their weights, so with g = dL/d(sum_i alpha_i W M^i) for the whole batch

    dL/dalpha_i = <g * W, M^i>,

which is one packed dot product for all masks; none is unpacked. `per_image.py` does the same for each image by itself.

Normalisation layers with running statistics (converted networks) have none that fit a superposition. In networks of
given densities they normalise with statistics that the seed gives (`MaskedModel.mixture_statistics`); in others with
those of the batch, whose images then have to be of one task. A single mask has its own.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar
from weakref import ReferenceType, ref

import numpy as np
import torch
from torch import Tensor

from maskstore import MaskMatrix
from maskstore.kernels import has_lookup
from maskstore.torch import PackedMasks
from supsup_models.data import Views
from supsup_models.errors import ImageValueError
from supsup_models.inference.objectives import Objective
from supsup_models.networks import Extras, MaskedModel, TaskExtras

try:
    from supsup_models.inference.compiled import fits
    from supsup_models.inference.compiled import mask_derivatives as compiled_derivatives
except ModuleNotFoundError:  # the folder is optional: autograd gives the same derivatives more slowly
    _COMPILED = False
else:
    _COMPILED = True

_NOISE = 32  # images

Network = TypeVar("Network", bound=MaskedModel, covariant=True)


@dataclass(frozen=True)
class _Product:
    """Superposed weights, and what they were made from."""

    weights: ReferenceType[Tensor]
    state: tuple[int, int]
    share: int | tuple[float, ...]
    product: Tensor

    def holds(self, weights: Tensor, share: int | tuple[float, ...]) -> bool:
        """Whether it was made from these: the same weights, unchanged since, and the same masks or densities."""
        return self.weights() is weights and self.share == share and self.state == _state(weights)


def _state(tensor: Tensor) -> tuple[int, int]:
    """What changes when a tensor is written to, or is given another memory (`tensor.data = ...`)."""
    return tensor._version, tensor.data_ptr()


@dataclass
class Kept:
    """What is made once for a matrix in a network. It holds neither of the two, so both can be freed before it."""

    masks: PackedMasks | None = None
    product: _Product | None = None
    statistics: tuple[ReferenceType[Tensor], Extras] | None = None
    """What normalisation layers use under the superposed weights, and which these were."""
    usual: tuple[ReferenceType[Tensor], Objective, Tensor] | None = None
    """How large derivatives usually are under the superposed weights, which these were, and of what cost."""

    def __reduce__(self) -> tuple[type["Kept"], tuple[()]]:
        return Kept, ()  # made again in the process that a pickle is sent to


@dataclass(frozen=True)
class Superposition(Generic[Network]):
    """A network, the masks that are mixed in it, and what is kept between two batches.

    `extras` are the masks' normalisation statistics, by name; only a single mask has any. `views` are those that the
    masks were trained with, for the method "pairs".
    """

    model: Network
    matrix: MaskMatrix
    extras: TaskExtras = field(default_factory=dict)
    kept: Kept = field(default_factory=Kept, repr=False)
    views: Views | None = None

    @property
    def masks(self) -> PackedMasks:
        """The packed masks where the network is: on its CUDA device, in a copy that is kept, or on the host."""
        device = self.model.device
        if device.type != "cuda":
            return PackedMasks.of(self.matrix)
        found, count = self.kept.masks, len(self.matrix)
        if found is None or len(found) != count or found.device != device:
            # a selection has rows of its own and does not hold the matrix, as `Kept` requires
            self.kept.masks = found = PackedMasks.of(self.matrix, device).select(range(count))
        return found

    def weights(self) -> Tensor:
        """`superposed_weights` of all masks, flat `(spec.bits,)`; not to be written to.

        The last ones are kept for the next batch. Frozen weights that are changed all the same must be changed through
        torch, not through `.data` or a numpy view, which leave no trace.
        """
        weights, share = self.model.weights, self.model.densities or len(self.matrix)
        kept = self.kept.product
        if kept is not None and kept.holds(weights, share):
            return kept.product
        product = superposed_weights(self.model, self.masks)
        if not weights.is_inference():  # torch does not count the changes of inference tensors
            self.kept.product = _Product(ref(weights), _state(weights), share, product)
        return product

    def statistics(self) -> Extras:
        """What normalisation layers use under `weights()`; measured once for the same weights."""
        weights, kept = self.weights(), self.kept.statistics
        if kept is None or kept[0]() is not weights:
            self.kept.statistics = kept = ref(weights), self.model.mixture_statistics(weights)
        return kept[1]

    def usual(self, objective: Objective) -> Tensor:
        """How large each derivative is on average over seeded images of noise, flat `(spec.bits,)`.

        Which neurons have large derivatives depends on the network more than on the images, so noise tells as well as
        images which weights matter (`maskstore.masks.leader`, "Masks in a file").
        """
        weights, kept = self.weights(), self.kept.usual
        if kept is None or kept[0]() is not weights or kept[1] != objective:
            values = np.random.default_rng(0).standard_normal((_NOISE, 1, self.model.inputs), dtype=np.float32)
            total = torch.zeros_like(self.model.weights)
            for image in torch.from_numpy(values).to(total):
                sizes = mask_derivatives(self.model, weights, image, objective, self.statistics()).abs()
                total += sizes / sizes.sum().clamp(min=1e-30)
            self.kept.usual = kept = ref(weights), objective, total
        return kept[2]


def superposed_weights(model: MaskedModel, masks: PackedMasks) -> Tensor:
    """Effective weights of the superposition that derivatives are taken at, flat `(spec.bits,)`.

    W times the mean of the masks, alpha = 1/k. In a network of given densities `expected_weights`, which W times the
    mean tends to as independent masks arrive, and which training knows before it has seen another task.
    """
    return expected_weights(model) if model.densities else masks.mean().to(model.weights) * model.weights


def expected_weights(model: MaskedModel) -> Tensor:
    """W times the expectation of a mask, flat `(spec.bits,)`: each layer's density, one half for threshold masks."""
    densities = model.densities or (0.5,) * len(model.spec.layers)
    layers = zip(model.layer_weights(model.weights), densities, strict=True)
    return torch.cat([(weights * density).reshape(-1) for weights, density in layers])


def mask_derivatives(
    model: MaskedModel, flat_weights: Tensor, images: Tensor, objective: Objective, statistics: Extras = None
) -> Tensor:
    """g * W: the derivative of the batch's mean cost by every bit of a mask, flat `(spec.bits,)`.

    The dot products of the result with the masks are dL/dalpha. A `MaskedNetwork` of plain linear layers in float32 on
    a CPU with AVX-512 takes compiled passes, every other network autograd.

    Args:
        model: The network.
        flat_weights: Effective weights of the superposition, `(spec.bits,)`.
        images: `(b, inputs)`.
        objective: The cost.
        statistics: What normalisation layers use; None stands for those of the mixture that the weights are.

    Raises:
        ImageValueError: The images are too large for the network's arithmetic.
    """
    if _COMPILED and has_lookup() and fits(model, flat_weights, images, objective):
        found, are_numbers = compiled_derivatives(model, flat_weights, images, objective)
        return found if are_numbers else checked_answers(found)
    statistics = model.mixture_statistics(flat_weights) if statistics is None else statistics
    by_layer = [weight.detach().requires_grad_() for weight in model.layer_weights(flat_weights)]
    with torch.enable_grad():
        logits = model.run_layers(images, by_layer, statistics)
        gradients = torch.autograd.grad(objective.cost(logits).mean(), by_layer)
    result = torch.empty_like(model.weights)
    for gradient, weights, out in zip(gradients, *map(model.layer_weights, (model.weights, result)), strict=True):
        torch.mul(gradient, weights, out=out)
    return checked_answers(result)


def checked_answers(values: Tensor) -> Tensor:
    """ImageValueError for values that are not numbers: the images are too large for the network's arithmetic.

    A gradient is checked before its packed dot product, which misses a NaN where no mask has its bit set.
    """
    # a NaN in a sum makes the sum one; the slower second look follows only where the sum (or infinities) gave one
    if torch.isnan(values.sum()) and torch.isnan(values).any():
        raise ImageValueError("images: expected values that the network can compute with, found NaN in its answers")
    return values
