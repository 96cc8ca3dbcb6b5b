"""`ConvertedModel`: a module whose masked weights live outside it and come back, masked, in every call."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from maskstore.errors import BackboneError, one_line
from maskstore.priors import Backbone, Prior, SeededScores, Uniform
from supsup_models.errors import ConversionError, NetworkError, NoFeaturesError
from supsup_models.networks import seeded
from supsup_models.networks.base import AnyMask, Extras
from supsup_models.networks.convert import calls, statistics
from supsup_models.networks.convert.call_copy import CallCopy
from supsup_models.networks.convert.features import LayerOutputs
from supsup_models.networks.convert.layers import MaskedParameter
from supsup_models.networks.convert.module_calls import ModuleWithMasks
from supsup_models.networks.convert.own import Own
from supsup_models.networks.score_masks import edge_popup, keep_largest, threshold
from supsup_models.networks.sparsity import kept_weights

MaskRule = Literal["threshold", "edge-popup", "sparse"]
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
    """Edge-popup and sparse masks: the share of its weights that each layer keeps."""
    image_shape: tuple[int, ...] | None
    classes: int | None
    head: str | None = None
    """The layer of which each task has one of its own."""
    own: tuple[str, ...] = ()
    """Other parameters of a task's own."""


class ConvertedModel(ModuleWithMasks):
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
        starts: statistics.Starts,
        skipped: frozenset[str],
        conversion: Conversion,
        own: Own = Own(),
    ) -> None:
        kept = conversion.weights == "keep"
        super().__init__(module, masked, weights, starts, skipped, conversion.image_shape, own, kept=kept)
        self.conversion = conversion
        self.seed, self.weight_gain = conversion.seed, conversion.weight_gain
        self._kept: tuple[int, ...] | None = None
        if conversion.densities is not None:
            self._kept = tuple(kept_weights(layer.size, conversion.densities[layer.name]) for layer in self.spec)
            if conversion.mask == "sparse":
                self.densities = tuple(float(conversion.densities[layer.name]) for layer in self.spec)
        self.eval()
        self.inputs = self.outputs = self.classes = 0
        if conversion.image_shape is not None:
            self._learn_sizes(conversion.image_shape, conversion.classes)

    @property
    def starts_full(self) -> bool:
        """Whether tasks start from all weights of a trained network: threshold masks on kept weights."""
        return self.conversion.weights == "keep" and self._kept is None

    # -- training -------------------------------------------------------------------------------------------------

    def subnet(self, scores: Tensor) -> Tensor:
        """Threshold, edge-popup or sparse masks, as `convert` was asked."""
        scores = self._flat(scores)
        if self._kept is None:
            return threshold(scores)
        choose = edge_popup if self.conversion.mask == "edge-popup" else keep_largest
        return choose(scores, tuple(layer.flat for layer in self.spec), self._kept)

    def initial_scores(self, task: int) -> Tensor:
        """Flat scores `(spec.bits,)`, from the seed and the task's number.

        With kept weights the same for all tasks: for threshold masks all PIGGYBACK_SCORE, the full network; for others
        sqrt(6 / fan_in) |w| / max |w|, the largest weights (Sehwag et al., "HYDRA", NeurIPS 2020).
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
        """Threshold: above zero where more than half of the masks are set. Others: the larger the more are set."""
        if self._kept is None:
            return super().mean_scores(mean, scale)
        return self._flat(mean, "mean mask") * self._flat(scale, "scale")

    def prior(self, task: int) -> Prior:
        """`SeededScores` where the seed gives weights' signs and scores (`docs/format.md`); kept weights, `Uniform`."""
        return Uniform() if self.conversion.weights == "keep" else SeededScores(seed=self.seed, task=task)

    def backbone(self) -> Backbone:
        """The kept weights, to code masks against: `KeptWeights(model.backbone())`.

        NetworkError for weights that a seed gives.
        """
        if self.conversion.weights != "keep":
            raise NetworkError(
                'backbone: expected `weights="keep"`, found weights from a seed, which needs no other prior'
            )
        layers = self.layer_weights(self.weights)
        return Backbone({layer.name: weight for layer, weight in zip(self.spec, layers, strict=True)}, self.spec)

    def features(self, images: Tensor) -> Tensor:
        """What the module sees in images with all its weights, as it came and under no mask, `(b, 256)`.

        A seeded network's statistics are those of its expected mixture (`mixture_statistics`). Arguments and errors are
        those of `MaskedModel.features`; ShapeError, DeviceError for images of another network.
        """
        with torch.no_grad():
            images = self._shaped(images)
            copy = CallCopy(self.module, self._assigned)
            for names, weight in zip(self._names, self.layer_weights(self.weights), strict=True):
                for name in names:
                    copy.put(name, weight)
            values = self.mixture_statistics(self.weights)
            if values is None and self._statistics:
                raise NoFeaturesError(
                    "features: expected a network that treats each image by itself, found one that normalises with the "
                    f"statistics of a batch ({self._statistics[0]!r})"
                )
            statistics.put_in(copy, self._statistics, values and {**values})
            outputs = LayerOutputs(copy, tuple(names[0] for names in self._names), len(images))
            copy.module(images)
            return outputs.projected(self.seed)

    # -- exporting ------------------------------------------------------------------------------------------------

    def export(self, mask: AnyMask, extras: Extras | calls.BatchStatistics = None) -> nn.Module:
        """One task as a plain module: a copy of the original class with weights W * mask and its statistics.

        `mask=None` gives the full network. `extras` are as in a call. The copy needs nothing of this library, and its
        state dict has the original's keys; with `extras="batch"`, not those of running statistics.
        """
        weights = self.layer_weights(self.masked_weights(mask))
        found = self._task_statistics(extras)
        module = deepcopy(self.module)
        for names, weight in zip(self._names, weights, strict=True):
            parameter = nn.Parameter(weight.detach().clone(), requires_grad=False)
            for name in names:
                path, _, attribute = name.rpartition(".")
                module.get_submodule(path)._parameters[attribute] = parameter
        if found is None:
            for name in self._statistics:
                statistics.use_batch(module, name)
        else:
            statistics.put_back(module, {name: found[name] for name in self._statistics}, self._counts)
            if self._own.names[0:1] and self._own.names[0] in found:
                self._own.put_into(module, found)
        return module

    def frozen_from(self) -> dict[str, Any]:
        if self.conversion.weights == "keep":
            return {}
        return super().frozen_from() | {"weights": self.conversion.weights}

    def bank_meta(self) -> dict[str, Any]:
        """What a bank of this network's masks says of it, JSON-ready; its module has to be made by other means."""
        how = self.conversion
        sizes = {name: getattr(self, name) for name in ("inputs", "outputs", "classes", "weight_gain")}
        own: dict[str, Any] = {} if how.head is None else {"head": how.head}
        own |= {"own": list(how.own)} if how.own else {}
        shape = {} if how.image_shape is None else {"image_shape": list(how.image_shape)}
        densities = {} if self.densities is None else {"densities": list(self.densities)}
        known = self.coding_backbone()
        kept = {} if known is None else {"backbone": known.fingerprint}
        made = {"seed": self.seed, "mask": how.mask, "weights": how.weights}
        return {**sizes, **shape, **own, **densities, **kept, **made}

    def coding_backbone(self) -> Backbone | None:
        """The kept weights; None where a seed gives them, and for those of float64: no mask is coded against them."""
        if self.conversion.weights != "keep" or self.weights.dtype == torch.float64 or self.weights.is_meta:
            return None
        return self.backbone()

    def check_bank_meta(self, meta: Mapping[str, Any]) -> None:
        """As of any network; a bank of an earlier version does not say what weights its masks were trained on.

        Weights in half precision are not compared: they may be those of the bank, rounded.
        """
        known = self.coding_backbone() if "backbone" in meta and self.weights.dtype == torch.float32 else None
        if known is not None and meta["backbone"] != known.fingerprint:
            raise BackboneError(
                f"bank: expected masks on weights of fingerprint {known.fingerprint}, as the network has, found those "
                f"on {meta['backbone']!s:.40}; give the network that they were trained on"
            )

    # -- pieces ---------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        how = self.conversion
        return (
            f"mask={how.mask}, weights={how.weights}, seed={how.seed}, {len(self.spec)} layers, {self.spec.bits} bits"
        )

    def _learn_sizes(self, image_shape: tuple[int, ...], classes: int | None) -> None:
        with torch.no_grad():
            example = self.weights.new_zeros(2, *image_shape)
            try:
                found = self._call(self.layer_weights(self.weights), self._starts(), (example,), {})
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
        if self._own.head is not None:
            layer = self.module.get_submodule(self._own.head)
            if layer.out_features != self.outputs:
                raise ConversionError(
                    f"head {self._own.head!r}: expected the layer that makes the {self.outputs} logits, found one of "
                    f"{layer.out_features} outputs"
                )
            self.outputs = self.outputs if classes is None else max(1, classes)
        self.classes = self.outputs if classes is None else classes
        if self.classes < 1:
            raise ConversionError(f"classes: expected at least 1, found {self.classes}")
        if self.classes > self.outputs:
            raise ConversionError(f"classes: expected 1 to {self.outputs}, the network's outputs, found {self.classes}")
