"""`convert`: any module into one whose weights are frozen and whose mask is an argument."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from math import sqrt
from numbers import Real
from typing import Any, Protocol, get_args

import torch
from torch import Tensor, nn

from maskstore import MaskSpec
from supsup_models._names import check, expect, whole_number
from supsup_models._names import found as found_of
from supsup_models.errors import ArgumentTypeError, ConversionError
from supsup_models.networks import seeded
from supsup_models.networks.base import MaskedModel, check_gain
from supsup_models.networks.convert import statistics
from supsup_models.networks.convert.layers import (
    MaskedParameter,
    find_masked,
    find_skipped,
    make_plain,
    padding_rows,
    set_up_embeddings,
)
from supsup_models.networks.convert.model import Conversion, ConvertedModel, MaskRule, WeightInit
from supsup_models.networks.convert.own import find_own, head_path
from supsup_models.networks.convert.reach import check_reach
from supsup_models.networks.sparsity import check_density, layer_densities

MASK_RULES: tuple[MaskRule, ...] = get_args(MaskRule)
WEIGHT_INITS: tuple[WeightInit, ...] = get_args(WeightInit)
DEFAULT_DENSITY = 0.5  # where a layer has most subnetworks


class NetworkRecipe(Protocol):
    """What a network takes from the recipe that trains its masks (`supsup_models.Recipe`)."""

    @property
    def weight_gain(self) -> float: ...

    def densities(self, shapes: Mapping[str, tuple[int, ...]], *, trained: bool) -> tuple[float, ...] | None:
        """Each layer's density, None for masks of no given density; `trained` says whether weights are kept."""


@torch.inference_mode(False)  # a caller's would leave weights that cannot train a mask
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
    recipe: NetworkRecipe | None = None,
    head: str | None = None,
    own: Iterable[str] = (),
) -> ConvertedModel:
    """A frozen, masked copy of a module; the module itself is left as it is.

    Masked are the weights of every Linear and Conv1d/2d/3d, and the projections of every MultiheadAttention. Everything
    is frozen. Running statistics of normalisation layers are per task, see `ConvertedModel`.

    Args:
        module: any module of such layers.
        mask: "threshold" keeps the weights of scores that are not negative; "edge-popup" keeps those of each layer's
            largest |s|, as many as `density` says; "sparse" those of each layer's largest scores, and drawn weights are
            divided by the root of their layer's density, so that activations keep their size.
        weights: "signed-constant" (± weight_gain sqrt(2 / fan_in)) or "kaiming" (uniform, of the same variance) draws
            them from `seed`; biases of masked layers become zero and normalisation layers lose their affine part.
            "keep" leaves weights, biases and affine parts as they come, for masks on a trained network (Piggyback).
            All other parameters stay as they are.
        seed: what weights and initial scores follow from.
        weight_gain: scales drawn weights, above 0.
        skip: patterns such as "head.*" of dotted paths. Modules that match are left out, with all inside them.
        embeddings: whether the weights of every Embedding are masked too.
        density: of edge-popup and sparse masks: the share of all weights to keep, in (0, 1], None for 0.5; or each
            layer's own share by name.
        sparsity: how the layers share out a total density: "uniform", "er", "erk" or "equal".
        image_shape: the shape of one image, such as (1, 28, 28): data sets hold images flat. `train_task` and
            `infer_task` need it.
        classes: how many of the outputs are real, the first ones; None stands for all.
        recipe: what `train_task` will train the masks with, such as `RECIPES["default"]`. It gives the weight gain and,
            if its masks are sparse, `mask="sparse"` and the densities, which are then not given beside it.
        head: with kept weights, the path of the Linear that makes the logits. Each task gets one of its own, for as
            many classes as it has; `classes` is then the most that a task may have.
        own: with kept weights, what else each task has of its own: "bias", the biases of masked layers; "norm", the
            affine parts of normalisation layers. The running statistics of such a layer stay the module's.

    Returns:
        The copy, which takes a mask in every call.

    Raises:
        ConversionError: for a module with nothing to mask or with parts that a mask cannot follow (`docs/convert.md`),
            a pattern that matches nothing, weights of several dtypes or on several devices, kept weights or statistics
            that are NaN or infinite, options that would have no
            effect, or an image shape that the module does not take.
        SparsityError: for densities outside (0, 1].
        NetworkError: for a weight gain that is not positive.
        UnknownNameError: for other names.
        ArgumentTypeError: for arguments of other types.

    Source: Mallya et al., "Piggyback", ECCV 2018 (threshold); Ramanujan et al., CVPR 2020 (edge-popup).

    Examples:
        >>> import torch
        >>> from supsup_models import convert
        >>> plain = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 10))
        >>> model = convert(plain, mask="edge-popup", density=0.3, image_shape=(1, 8, 8))
        >>> mask = model.mask_of(model.initial_scores(task=0))
        >>> model(torch.ones(2, 64), mask).shape
        torch.Size([2, 10])
    """
    check_is_module(module)
    check("mask", mask, MASK_RULES)
    check("weights", weights, WEIGHT_INITS)
    keep = weights == "keep"
    if recipe is not None:
        weight_gain = _recipes_gain(recipe, mask, weight_gain, density, sparsity, keep)
    _check_options(weights, weight_gain, density, sparsity, image_shape, classes)
    weight_gain, classes = float(weight_gain), None if classes is None else int(classes)
    if not keep and (head is not None or own):
        what = "head" if head is not None else "own"
        raise ConversionError(f'{what}: expected it with `weights="keep"`, found it with {weights!r}')
    skipped = find_skipped(module, skip)
    if (head := head_path(module, head)) is not None:
        skipped |= {head}
    masked = find_masked(module, skipped, embeddings)
    of_task = find_own(module, masked, skipped, head, own)
    if recipe is not None and (by_layer := recipe.densities(_shapes(masked), trained=keep)) is not None:
        mask, density = "sparse", dict(zip(_shapes(masked), by_layer, strict=True))
    densities = _densities(masked, mask, density, sparsity)
    if keep:
        _check_finite(module)
    check_reach(module, [name for parameter in masked for name in parameter.names])
    module = _frozen_copy(module)
    original = _flat_weights(module, masked)
    set_up_embeddings(module, masked)
    if not keep:
        make_plain(module, masked, skipped)
    starts = statistics.take_out(module, skipped, keep)
    padding = padding_rows(module, masked)
    _empty(module, masked)
    scaled = densities if mask == "sparse" and densities is not None else dict.fromkeys(_shapes(masked), 1.0)
    gains = [weight_gain / sqrt(scaled[each.name]) for each in masked]
    drawn = original if keep else _seeded_weights(masked, padding, weights, seed, gains).to(original)
    shape = None if image_shape is None else tuple(map(int, image_shape))
    how = Conversion(mask, weights, seed, weight_gain, densities, shape, classes, head, of_task.changed)
    return ConvertedModel(module, masked, drawn, starts, skipped, how, of_task)


