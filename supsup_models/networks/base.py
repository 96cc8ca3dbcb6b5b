"""`MaskedModel`: what training, task inference and evaluation need of a network with frozen weights."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskstore import Mask, MaskSpec
from maskstore.priors import Prior
from supsup_models._names import expect, found, whole_number
from supsup_models.errors import (
    ArgumentTypeError,
    DeviceError,
    MissingMaskError,
    MissingStatisticsError,
    NetworkError,
    NoFeaturesError,
    ShapeError,
)
from supsup_models.networks import seed_state, seeded
from supsup_models.networks.masked_product import masked_product
from supsup_models.networks.own_masks import OwnMasks

AnyMask = Mask | Mapping[str, Tensor] | None
Extras = Mapping[str, Any] | None
"""Per-task arrays that belong to a mask, by name: the running statistics of normalisation layers. None: none."""
PROTOTYPES = "prototypes"
"""The name, among a task's extras, of the means of its classes in `MaskedModel.features`."""
TaskExtras = Mapping[str, Mapping[str, Any]]
"""The extras of many tasks, by the task's name; a task that is not in it has none."""

# Share of a transferred score that is the task's own random one; it decides between weights that the mean holds equal.
# On rotated digits, a small ResNet, 30 steps a task, accuracies of tasks 1 to 3 were 63, 48, 39 % at 0.02; 66, 53, 47 %
# at 0.1; 85, 86, 83 % at 0.3; 77, 82, 79 % at 0.5; and without transfer 76, 66, 68 %.
_OWN_SHARE = 0.3


