"""Checkpoints of the reference code of "Supermasks in Superposition" (Wortsman et al., 2020).

`state_dict` holds, for every masked layer, frozen weights `LAYER.weight` and scores `LAYER.scores.N`, one float tensor
a task; `args`, an `argparse.Namespace`, says how masks come from scores. Fully connected layers are 1 x 1 convolutions.
"""

import hashlib
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import ForeignFileError, ImportOptionError
from maskstore.interop.model import ForeignMasks, ForeignTask, ReadOptions
from maskstore.interop.readers.leaves import as_array, is_array, shape_of, state_of
from maskstore.interop.readers.torch_files import gain_of
from maskstore.masks import Mask, MaskSpec, bits

_SCORES = re.compile(r"(.+)\.scores\.(\d{1,9})")
_THRESHOLD = ("FastMultitaskMaskConv", "StackedFastMultitaskMaskConv")
_TOP_K = ("MultitaskMaskConv",)
_CONSTANT_INITS = ("signed_constant", "unsigned_constant", "xavier_constant")
_KEPT_ARGUMENTS = (
    "model",
    "set",
    "seed",
    "conv_type",
    "bn_type",
    "conv_init",
    "sparsity",
    "er_sparsity",
    "output_size",
)


def has_scores(state: Mapping[str, Any]) -> str:
    """What speaks for the layout: the first scores of a layer and task; "" if nothing does."""
    return next((name for name in state if _SCORES.fullmatch(name)), "")


def read_supsup(tree: Any, path: Path, options: ReadOptions) -> ForeignMasks:
    """All tasks' masks, bit for bit what the reference code would compute from the scores.

    Threshold layers: `scores >= 0`. Top-k layers: all but the `int((1 - density) * n)` smallest |scores|, equal ones
    ranked in C order. The weights are checked against the constant form that the arguments claim.
    """
    state, arguments = state_of(tree, path), _arguments(tree, path)
    scores = options.chosen(_scores_by_layer(state, path), str(path))
    numbers = _task_numbers(scores, arguments, path)
    squeeze = _all_pointwise([next(iter(by_task.values())) for by_task in scores.values()])
    masks: dict[int, dict[str, NDArray[np.bool_]]] = {number: {} for number in numbers}
    shapes = {}
    for layer, by_task in scores.items():
        what = f"{path}, layer {layer!r}"
        shape = shape_of(next(iter(by_task.values()))) or ()
        density = _density(arguments, options, shape, what)
        shapes[layer] = shape[:2] if squeeze and len(shape) == 4 else shape
        for number in numbers:
            values = as_array(by_task[number], f"{what}, task {number}")
            if values.shape != shape or values.dtype.kind != "f":
                raise ForeignFileError(f"{what}, task {number}: expected float scores of shape {shape}, "
                                       f"found {values.dtype} {values.shape}")  # fmt: skip
            if np.isnan(values).any():
                raise ForeignFileError(f"{what}, task {number}: expected scores, found NaN among them")
            masks[number][layer] = _mask(values, density).reshape(shapes[layer])
    weights = {layer: _checked_weights(state, layer, scores[layer], arguments, path) for layer in scores}
    spec = MaskSpec(shapes)
    names = options.task_names([f"task-{number}" for number in numbers], path.stem)
    tasks = tuple(
        ForeignTask(name, Mask.from_dense(masks.pop(number), spec), _accuracies(tree, number))
        for name, number in zip(names, numbers, strict=True)
    )
    kept = {key: arguments[key] for key in _KEPT_ARGUMENTS if isinstance(arguments.get(key), (str, int, float))}
    return ForeignMasks("supsup", spec, tasks, {"arguments": kept, "weights": weights})


def _arguments(tree: Mapping[str, Any], path: Path) -> dict[str, Any]:
    found = None if is_array(tree.get("args")) else tree.get("args")
    given = found if isinstance(found, Mapping) else getattr(found, "__dict__", {})
    arguments = {key: value for key, value in given.items() if isinstance(key, str)}
    arrays = [key for key, value in arguments.items() if is_array(value)]  # which are neither true nor false
    if arrays:
        raise ForeignFileError(f"{path}, args.{arrays[0]:.40}: expected a plain value, found an array")
    return arguments


def _scores_by_layer(state: Mapping[str, Any], path: Path) -> dict[str, dict[int, Any]]:
    scores: dict[str, dict[int, Any]] = {}
    for key, value in state.items():
        match = _SCORES.fullmatch(key)
        if match:
            if not is_array(value):
                raise ForeignFileError(f"{path}, {key}: expected a tensor, found {type(value).__name__}")
            by_task = scores.setdefault(match[1], {})
            if int(match[2]) in by_task or not shape_of(value):
                raise ForeignFileError(f"{path}, {key}: expected scores of a layer, once a task, found others")
            by_task[int(match[2])] = value
    if not scores:
        raise ForeignFileError(f"{path}: expected scores named LAYER.scores.N, found none")
    return scores


def _task_numbers(scores: dict[str, dict[int, Any]], arguments: dict[str, Any], path: Path) -> list[int]:
    first, *others = [sorted(by_task) for by_task in scores.values()]
    if any(other != first for other in others):
        raise ForeignFileError(f"{path}: expected scores of the same tasks in every layer, found different ones")
    only = arguments.get("task_eval")
    if only is None:
        return first
    if only not in first:  # only that task was trained; the others' scores are as they were drawn
        raise ForeignFileError(f"{path}: expected scores of task {only!r:.20}, the one trained, found {first[:8]}")
    return [int(only)]