def mask_spec(module: nn.Module, *, skip: Iterable[str] = (), embeddings: bool = False) -> MaskSpec:
    """The layers that `convert` would mask, before it does: what densities by layer can be worked out from.

    Args:
        module: as in `convert`.
        skip: as in `convert`.
        embeddings: as in `convert`.

    Raises:
        ConversionError: for a module with nothing to mask, or a pattern that matches nothing.

    Examples:
        >>> import torch
        >>> from supsup_models import mask_spec
        >>> plain = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 10))
        >>> dict(mask_spec(plain, skip="0").shapes)
        {'2.weight': (10, 144)}
    """
    check_is_module(module)
    masked = find_masked(module, find_skipped(module, skip), embeddings)
    return MaskSpec({parameter.name: parameter.shape for parameter in masked})


def check_is_module(module: object) -> None:
    """ConversionError for what is no module, or one that has masks already."""
    for part in module.modules() if isinstance(module, nn.Module) else ():
        if isinstance(part, MaskedModel):
            raise ConversionError(f"module: expected a plain nn.Module, found a {type(part).__name__}, which has masks")
    if not isinstance(module, nn.Module):
        what = f"{type(module).__name__} {module!r:.40}" if isinstance(module, str) else f"{module!r:.60}"
        raise ConversionError(
            f"module: expected an nn.Module, found {what}; a function such as resnet_18_20(outputs=10) makes one"
        )


