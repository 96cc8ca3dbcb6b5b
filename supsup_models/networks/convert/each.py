"""A module run on a batch in which each image has its own mask: its weights stand in for many.

`EachWeight` takes the place of a masked parameter, and `EachStatistic` that of a running statistic. They are tensors
that know three kinds of functions: a linear layer, a convolution, a normalisation with running statistics. Any other
function of them raises `NotMixedError`, and the caller then runs the masks one after the other. So a module that does
something else with its weights can never compute with those of another task.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from supsup_models.networks.own_masks import OwnMasks

_HARMLESS = {
    getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "layout", "is_sparse", "is_cuda")
} | {Tensor.size, Tensor.dim, Tensor.is_floating_point, Tensor.numel}


class NotMixedError(Exception):
    """The module does something with its weights that is not known for weights of each image."""


class _Each(Tensor):
    """A tensor that stands in for those of each image."""

    @classmethod
    def known(cls, func: Callable[..., Any]) -> Callable[..., Any] | None:
        """What computes such a function of a batch, or None where nothing does."""
        raise NotImplementedError

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Iterable[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _HARMLESS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        instead = cls.known(func)
        if instead is None:
            raise NotMixedError
        return instead(*args, **kwargs)


class EachWeight(_Each):
    """A layer's frozen weights, and the masks that the images have on them."""

    own: OwnMasks
    layer: int

    @classmethod
    def of(cls, weights: Tensor, own: OwnMasks, layer: int) -> Self:
        """The weights of layer number `layer`, in their shape, for a batch under these masks."""
        made = weights.detach().as_subclass(cls)
        made.own, made.layer = own, layer
        return made

    @classmethod
    def known(cls, func: Callable[..., Any]) -> Callable[..., Any] | None:
        return _linear if func is F.linear else _CONVOLUTIONS.get(func)


class EachStatistic(_Each):
    """A running statistic of each image's task: as a tensor the first one's, `each` `(b, channels)` has all."""

    each: Tensor

    @classmethod
    def of(cls, each: Tensor) -> Self:
        """Statistics `(b, channels)`."""
        made = each[0].detach().as_subclass(cls)
        made.each = each
        return made

    @classmethod
    def known(cls, func: Callable[..., Any]) -> Callable[..., Any] | None:
        return _batch_norm if func is F.batch_norm else None


def _plain(*tensors: object) -> bool:
    return not any(isinstance(each, EachWeight | EachStatistic) for each in tensors)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not isinstance(weight, EachWeight) or not _plain(input, bias) or input.ndim < 2:
        raise NotMixedError
    own, plain = weight.own, weight.as_subclass(Tensor)
    if not own.fits(input, plain):
        raise NotMixedError
    result = own.linear(weight.layer, plain, input)
    return result if bias is None else result + bias


def _convolution(
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    if not isinstance(weight, EachWeight) or not _plain(input, bias) or input.ndim != dims + 2:
        raise NotMixedError
    own, plain = weight.own, weight.as_subclass(Tensor)
    if not own.fits(input, plain) or input.shape[1] != plain.shape[1] * groups:
        raise NotMixedError
    gaps = _of_each(dilation, dims)
    if padding == "same":
        spans = [gap * (taps - 1) for gap, taps in zip(gaps, plain.shape[2:], strict=True)]
        pads = [(span // 2, span - span // 2) for span in spans]
    else:
        assert not isinstance(padding, str) or padding == "valid"
        pads = [(pad, pad) for pad in _of_each(0 if isinstance(padding, str) else padding, dims)]
    result = own.convolution(weight.layer, plain, input, _of_each(stride, dims), pads, gaps, groups)
    return result if bias is None else result + bias.view(-1, *[1] * dims)


def _of_each(value: int | Sequence[int], dims: int) -> list[int]:
    given = [value] if isinstance(value, int) else list(value)
    return given * dims if len(given) == 1 else given


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not isinstance(running_mean, EachStatistic) or not isinstance(running_var, EachStatistic):
        raise NotMixedError
    if training or not _plain(input, weight, bias):
        raise NotMixedError
    mean, var = running_mean.each, running_var.each
    if input.ndim < 2 or input.shape[:2] != mean.shape:
        raise NotMixedError
    scale = torch.rsqrt(var + eps)  # (b, channels)
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    places = (*mean.shape, *[1] * (input.ndim - 2))
    # two passes that torch vectorises take a fraction of `addcmul`, which it does not where channels are broadcast
    return torch.mul(input, scale.reshape(places)).add_(shift.reshape(places))


_CONVOLUTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    function: partial(_convolution, dims)
    for dims, function in enumerate((torch.conv1d, torch.conv2d, torch.conv3d), start=1)
}