def _all_pointwise(tensors: list[Any]) -> bool:
    """Whether every convolution is 1 x 1: then it is a fully connected network in disguise."""
    shapes = [shape_of(tensor) or () for tensor in tensors]
    kernels = [shape[2:] for shape in shapes if len(shape) == 4]
    return bool(kernels) and all(kernel == (1, 1) for kernel in kernels)


def _density(arguments: dict[str, Any], options: ReadOptions, shape: tuple[int, ...], what: str) -> float | None:
    """The fraction of weights that top-k keeps; None for the threshold rule."""
    if len(shape) == 1:
        if arguments.get("bn_type") != "FastHopMaskBN":
            found = arguments.get("bn_type")
            raise ForeignFileError(f"{what}: expected bn_type FastHopMaskBN for scores a unit, found {found!r:.40}")
        return None
    rule = options.conv_type or arguments.get("conv_type")
    if rule is None:
        raise ImportOptionError(f"{what}: expected args.conv_type in the file or `conv_type` given, found neither")
    if arguments.get("individual_heads"):
        raise ForeignFileError(f"{what}: expected scores, found individual heads, whose last layer holds weights")
    if rule in _THRESHOLD:
        return None
    if rule not in _TOP_K:
        known = ", ".join(_THRESHOLD + _TOP_K)
        raise ForeignFileError(f"{what}: expected a conv_type among {known}, found {rule!r:.40}")
    density = arguments.get("sparsity")  # the reference code calls the fraction it keeps the sparsity
    if isinstance(density, bool) or not isinstance(density, (int, float)) or not 0 <= density <= 1:
        raise ForeignFileError(f"{what}: expected args.sparsity in [0, 1] for top-k masks, found {density!r:.40}")
    if arguments.get("er_sparsity"):
        return min(0.5, density * (shape[0] + shape[1]) / max(1, math.prod(shape)))
    return float(density)


def _mask(scores: NDArray[Any], density: float | None) -> NDArray[np.bool_]:
    return np.asarray(scores >= 0) if density is None else largest(scores, density)


def largest(scores: NDArray[Any], density: float) -> NDArray[np.bool_]:
    """All but the `int((1 - density) * n)` smallest |scores|; equal ones are ranked in C order."""
    dropped = int((1 - density) * scores.size)
    mask = np.ones(scores.size, dtype=np.bool_)
    mask[np.argsort(np.abs(scores).reshape(-1), kind="stable")[:dropped]] = False
    return mask.reshape(scores.shape)


def _checked_weights(
    state: Mapping[str, Any], layer: str, scores: dict[int, Any], arguments: dict[str, Any], path: Path
) -> dict[str, Any]:
    """What is known of a layer's frozen weights: their constant and a digest of their signs, if they are of that form.

    Zeros are let through, one in ten thousand: the reference code takes the sign of a random number, which may be 0.
    """
    init, shape = arguments.get("conv_init"), shape_of(next(iter(scores.values()))) or ()
    value = state.get(f"{layer}.weight")
    if value is None or len(shape) < 2 or init not in _CONSTANT_INITS or arguments.get("train_weight_tasks", 0) != 0:
        return {"init": init if isinstance(init, str) else None, "checked": False}
    what = f"{path}, {layer}.weight"
    weights = as_array(value, what)
    if weights.shape != shape or weights.dtype.kind != "f":
        raise ForeignFileError(
            f"{what}: expected float weights of shape {shape}, found {weights.dtype} {weights.shape}"
        )
    constant = _constant(init, arguments, shape, what)
    off = ~np.isclose(np.abs(weights), constant, rtol=1e-4, atol=0.0)
    zeros = int((weights == 0).sum())
    wrong = int(off.sum()) - zeros
    if init == "unsigned_constant":
        wrong += int((weights < 0).sum())
    if wrong or zeros > weights.size // 10_000 + 1:
        signs = "+" if init == "unsigned_constant" else "+-"
        raise ForeignFileError(f"{what}: expected every weight to be {signs}{constant:.6g}, as {init} claims, found "
                               f"{wrong + zeros} of {weights.size} that are not")  # fmt: skip
    packed = bits.as_bytes(bits.pack(np.ascontiguousarray(weights > 0)))[: (weights.size + 7) // 8]
    digest = hashlib.blake2b(packed.tobytes(), digest_size=16).hexdigest()
    return {"init": init, "checked": True, "constant": constant, "zeros": zeros, "signs_blake2b": digest}


def _constant(init: str, arguments: dict[str, Any], shape: tuple[int, ...], what: str) -> float:
    fan = math.prod(shape[2:]) * (shape[0] if arguments.get("mode") == "fan_out" else shape[1])
    gain = 1.0 if init == "xavier_constant" else gain_of(arguments.get("nonlinearity", "relu"), what)
    return gain / math.sqrt(max(1, fan))


def _accuracies(tree: Mapping[str, Any], number: int) -> dict[str, Any]:
    meta: dict[str, Any] = {"source_task": number}
    for key, name in (("curr_acc1", "accuracy"), ("best_acc1", "best_accuracy")):
        value = tree.get(key)
        if isinstance(value, list) and number < len(value):
            value = value[number]
        if isinstance(value, (int, float)) and abs(value) <= sys.float_info.max:
            meta[name] = value
    return meta
