"""`ConvertedModel`: a module whose masked weights live outside it and come back, masked, in every call."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskstore import MaskSpec
from maskstore.errors import one_line
from maskstore.priors import Prior, SeededScores, Uniform
from supsup_models.errors import ConversionError, ShapeError
from supsup_models.networks import seeded
from supsup_models.networks.base import AnyMask, Extras, MaskedModel
from supsup_models.networks.convert import statistics
from supsup_models.networks.convert.layers import MaskedParameter
from supsup_models.networks.score_masks import edge_popup, threshold
from supsup_models.networks.sparsity import kept_weights

MaskRule = Literal["threshold", "edge-popup"]
WeightInit = Literal["signed-constant", "kaiming", "keep"]

PIGGYBACK_SCORE = 5e-3
"""Piggyback starts real-valued masks at 1e-2 with the threshold at 5e-3; here the threshold is zero."""


@dataclass(frozen=True)
class Conversion:
    """How a module was converted: all that is needed to do it again to another copy of the module."""

    mask: MaskRule
    weights: WeightInit
    seed: int
    weight_gain: float
    densities: Mapping[str, float] | None
    """Edge-popup: the share of its weights that each layer keeps."""
    image_shape: tuple[int, ...] | None
    classes: int | None


class _Applied(NamedTuple):
    """What `apply_mask` has made ready."""

    model: "ConvertedModel"
    weights: list[Tensor]
    extras: Extras


# Newest first. A context variable, so that neither another thread nor another task of an event loop sees it.
_APPLIED: ContextVar[tuple[_Applied, ...]] = ContextVar("applied", default=())


class ConvertedModel(MaskedModel):
    """A frozen module that takes a mask. Made by `convert`.

    `model(x, mask)` runs the module with weights W * mask; further arguments go to the module. Layers of `spec` are
    named as the parameters are in the module's state dict. `module` is the module without its masked parameters and
    without running statistics. The state dict holds what a seed cannot give back (with kept weights, those too), and
    nothing that depends on a task.

    Examples:
        >>> import torch
        >>> from supsup_models import convert
        >>> plain = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.BatchNorm1d(32), torch.nn.Linear(32, 10))
        >>> model = convert(plain, image_shape=(64,))
        >>> mask, statistics = model.mask_of(model.initial_scores(task=0)), model.initial_statistics()
        >>> sorted(statistics)  # of each task: training gives them as `extras`, a bank keeps them
        ['1.running_mean', '1.running_var']
        >>> with model.apply_mask(mask, statistics):
        ...     logits = model(torch.ones(2, 64))
        >>> single = model.export(mask, statistics).eval()  # a plain module: nothing of this library is left
        >>> torch.allclose(single(torch.ones(2, 64)), logits)
        True
    """

    def __init__(
        self,
        module: nn.Module,
        masked: tuple[MaskedParameter, ...],
        weights: Tensor,
        starts: Mapping[str, Tensor],
        skipped: frozenset[str],
        conversion: Conversion,
    ) -> None:
        super().__init__()
        self.module = module
        self.conversion = conversion
        self.spec = MaskSpec({parameter.name: parameter.shape for parameter in masked})
        self.seed, self.weight_gain = conversion.seed, conversion.weight_gain
        self.register_buffer("weights", weights, persistent=conversion.weights == "keep")
        self._names = tuple(parameter.names for parameter in masked)
        self._statistics = tuple(starts)
        for index, start in enumerate(starts.values()):  # as buffers, so that they move with the model
            self.register_buffer(f"_start{index}", start, persistent=conversion.weights == "keep")
        self._skipped = tuple(module.get_submodule(path) for path in sorted(skipped))
        self._kept: tuple[int, ...] | None = None
        if conversion.densities is not None:
            self._kept = tuple(kept_weights(layer.size, conversion.densities[layer.name]) for layer in self.spec)
        self.eval()
        self.inputs = self.outputs = self.classes = 0
        if conversion.image_shape is not None:
            self._learn_sizes(conversion.image_shape, conversion.classes)

    # -- running --------------------------------------------------------------------------------------------------

    def forward(self, x: Any, mask: AnyMask = None, *args: Any, extras: Extras = None, **kwargs: Any) -> Any:
        """The module's output for `x` under a mask, a packed `Mask` or a dict of bool tensors.

        `extras` are the task's statistics, which training gave and the bank keeps (`bank.extras(name)`); without them,
        normalisation layers use the statistics of the batch. With neither, those of the innermost `apply_mask` around
        the call; outside of one, the full network. Raises SpecError or ShapeError for those of another network, and
        ShapeError or DeviceError for images of another shape or on another device.
        """
        if mask is None and extras is None:
            for applied in _APPLIED.get():
                if applied.model is self:
                    return self._call(applied.weights, applied.extras, x, *args, **kwargs)
        return self._call(self.layer_weights(self.masked_weights(mask)), extras, x, *args, **kwargs)

    @contextmanager
    def apply_mask(self, mask: AnyMask, extras: Extras = None) -> Iterator["ConvertedModel"]:
        """Inside the block, `model(x)` runs under this mask and these statistics; the mask is unpacked once.

        Blocks may be nested. Raises what `forward` raises, at the start.
        """
        ready = None if extras is None else statistics.checked(extras, self._starts())
        applied = _Applied(self, self.layer_weights(self.masked_weights(mask)), ready)
        token = _APPLIED.set((applied, *_APPLIED.get()))
        try:
            yield self
        finally:
            _APPLIED.reset(token)

    def run_layers(self, images: Tensor, weights: Sequence[Tensor], extras: Extras = None) -> Tensor:
        """The module's output for images `(b, inputs)` or of the image's shape, under given weights, one a layer."""
        logits: Tensor = self._call(weights, extras, images)
        return logits

    def _call(self, weights: Sequence[Tensor], extras: Extras, x: Any, *args: Any, **kwargs: Any) -> Any:
        tensors = {name: weight for names, weight in zip(self._names, weights, strict=True) for name in names}
        if extras is not None:
            tensors |= statistics.checked(extras, self._starts())
        if isinstance(x, Tensor):
            x = self._shaped(x)
        return functional_call(self.module, tensors, (x, *args), kwargs)

    def _shaped(self, x: Tensor) -> Tensor:
        """Images in the module's own shape. DeviceError or ShapeError for those it cannot take."""
        self.check_device(x)
        shape = self.conversion.image_shape
        if shape is None or tuple(x.shape[1:]) == shape:
            return x
        if x.ndim != 2 or x.shape[1] != prod(shape):
            either = f"(b, {prod(shape)}) or (b, {', '.join(map(str, shape))})"
            raise ShapeError(f"images: expected shape {either}, found {tuple(x.shape)}")
        return x.reshape(len(x), *shape)

    # -- training -------------------------------------------------------------------------------------------------

    def subnet(self, scores: Tensor) -> Tensor:
        """Threshold or edge-popup masks, as `convert` was asked."""
        if self._kept is None:
            return threshold(scores)
        return edge_popup(scores, tuple(layer.flat for layer in self.spec), self._kept)

    def initial_scores(self, task: int) -> Tensor:
        """Flat scores `(spec.bits,)`, from the seed and the task's number.

        With kept weights the same for all tasks: for threshold masks all PIGGYBACK_SCORE, the full network; for
        edge-popup sqrt(6 / fan_in) |w| / max |w|, the largest weights (Sehwag et al., "HYDRA", NeurIPS 2020).
        """
        if self.conversion.weights != "keep":
            return super().initial_scores(task)
        if self._kept is None:
            return torch.full_like(self.weights, PIGGYBACK_SCORE)
        layers = self.layer_weights(self.weights.abs())
        tiny = torch.finfo(self.weights.dtype).tiny  # a layer of zeros
        scaled = (w * ((6.0 / seeded.fan_in(tuple(w.shape))) ** 0.5 / w.max().clamp_min(tiny)) for w in layers)
        return torch.cat([scores.reshape(-1) for scores in scaled])

    def mean_scores(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Threshold: above zero where more than half of the masks are set. Edge-popup: the larger the more are set."""
        return super().mean_scores(mean, scale) if self._kept is None else mean * scale

    def prior(self, task: int) -> Prior:
        """`SeededScores` where the seed gives weights' signs and scores (`docs/format.md`); kept weights, `Uniform`."""
        return Uniform() if self.conversion.weights == "keep" else SeededScores(seed=self.seed, task=task)

    def initial_statistics(self) -> dict[str, Tensor]:
        """Running statistics that a task starts from, by buffer name: new tensors."""
        return {name: start.clone() for name, start in self._starts().items()}

    @contextmanager
    def training_mode(self, step: int) -> Iterator[None]:
        """The module in training mode, skipped parts excepted, with dropout drawn from the seed and the step."""
        modes = [(part, part.training) for part in self.modules()]
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed((self.seed * 0x9E3779B1 + step) % (1 << 63))
            self.train()
            try:
                yield
            finally:
                for part, mode in modes:
                    part.training = mode

    def train(self, mode: bool = True) -> Self:
        """As torch's, but skipped modules stay in evaluation mode: they are the same for every task."""
        super().train(mode)
        for part in self._skipped:
            part.training = False
        return self

    # -- exporting ------------------------------------------------------------------------------------------------

    def export(self, mask: AnyMask, extras: Extras = None) -> nn.Module:
        """One task as a plain module: a copy of the original class with weights W * mask and its statistics.

        Its state dict has the original's keys (without `extras`, not those of running statistics) and it needs nothing
        of this library.
        """
        module = deepcopy(self.module)
        for names, weight in zip(self._names, self.layer_weights(self.masked_weights(mask)), strict=True):
            parameter = nn.Parameter(weight.detach().clone(), requires_grad=False)
            for name in names:
                path, _, attribute = name.rpartition(".")
                module.get_submodule(path)._parameters[attribute] = parameter
        if extras is not None:
            statistics.put_back(module, statistics.checked(extras, self._starts()))
        return module

    def bank_meta(self) -> dict[str, Any]:
        """What a bank of this network's masks says of it, JSON-ready; its module has to be made by other means."""
        how = self.conversion
        sizes = {name: getattr(self, name) for name in ("inputs", "outputs", "classes", "weight_gain")}
        shape = {} if how.image_shape is None else {"image_shape": list(how.image_shape)}
        return {**sizes, **shape, "seed": self.seed, "mask": how.mask, "weights": how.weights}

    # -- pieces ---------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        how = self.conversion
        return (
            f"mask={how.mask}, weights={how.weights}, seed={how.seed}, {len(self.spec)} layers, {self.spec.bits} bits"
        )

    def _starts(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(f"_start{index}") for index, name in enumerate(self._statistics)}

    def _learn_sizes(self, image_shape: tuple[int, ...], classes: int | None) -> None:
        with torch.no_grad():
            example = self.weights.new_zeros(2, *image_shape)
            try:
                found = self._call(self.layer_weights(self.weights), self._starts() or None, example)
            except (RuntimeError, ValueError, IndexError, TypeError) as error:  # whatever a user's module raises
                detail = one_line(error)
                raise ConversionError(
                    f"image_shape {image_shape}: expected a shape that {type(self.module).__name__} takes, found one "
                    f"that it does not ({detail})"
                ) from error
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ConversionError(f"image_shape {image_shape}: expected logits of shape (2, outputs), found {shape}")
        self.inputs, self.outputs = prod(image_shape), found.shape[1]
        self.classes = self.outputs if classes is None else classes
        if not 1 <= self.classes <= self.outputs:
            raise ConversionError(f"classes: expected 1 to {self.outputs}, the network's outputs, found {self.classes}")