def _check_options(weights: str, weight_gain: Any, density: Any, sparsity: str, image_shape: Any, classes: Any) -> None:
    """ArgumentTypeError or ConversionError for options of other types, and for those that would have no effect."""
    expect("weight_gain", weight_gain, Real, "a number")
    check_gain(weight_gain)
    if weights == "keep" and weight_gain != 1.0:
        raise ConversionError(
            f"weight_gain: expected none with kept weights, which stay as they are, found {weight_gain}"
        )
    expect("density", density, (Real, Mapping, type(None)), "a number, or a dict of numbers by layer")
    if isinstance(density, Mapping):
        for name, value in density.items():
            expect(f"density of {name!r}", value, Real, "a number")
        if sparsity != "uniform":
            raise ConversionError(f"sparsity: expected none with a density for each layer, found {sparsity!r}")
    if image_shape is not None:
        expect("image_shape", image_shape, (tuple, list), "a tuple of sizes such as (1, 28, 28)")
        if any(whole_number("image_shape", size) < 1 for size in image_shape):
            raise ConversionError(f"image_shape: expected sizes of at least 1, found {tuple(image_shape)}")
    if classes is not None:
        whole_number("classes", classes)
        if image_shape is None:
            raise ConversionError(f"classes: expected image_shape with it, found {classes} classes alone")


def _check_finite(module: nn.Module) -> None:
    """ConversionError for parameters or running statistics of a network that are NaN or infinite."""
    tracked = ((name, each) for name, each in module.named_buffers() if name.rpartition(".")[2] in statistics.TRACKED)
    for name, tensor in (*module.named_parameters(), *tracked):
        if tensor.is_floating_point() and not tensor.is_meta and not bool(tensor.isfinite().all()):
            count = int((~tensor.isfinite()).sum())
            raise ConversionError(
                f"{name}: expected finite numbers, found NaN or infinity in {count} of {tensor.numel()}; the network "
                "was damaged before, as by a training that diverged"
            )


def _frozen_copy(module: nn.Module) -> nn.Module:
    try:
        return deepcopy(module).requires_grad_(False)
    except (RuntimeError, TypeError) as error:  # what torch says of parts that it computes, scripts or compiles
        raise ConversionError(
            f"module: expected a {type(module).__name__} that can be copied and frozen, found parts that cannot; "
            "weight normalisation has to be removed, and scripts made after the conversion"
        ) from error


def _recipes_gain(recipe: object, mask: str, weight_gain: float, density: object, sparsity: str, keep: bool) -> float:
    """The weight gain of a recipe; an error for no recipe, and for what it decides given beside it."""
    if not callable(getattr(recipe, "densities", None)):
        known = '; `RECIPES["default"]` is one' if isinstance(recipe, str) else ""
        raise ArgumentTypeError(f"recipe: expected a Recipe, found {found_of(recipe)}{known}")
    given = {"mask": mask != "threshold", "density": density is not None, "sparsity": sparsity != "uniform"}
    given["weight_gain"] = weight_gain != 1.0
    beside = next((name for name, is_given in given.items() if is_given), None)
    if beside == "mask" and recipe.densities({}, trained=keep) is None:  # type: ignore[attr-defined]
        beside = None  # edge-popup masks, whose recipe says nothing of densities
    if beside is not None:
        raise ConversionError(f"{beside}: expected none beside a recipe, which decides it, found one")
    gain: float = recipe.weight_gain  # type: ignore[attr-defined]
    return gain


def _shapes(masked: tuple[MaskedParameter, ...]) -> dict[str, tuple[int, ...]]:
    return {parameter.name: parameter.shape for parameter in masked}


def _densities(
    masked: tuple[MaskedParameter, ...], mask: str, density: float | Mapping[str, float] | None, sparsity: str
) -> dict[str, float] | None:
    shapes = _shapes(masked)
    if mask == "threshold":
        if density is not None or sparsity != "uniform":
            raise ConversionError(
                'density: expected none with threshold masks, found one; use `mask="edge-popup"` or "sparse"'
            )
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


def _seeded_weights(
    masked: tuple[MaskedParameter, ...], padding: list[list[int]], weights: str, seed: int, gains: list[float]
) -> Tensor:
    draw = seeded.kaiming_weights if weights == "kaiming" else seeded.weights
    layers = [draw(seed, index, layer.shape, gains[index]) for index, layer in enumerate(masked)]
    for layer, rows in zip(layers, padding, strict=True):
        layer[rows] = 0.0
    return torch.cat([layer.reshape(-1) for layer in layers])


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