class MaskedModel(nn.Module, ABC):
    """A network of frozen weights that takes its mask as an argument: a `MaskedNetwork`, or what `convert` makes.

    Training, task inference and evaluation take either. A class of your own has to say what is abstract here.

    Examples:
        >>> import torch
        >>> from supsup_models import MaskedModel, MaskedNetwork, convert
        >>> def kept(model: MaskedModel) -> float:
        ...     return model.mask_of(model.initial_scores(task=0)).density
        >>> plain = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
        >>> models = [MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0), convert(plain, mask="edge-popup")]
        >>> [round(kept(model), 1) for model in models]
        [0.5, 0.5]
    """

    spec: MaskSpec
    """The masked layers, in order."""
    weights: Tensor
    """All masked weights, one flat frozen tensor `(spec.bits,)` in spec order."""
    seed: int
    """What weights and initial scores follow from."""
    weight_gain: float
    """How many times sqrt(2 / fan_in) the weights are."""
    inputs: int
    """Values of an image; 0 where the network does not say what an image is, as `outputs` and `classes` then are."""
    image_shape: tuple[int, ...] | None = None
    """The shape of an image, `(channels, height, width)` or another, where the network takes no flat ones."""
    outputs: int
    """Number of logits."""
    classes: int
    """How many of the outputs are real, the first ones; the others are superfluous."""
    densities: tuple[float, ...] | None = None
    """The share of each layer's weights that every mask keeps, in networks whose weights are scaled to match."""

    @property
    def objective(self) -> str:
        """The objective that task inference uses unless told otherwise: what the masks are trained to be told by.

        "H", the entropy; "G", the superfluous outputs, for networks of given densities that have any.
        """
        return "H" if self.densities is None or self.classes == self.outputs else "G"

    @property
    def inference_method(self) -> str:
        """The method that task inference uses unless told otherwise: one that works in the network.

        "exhaustive" for networks whose tasks have statistics or parameters of their own: none fit a superposition;
        "one-shot" for others, and for sparse masks, which are trained to be told by it.
        """
        own = self.own_parameters or (self.densities is None and self.initial_statistics())
        return "exhaustive" if own else "one-shot"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.weights.device

    def layer_weights(self, flat: Tensor) -> list[Tensor]:
        """Views by layer, in their shapes, of a flat tensor over all layers `(spec.bits,)`."""
        if not isinstance(flat, Tensor) or flat.shape != self.weights.shape:
            what = f"shape {tuple(flat.shape)}" if isinstance(flat, Tensor) else found(flat)
            raise ShapeError(f"flat tensor: expected one number a weight, shape ({self.spec.bits},), found {what}")
        parts = flat.split([layer.size for layer in self.spec])  # whose gradients torch joins in one go
        return [part.view(layer.shape) for part, layer in zip(parts, self.spec, strict=True)]

    def checked_layers(self, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Effective weights, one tensor a layer; ShapeError for others, DeviceError for those that lie elsewhere."""
        layers = tuple(weights) if isinstance(weights, Iterable) else ()
        if len(layers) != len(self.spec) or not all(isinstance(layer, Tensor) for layer in layers):
            what = found(weights) if not isinstance(weights, Sized) else f"{found(weights)} of {len(weights)}"
            raise ShapeError(
                f"weights: expected a tensor for each of {len(self.spec)} layers, as `layer_weights(flat)` gives them, "
                f"found {what}"
            )
        own = self.weights
        dtype = layers[0].dtype if layers and layers[0].is_floating_point() else own.dtype  # the same for all layers
        for layer, weight in zip(self.spec, layers, strict=True):
            if weight.shape != layer.shape or weight.dtype != dtype:
                raise ShapeError(
                    f"weights of {layer.name!r}: expected {dtype} of shape {layer.shape}, found {weight.dtype} of "
                    f"{tuple(weight.shape)}"
                )
            if weight.device != own.device:
                raise DeviceError(f"weights of {layer.name!r}: expected them on {own.device}, found {weight.device}")
        return layers

    def masked_weights(self, mask: AnyMask) -> Tensor:
        """W times a mask, flat `(spec.bits,)`; None is the full network.

        Raises SpecError or ShapeError for a mask of other layers or shapes, ArgumentTypeError for what is no mask.
        """
        if mask is None:
            return self.weights
        if not isinstance(mask, Mask):
            mask = self._packed(mask)
        elif mask.spec != self.spec:
            raise ShapeError(f"mask: expected the layers of {self.spec!r}, found {mask.spec!r}")
        return masked_product(self.weights, mask)

    def _packed(self, mask: object) -> Mask:
        """A dict of arrays by layer as a mask; ArgumentTypeError for anything else."""
        if not isinstance(mask, Mapping):
            raise ArgumentTypeError(
                f"mask: expected a Mask or a dict of bool arrays by layer, found {found(mask)}; "
                "a bank or a matrix gives the mask of a task: bank[name]"
            )
        arrays = {name: _host_array(layer) for name, layer in mask.items()}
        return Mask.from_dense(arrays, self.spec)

    def needed_mask(self, mask: AnyMask) -> AnyMask:
        """The mask of a call; MissingMaskError if it gave none."""
        if mask is None:
            raise MissingMaskError(
                f"{type(self).__name__}: expected a mask as the second argument, found none; "
                "run_with(x, model.weights) runs the full network"
            )
        return mask

    @abstractmethod
    def run_layers(self, images: Tensor, weights: Sequence[Tensor], extras: Extras = None) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)` under given effective weights, one tensor a layer."""

    def run_with(self, images: Tensor, flat_weights: Tensor, extras: Extras = None) -> Tensor:
        """Logits `(b, outputs)` under given effective weights, flat `(spec.bits,)`."""
        return self.run_layers(images, self.layer_weights(flat_weights), extras)

    def run_own(self, images: Tensor, own: OwnMasks, extras: Sequence[Extras] = ()) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)`, each under its own mask, without gradient.

        `extras` are the statistics of each row of `own`; empty for a network without any. One mask after the other,
        unless a network knows better.
        """
        result = images.new_empty(len(images), self.outputs)
        with torch.no_grad():
            for row in np.unique(own.chosen).tolist():
                chosen = torch.from_numpy(np.flatnonzero(own.chosen == row)).to(images.device)
                weights = self.masked_weights(own.mask(row))
                result[chosen] = self.run_with(images[chosen], weights, extras[row] if extras else None)
        return result

    def initial_scores(self, task: int) -> Tensor:
        """Scores that training of task number `task` starts from, flat `(spec.bits,)`, on the network's device.

        Drawn from the seed and the task's number, unless a network says otherwise.
        """
        drawn = [seeded.initial_scores(self.seed, i, layer.shape, task) for i, layer in enumerate(self.spec)]
        return torch.cat([scores.reshape(-1) for scores in drawn]).to(self.weights)

    @abstractmethod
    def subnet(self, scores: Tensor) -> Tensor:
        """The mask that flat scores choose, as 0.0 and 1.0 `(spec.bits,)`, with a gradient straight through."""

    @abstractmethod
    def prior(self, task: int) -> Prior:
        """What a decoder knows about the mask of a task trained from `initial_scores(task)`."""

    @abstractmethod
    def bank_meta(self) -> dict[str, Any]:
        """What a bank of this network's masks says of it: `MaskBank.create(path, model.spec, meta=...)`."""

    def mean_scores(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Scores that stand for a mean mask in [0, 1], at most `scale` large: flat `(spec.bits,)` each.

        Above zero where more than half of the masks are set, unless a network says otherwise.
        """
        return (2.0 * self._flat(mean, "mean mask") - 1.0).mul_(self._flat(scale, "scale"))

    def effective_weights(self, scores: Tensor) -> Tensor:
        """W times the mask that scores choose, flat `(spec.bits,)`, with a gradient straight through to the scores."""
        return self.weights * self.subnet(scores)

    def mask_of(self, scores: Tensor) -> Mask:
        """The packed mask that flat scores choose; NetworkError for scores of which some are NaN."""
        flat = self._flat(scores).detach()
        if flat.is_floating_point() and flat.isnan().any():
            raise NetworkError(f"scores: expected numbers, found {int(flat.isnan().sum())} of {flat.numel()} that are "
                               "NaN, as of a training that diverged")  # fmt: skip
        return Mask.from_flat(self.subnet(flat).bool().cpu().numpy(), self.spec)

    def _flat(self, values: Tensor, what: str = "scores") -> Tensor:
        """The scores; ArgumentTypeError for no tensor, ShapeError for another number of them than there are weights."""
        expect(what, values, Tensor, "a tensor", ndarray="torch.from_numpy(array) makes one")
        if values.shape != self.weights.shape:
            raise ShapeError(f"{what}: expected shape {tuple(self.weights.shape)}, found {tuple(values.shape)}")
        return values

    def transfer_scores(self, mean: Any, task: int) -> Tensor:
        """Scores that start a task from the mean of earlier masks, `mean` `(spec.bits,)` in [0, 1].

        As large as the initial scores of their layer, with a share of the task's own random ones mixed in, so that no
        two weights are equal (Wortsman et al. 2020, section 4.1, "Transfer"; the scale and the mixture are ours).
        Raises ShapeError for another shape.
        """
        try:
            tensor = torch.as_tensor(mean).to(self.weights)
        except (TypeError, ValueError, RuntimeError, OverflowError):  # as torch says it of what is no array
            raise ShapeError(f"mean mask: expected an array of numbers, found {found(mean)}") from None
        if tensor.shape != self.weights.shape:
            raise ShapeError(f"mean mask: expected shape {tuple(self.weights.shape)}, found {tuple(tensor.shape)}")
        own = self.initial_scores(task)
        scale = torch.cat([layer.abs().max().expand(layer.numel()) for layer in self.layer_weights(own)])
        return self.mean_scores(tensor, scale).mul_(1.0 - _OWN_SHARE).add_(own, alpha=_OWN_SHARE)

    @property
    def needs_extras(self) -> bool:
        """Whether a mask runs only with statistics of its own: without extras, those of the batch would be used."""
        return False

    def needed_extras(self, extras: Extras) -> Extras:
        """The extras of a mask; MissingStatisticsError if it needs some and there are none."""
        if extras is None and self.needs_extras:
            statistic = next(iter(self.initial_statistics()))
            raise MissingStatisticsError(
                f"extras: expected the task's statistics of {statistic!r} and others, found none; training gives them, "
                "and bank.extras(name) has them"
            )
        return extras

    own_parameters: tuple[str, ...] = ()
    """The parameters, by name, that each task has of its own, in its extras."""

    @property
    def starts_full(self) -> bool:
        """Whether tasks start from all weights of a trained network: threshold masks on kept weights."""
        return False

    @property
    def has_extras(self) -> bool:
        """Whether tasks have anything besides their masks: running statistics, or parameters of their own."""
        return bool(self.own_parameters or self.initial_statistics())

    @property
    def needs_head(self) -> bool:
        """Whether each task has a head of its own."""
        return False

    def features(self, images: Tensor) -> Tensor:
        """What the frozen network itself sees in images, under no task's mask, `(b, 256)`.

        Args:
            images: `(b, inputs)`.

        Raises:
            NoFeaturesError: The network says nothing of the kind; networks that `convert` makes do.

        Examples:
            >>> import torch
            >>> from supsup_models import convert
            >>> plain = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
            >>> convert(plain, weights="keep", image_shape=(64,)).features(torch.ones(2, 64)).shape
            torch.Size([2, 256])
        """
        raise NoFeaturesError(
            f"features: expected a network that `convert` made, found {type(self).__name__}, which has none"
        )

    def initial_extras(self, classes: int | None = None) -> dict[str, Tensor]:
        """What training of a task of so many classes starts from beside its scores: statistics, own parameters."""
        return self.initial_statistics()

    def final_extras(self, extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is stored of a task's extras after training, all of it unless a network says otherwise."""
        return {name: value.detach() for name, value in extras.items()}

    def initial_statistics(self) -> dict[str, Tensor]:
        """Fresh per-task statistics, which `run_layers` updates in place in training mode; none by default."""
        return {}

    def mixture_statistics(self, flat_weights: Tensor) -> Extras:
        """What normalisation layers use where masks are mixed, given the effective weights `(spec.bits,)`.

        No task's statistics fit a mixture of masks. None, the default, is for networks without running statistics.
        """
        return None

    @contextmanager
    def training_mode(self, step: int) -> Iterator[None]:
        """Around the forward pass of training step number `step`: layers that train differently do so inside."""
        whole_number("step", step)
        yield

    def check_device(self, images: Tensor) -> None:
        """DeviceError unless images are where the weights are; ShapeError for what is no tensor."""
        if not isinstance(images, Tensor):
            raise ShapeError(f"images: expected a tensor, found {type(images).__name__}")
        if images.device != self.device:
            raise DeviceError(f"images: expected them on {self.device}, where the weights are, found {images.device}")

    def check_takes_images(self) -> None:
        """NetworkError unless the network knows what an image and a class are."""
        if not self.inputs:
            raise NetworkError("network: expected one converted with image_shape, so that it takes images, found none")

    def frozen_from(self) -> dict[str, Any]:
        """What the frozen weights follow from, JSON-ready; empty where the state dict holds the weights themselves."""
        return {
            "seed": self.seed,
            "weight_gain": self.weight_gain,
            "densities": None if self.densities is None else list(self.densities),
            "layers": {layer.name: list(layer.shape) for layer in self.spec},
        }

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        seed_state.write(destination, prefix, self.frozen_from())

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *args: Any) -> None:
        """As torch's; OtherNetworkError for the state of a network of other frozen weights."""
        seed_state.check(local_metadata, self.frozen_from())
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def _host_array(layer: Any) -> Any:
    """A tensor where numpy can read it; float64 stands for dtypes that numpy has not. Other values as they are."""
    if not isinstance(layer, Tensor):
        return layer
    return layer.detach().to("cpu", torch.float64 if layer.is_floating_point() else layer.dtype)


def check_model(model: object) -> None:
    """ArgumentTypeError for what is no network that takes masks; it says how to get one."""
    if not isinstance(model, MaskedModel):
        hint = "; convert(module) makes one" if isinstance(model, nn.Module) else ""
        raise ArgumentTypeError(f"model: expected a MaskedNetwork or what convert makes, found {found(model)}{hint}")


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax over the last dimension, in nats: `(..., outputs)` -> `(...)`."""
    log_p = torch.log_softmax(logits, dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)


def check_gain(weight_gain: float) -> None:
    """NetworkError unless weights can be scaled by it and keep their signs."""
    if not 0 < weight_gain < float("inf"):
        raise NetworkError(f"weight gain: expected a positive, finite number, found {weight_gain}")
