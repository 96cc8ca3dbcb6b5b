"""Running statistics of normalisation layers: per task, hence no part of the module.

A converted module keeps none. Training a task starts from fresh ones (with kept weights, from those the module came
with) and its result carries them; a forward pass with a task's statistics uses those; one without uses the statistics
of the batch at hand, which is what torch does for a layer that has none.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from supsup_models.errors import ConversionError, ShapeError
from supsup_models.networks.convert.layers import TRACKING_NORMALISATIONS, joined

_TRACKED = ("running_mean", "running_var")
_COUNT = "num_batches_tracked"


def take_out(module: nn.Module, skipped: frozenset[str], keep: bool) -> dict[str, Tensor]:
    """Empty the statistics' buffers of all layers that track any, and return what a task starts from, by buffer name.

    Those are the buffers' values if `keep`, zero means and unit variances if not. torch needs the count of batches only
    where the average is cumulative (momentum None); such a layer is a ConversionError.
    """
    taken: dict[str, Tensor] = {}
    for path, owner in module.named_modules():
        if path in skipped or not isinstance(owner, TRACKING_NORMALISATIONS) or not owner.track_running_stats:
            continue
        if owner.momentum is None:
            raise ConversionError(
                f"{path}: expected a momentum for its running statistics, found None (a cumulative average)"
            )
        if not keep:
            owner.reset_running_stats()
        for name in _TRACKED:
            buffer = owner._buffers[name]
            assert buffer is not None  # what track_running_stats means
            taken[joined(path, name)] = buffer.detach().clone()
        for name in (*_TRACKED, _COUNT):
            owner._buffers[name] = None
    return taken


def checked(extras: Mapping[str, Any], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A task's statistics as tensors of the dtype and device of those expected.

    Tensors that fit already are passed through, so that training updates them in place. Raises ShapeError for other
    names or shapes.
    """
    if extras.keys() != expected.keys():
        wrong = sorted(extras.keys() ^ expected.keys())
        raise ShapeError(
            f"extras: expected the statistics of {len(expected) // 2} layers, found {wrong[0]!r} "
            f"{'missing' if wrong[0] in expected else 'beside them'}"
        )
    result = {}
    for name, like in expected.items():
        value = extras[name]
        tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
        if tensor.shape != like.shape:
            raise ShapeError(f"extras {name!r}: expected shape {tuple(like.shape)}, found {tuple(tensor.shape)}")
        result[name] = tensor.to(like)
    return result


def put_back(module: nn.Module, statistics: Mapping[str, Tensor]) -> None:
    """Give a module copies of statistics as ordinary buffers, with a count of batches of zero."""
    for name, value in statistics.items():
        path, _, buffer = name.rpartition(".")
        owner = module.get_submodule(path)
        owner._buffers[buffer] = value.detach().clone()
        owner._buffers[_COUNT] = torch.zeros((), dtype=torch.int64, device=value.device)
