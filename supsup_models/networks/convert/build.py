"""`convert`: any module into one whose weights are frozen and whose mask is an argument."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import get_args

import torch
from torch import Tensor, nn

from maskstore import MaskSpec
from supsup_models._names import check
from supsup_models.errors import ConversionError
from supsup_models.networks import seeded as random_init
from supsup_models.networks.base import check_gain
from supsup_models.networks.convert import statistics
from supsup_models.networks.convert.layers import MaskedParameter, find_masked, find_skipped, make_plain
from supsup_models.networks.convert.model import Conversion, ConvertedModel, MaskRule, WeightInit
from supsup_models.networks.sparsity import check_density, layer_densities

MASK_RULES: tuple[MaskRule, ...] = get_args(MaskRule)
WEIGHT_INITS: tuple[WeightInit, ...] = get_args(WeightInit)
DEFAULT_DENSITY = 0.5  # where a layer has most subnetworks


def convert(
    module: nn.Module,
    *,
    mask: MaskRule = "threshold",
    weights: WeightInit = "signed-constant",
    seed: int = 0,
    weight_gain: float = 1.0,
    skip: Iterable[str] = (),
    embeddings: bool = False,
    density: float | Mapping[str, float] | None = None,
    sparsity: str = "uniform",
    image_shape: tuple[int, ...] | None = None,
    classes: int | None = None,
) -> ConvertedModel:
    """A frozen, masked copy of a module; the module itself is left as it is.

    Masked are the weights of every Linear and Conv1d/2d/3d, the projections of every MultiheadAttention, and with
    `embeddings` those of every Embedding. Modules whose dotted path matches a pattern in `skip` are left out, with all
    that is inside them. Everything is frozen.

    mask: "threshold" (s >= 0) or "edge-popup" (the largest |s| of each layer; how many, `density` and `sparsity` say: a
    total density, default 0.5, shared out by "uniform", "er" or "erk", or a density for each layer by name).

    weights: "signed-constant" (± weight_gain sqrt(2 / fan_in)) or "kaiming" (uniform, of the same variance), both from
    `seed`; biases of masked layers become zero and normalisation layers lose their affine part. "keep" leaves weights,
    biases and affine parts as they come, for masks on a trained network (Piggyback). Running statistics are per task,
    see `ConvertedModel`. All other parameters stay as they are.

    image_shape: the shape of one image, such as (1, 28, 28): data sets hold images flat. Needed by `train_task` and
    `infer_task`. `classes`: how many of the outputs are real (default: all).

    Raises ConversionError for a module with nothing to mask, a pattern that matches nothing, weights of several dtypes
    or on several devices, or an image shape that the module does not take; SparsityError for densities outside (0, 1];
    NetworkError for a weight gain that is not positive; UnknownNameError for other names.
    """
    check("mask", mask, MASK_RULES)
    check("weights", weights, WEIGHT_INITS)
    check_gain(weight_gain)
    skipped = find_skipped(module, _patterns(skip))
    masked = find_masked(module, skipped, embeddings)
    densities = _densities(masked, mask, density, sparsity)
    module = deepcopy(module).requires_grad_(False)
    original = _flat_weights(module, masked)
    keep = weights == "keep"
    if not keep:
        make_plain(module, masked, skipped)
    starts = statistics.take_out(module, skipped, keep)
    _empty(module, masked)
    drawn = original if keep else _seeded_weights(masked, weights, seed, weight_gain).to(original)
    shape = None if image_shape is None else tuple(image_shape)
    how = Conversion(mask, weights, seed, weight_gain, densities, shape, classes)
    return ConvertedModel(module, masked, drawn, starts, skipped, how)


def mask_spec(module: nn.Module, *, skip: Iterable[str] = (), embeddings: bool = False) -> MaskSpec:
    """The layers that `convert` would mask, before it does: what densities by layer can be worked out from."""
    masked = find_masked(module, find_skipped(module, _patterns(skip)), embeddings)
    return MaskSpec({parameter.name: parameter.shape for parameter in masked})


def _patterns(skip: Iterable[str]) -> tuple[str, ...]:
    return (skip,) if isinstance(skip, str) else tuple(skip)  # a string alone would be a pattern a letter


def _densities(
    masked: tuple[MaskedParameter, ...], mask: str, density: float | Mapping[str, float] | None, sparsity: str
) -> dict[str, float] | None:
    shapes = {parameter.name: parameter.shape for parameter in masked}
    if mask == "threshold":
        if density is not None or sparsity != "uniform":
            raise ConversionError('density: expected none with threshold masks, found one; use mask="edge-popup"')
        return None
    if not isinstance(density, Mapping):
        return layer_densities(shapes, sparsity, DEFAULT_DENSITY if density is None else density)
    if density.keys() != shapes.keys():
        wrong = sorted(density.keys() ^ shapes.keys())[0]
        raise ConversionError(
            f"density: expected one for each of the {len(shapes)} masked layers, found {wrong!r} "
            f"{'missing' if wrong in shapes else 'among them'}"
        )
    for name, value in density.items():
        check_density(f"density of {name!r}", value)
    return {name: density[name] for name in shapes}


def _seeded_weights(masked: tuple[MaskedParameter, ...], weights: str, seed: int, gain: float) -> Tensor:
    draw = random_init.kaiming_weights if weights == "kaiming" else random_init.weights
    return torch.cat([draw(seed, index, layer.shape, gain).reshape(-1) for index, layer in enumerate(masked)])


def _flat_weights(module: nn.Module, masked: tuple[MaskedParameter, ...]) -> Tensor:
    tensors = [module.get_parameter(parameter.name).detach() for parameter in masked]
    kinds = sorted({f"{tensor.dtype} on {tensor.device}" for tensor in tensors})
    if len(kinds) > 1:
        raise ConversionError(f"{type(module).__name__}: expected weights of one kind, found {' and '.join(kinds)}")
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _empty(module: nn.Module, masked: tuple[MaskedParameter, ...]) -> None:
    """Take the masked parameters out of the module: their places stay, for `functional_call` to fill."""
    for parameter in masked:
        for name in parameter.names:
            path, _, attribute = name.rpartition(".")
            module.get_submodule(path)._parameters[attribute] = None
