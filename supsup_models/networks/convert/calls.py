"""Whose arguments are these? What a caller gives to a converted model, told apart into the mask and the module's own.

The second positional argument is the mask. Inside `apply_mask`, it is the mask only if it is one. `mask=` and `extras=`
are the module's where its forward has parameters of these names, but a `Mask` is always a mask.
"""

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from inspect import Parameter, signature
from math import prod
from types import MethodType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from maskstore import Mask
from maskstore.errors import one_line
from supsup_models.errors import BatchStatisticsError, ShapeError
from supsup_models.networks.base import PROTOTYPES, AnyMask, Extras

BatchStatistics = Literal["batch"]
"""Asks normalisation layers to use the statistics of the batch at hand."""
_INDICES = (torch.int32, torch.int64, torch.bool)
"""What a module may take in the place of floats: the numbers of tokens, a mask of its own."""
_OF_SHAPES = re.compile(r"\b(shape|size|dimension|channel|input|\dD)", re.IGNORECASE)
_ANY_KEYWORD = Parameter.VAR_KEYWORD
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Given(NamedTuple):
    """A call's arguments; `mask` and `extras` are None where it gave none."""

    mask: AnyMask
    extras: Extras | BatchStatistics
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def tell_apart(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    layers: Collection[str],
    extras: Collection[str],
    applied: bool,
) -> Given:
    """The mask and the statistics in a call's arguments, and what is left for the module.

    Args:
        module: The module that was converted.
        args, kwargs: What the caller gave.
        layers: The names of the masked layers: a dict of these is a mask.
        extras: The names of what a task has besides its mask: a dict of these is a task's extras.
        applied: Whether the call is inside `apply_mask`.
    """
    mask: Any = None
    of_task: Any = None
    kwargs = dict(kwargs)
    if len(args) > 1:
        second = args[1]
        if not applied or _is_mask(second, layers) or (second is None and len(args) == 2 and _takes_one(module)):
            mask, args = second, (args[0], *args[2:])
    if mask is None and "mask" in kwargs:
        value = kwargs["mask"]
        evident = not _names(module, "mask") and _is_mask(value, layers)
        if isinstance(value, Mask) or evident or not _takes(module, "mask"):
            mask = kwargs.pop("mask")
    if "extras" in kwargs:
        value = kwargs["extras"]
        known = {*extras, PROTOTYPES} if _has(value, PROTOTYPES) else extras
        evident = not _names(module, "extras") and (is_batch(value) or _is_dict_of(value, known))
        if evident or not _takes(module, "extras"):
            of_task = kwargs.pop("extras")
    return Given(mask, of_task, args, kwargs)


def named(
    error: Exception, args: tuple[Any, ...], weights: Tensor, module: nn.Module, *, images: bool
) -> Exception | None:
    """What a module's error about a call means in the caller's terms; None for any other, such as one of its own.

    Args:
        error: What the module raised.
        args: The positional arguments of the call.
        weights: The masked weights.
        module: What was called.
        images: Whether the module takes images: then integers are as wrong as another kind of float.
    """
    first = args[0] if args else None
    if "more than 1 value per channel" in str(error):
        return BatchStatisticsError(
            "images: expected two or more, because a normalisation layer takes the statistics of the batch, found one"
        )
    if not isinstance(first, Tensor) or not isinstance(error, RuntimeError):
        return None
    if first.layout is not torch.strided:
        return ShapeError(f"images: expected a dense tensor, found {first.layout}")
    if first.dtype == weights.dtype or (not images and first.dtype in _INDICES):
        return None if images else _misfit(error, first, module)
    hint = "; (pixels / 255 - mean) / std with the mean and std of the training images makes floats"
    return ShapeError(
        f"images: expected {weights.dtype}, that of the weights, found {first.dtype}"
        f"{hint if first.dtype == torch.uint8 else ''}"
    )


def _misfit(error: RuntimeError, first: Tensor, module: nn.Module) -> ShapeError | None:
    """The error of one of torch's own layers that an input does not fit; None for one of the module's own code."""
    trace, owner = error.__traceback__, None
    while trace is not None:
        inside = trace.tb_frame.f_locals.get("self")
        owner, trace = inside if isinstance(inside, nn.Module) else owner, trace.tb_next
    if owner is None or not type(owner).__module__.startswith("torch.nn.") or not _OF_SHAPES.search(str(error)):
        return None
    path = next((path for path, each in module.named_modules() if each is owner), "")
    layer = f"layer {path!r} ({type(owner).__name__})" if path else f"the {type(owner).__name__}"
    return ShapeError(
        f"input: expected a shape that {layer} can compute with, found {tuple(first.shape)} given to the model, of "
        f"which the layer says: {one_line(error)}; with `image_shape` convert checks it"
    )


def shaped(x: Tensor, shape: tuple[int, ...] | None, weights: Tensor) -> Tensor:
    """Images, flat or not, in the shape of an image; ShapeError for others, and for another dtype than the weights'."""
    casts = torch.is_autocast_enabled(x.device.type)
    if shape is not None and x.is_floating_point() and x.dtype != weights.dtype and not casts:
        raise ShapeError(f"images: expected {weights.dtype}, that of the weights, found {x.dtype}")
    if shape is None or tuple(x.shape[1:]) == shape:
        return x
    if x.ndim != 2 or x.shape[1] != prod(shape):
        either = dict.fromkeys((f"(b, {prod(shape)})", f"(b, {', '.join(map(str, shape))})"))
        raise ShapeError(f"images: expected shape {' or '.join(either)}, found {tuple(x.shape)}")
    return x.reshape(len(x), *shape)


def is_batch(extras: object) -> bool:
    """Whether the statistics of the batch were asked for."""
    return isinstance(extras, str) and extras == "batch"


def first_parameter(module: nn.Module) -> str | None:
    """The name of the first positional parameter of a module's forward, None if there is none."""
    named = [parameter.name for parameter in _parameters(module) if parameter.kind in _POSITIONAL]
    return named[0] if named else None


def _parameters(module: nn.Module) -> Collection[Parameter]:
    forward = module.forward
    if isinstance(forward, MethodType):
        own = _of_function(forward.__func__)
        return own[1:] if own and own[0].kind in _POSITIONAL else own
    return _of_function.__wrapped__(forward)  # set on the module itself, which a cache would keep alive


@lru_cache(maxsize=256)
def _of_function(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    try:
        return tuple(signature(function).parameters.values())
    except (TypeError, ValueError):  # not written in Python
        return ()


def _names(module: nn.Module, name: str) -> bool:
    """Whether the module's forward has a parameter of this name."""
    return any(parameter.name == name and parameter.kind is not _ANY_KEYWORD for parameter in _parameters(module))


def _takes(module: nn.Module, name: str) -> bool:
    """Whether the module's forward takes a keyword of this name, be it one of any."""
    return any(parameter.name == name or parameter.kind is _ANY_KEYWORD for parameter in _parameters(module))


def _takes_one(module: nn.Module) -> bool:
    """Whether the module's forward takes no second positional argument."""
    kinds = [parameter.kind for parameter in _parameters(module)]
    return Parameter.VAR_POSITIONAL not in kinds and sum(kind in _POSITIONAL for kind in kinds) < 2


def _is_mask(value: object, layers: Collection[str]) -> bool:
    return isinstance(value, Mask) or _is_dict_of(value, layers)


def _has(value: object, name: str) -> bool:
    return isinstance(value, Mapping) and name in value


def _is_dict_of(value: object, names: Collection[str]) -> bool:
    return isinstance(value, Mapping) and value.keys() == set(names)
