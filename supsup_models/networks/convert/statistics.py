"""Running statistics of normalisation layers: per task, hence no part of the module.

A converted module keeps none. Training a task starts from fresh ones (with kept weights, from those the module came
with) and its result carries them. A forward pass uses a task's statistics or, where none are put in, those of the batch
at hand.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from supsup_models._names import expect, found
from supsup_models.errors import ArgumentTypeError, ConversionError, ShapeError, StatisticsError
from supsup_models.networks.convert.call_copy import CallCopy
from supsup_models.networks.convert.layers import TRACKING_NORMALISATIONS, joined

TRACKED = ("running_mean", "running_var")
_COUNT = "num_batches_tracked"


class Starts(NamedTuple):
    """What a task's statistics start from, by buffer name, and the counts of batches by the path of the layer."""

    values: dict[str, Tensor]
    counts: dict[str, int]


def take_out(module: nn.Module, skipped: frozenset[str], keep: bool) -> Starts:
    """Empty the statistics' buffers of all layers that track any, and return what a task starts from.

    Those are the buffers' values if `keep`, zero means and unit variances if not. torch needs the count of batches only
    where the average is cumulative (momentum None); such a layer is a ConversionError.
    """
    taken = Starts({}, {})
    for path, owner in module.named_modules():
        if path in skipped or not isinstance(owner, TRACKING_NORMALISATIONS) or not owner.track_running_stats:
            continue
        if owner.momentum is None:
            raise ConversionError(
                f"{path}: expected a momentum for its running statistics, found None (a cumulative average)"
            )
        if not keep:
            owner.reset_running_stats()
        for name in TRACKED:
            buffer = owner._buffers[name]
            assert buffer is not None  # what track_running_stats means
            taken.values[joined(path, name)] = buffer.detach().clone()
        count = owner._buffers[_COUNT]
        taken.counts[path] = 0 if count is None else int(count)
        for name in (*TRACKED, _COUNT):
            owner._buffers[name] = None
    return taken


def checked(extras: Mapping[str, Any], expected: Mapping[str, Tensor], *, values: bool) -> dict[str, Tensor]:
    """A task's statistics as tensors of the dtype and device of those expected.

    Tensors that fit already share their memory, so that training updates them in place. Raises ShapeError for other
    names or shapes, ArgumentTypeError for what are no numbers. With `values`, StatisticsError for means and variances
    that are not finite and variances below zero: a network answers NaN under them.
    """
    result = {name: value.detach().to(expected[name]) for name, value in _fitting(extras, expected).items()}
    if values:
        _check_values(result)
    return result


def stacked(rows: Sequence[Mapping[str, Any]], expected: Mapping[str, Tensor], *, values: bool) -> dict[str, Tensor]:
    """The statistics of several tasks together, `(tasks, channels)` each; errors are those of `checked`."""
    fitting = [_fitting(row, expected) for row in rows]
    found = [torch.cat([each.reshape(-1) for each in fit.values()]) for fit in fitting if fit]
    if not found:
        return {}
    like = next(iter(expected.values()))
    parts = torch.stack(found).detach().to(like).split([each.numel() for each in expected.values()], dim=1)
    result = dict(zip(expected, parts, strict=True))
    if values and not _are_usable(result):
        for row in rows:
            checked(row, expected, values=True)
    return result


def _fitting(extras: Mapping[str, Any], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Extras as tensors of the shapes that are expected, in their order."""
    expect("extras", extras, Mapping, "a dict of arrays by name")
    if extras.keys() != expected.keys():
        wrong = sorted(extras.keys() ^ expected.keys())
        raise ShapeError(
            f"extras: expected the statistics of {len(expected) // 2} layers, found {wrong[0]!r} "
            f"{'missing' if wrong[0] in expected else 'beside them'}"
        )
    result = {}
    for name, like in expected.items():
        result[name] = tensor = number_tensor(name, extras[name])
        if tensor.shape != like.shape:
            raise ShapeError(f"extras {name!r}: expected shape {tuple(like.shape)}, found {tuple(tensor.shape)}")
    return result


def _are_usable(found: Mapping[str, Tensor]) -> bool:
    """Whether all statistics are finite, and no variance is below zero: one look at a device."""
    with torch.no_grad():
        bad = ~torch.cat([value.reshape(-1) for value in found.values()]).isfinite().all()
        variances = [value.reshape(-1) for name, value in found.items() if name.endswith("var")]
        if variances:
            bad |= (torch.cat(variances) < 0).any()
        return not bad


def _check_values(found: Mapping[str, Tensor]) -> None:
    if not found or _are_usable(found):
        return
    for name, value in found.items():
        wrong = ~value.isfinite() | (value < 0) & name.endswith("var")
        what = "a variance of at least 0" if name.endswith("var") else "a finite mean"
        for channel in wrong.nonzero()[:1, 0].tolist():
            raise StatisticsError(
                f"extras {name!r}: expected {what} for each channel, found {float(value[channel]):g} for channel "
                f"{channel}"
            )


def number_tensor(name: str, value: Any) -> Tensor:
    """An extra array as a tensor; ArgumentTypeError for what are no numbers."""
    if isinstance(value, Tensor):
        return value
    try:
        array = np.array(value)
    except ValueError:  # rows of unequal lengths
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        raise ArgumentTypeError(f"extras {name!r}: expected an array of numbers, found {found(value)}")
    return torch.from_numpy(array)


def put_in(copy: CallCopy, names: Iterable[str], values: Mapping[str, Tensor] | None) -> None:
    """Put statistics into a module's copy for one call; None stands for those of the batch."""
    for name in names:
        if values is None:
            use_batch(copy.module, name)
            continue
        copy.put(name, values[name])
        path = name.rpartition(".")[0]
        if isinstance(copy.submodule(path), nn.SyncBatchNorm):  # in training it counts, come what may
            copy.put(joined(path, _COUNT), torch.zeros((), dtype=torch.int64, device=values[name].device))


def measured(copy: CallCopy, values: dict[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """The statistics of a module's copy for a batch of images, each layer's measured behind those before it.

    `values` are fresh statistics, which are overwritten and returned. Only layers that keep running statistics train.
    """
    put_in(copy, values, values)
    for name in values:
        owner = copy.module.get_submodule(name.rpartition(".")[0])
        owner.training, owner.momentum = True, 1.0  # type: ignore[assignment] # the copy's own
    copy.module(images)
    return values


def use_batch(module: nn.Module, name: str) -> None:
    """Let the layer of a running statistic use the statistics of its input instead."""
    module.get_submodule(name.rpartition(".")[0]).track_running_stats = False  # type: ignore[assignment]


def forgive_counts(model: nn.Module, keys: Any) -> None:
    """After a state dict was loaded: the counts of batches are no keys of it.

    torch adds them to a state dict without metadata, such as one from a safetensors file, and then finds no place for
    them in layers whose statistics were taken out.
    """
    kept = [key for key in keys.unexpected_keys if not _is_taken_count(model, key)]
    keys.unexpected_keys[:] = kept


def _is_taken_count(model: nn.Module, key: str) -> bool:
    parts = [end for end, letter in enumerate(key) if letter == "."]
    if not key.endswith(f".{_COUNT}"):
        return False
    # the model may itself be a part of what is loaded, so that its own path comes first
    for start in (0, *(end + 1 for end in parts)):
        try:
            owner = model.get_submodule(key[start : parts[-1]])
        except AttributeError:
            continue
        if isinstance(owner, TRACKING_NORMALISATIONS) and owner._buffers.get(_COUNT) is None:
            return True
    return False


def put_back(module: nn.Module, values: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
    """Give a module copies of statistics as ordinary buffers, with the layers' counts of batches."""
    for name, value in values.items():
        path, _, buffer = name.rpartition(".")
        owner = module.get_submodule(path)
        owner._buffers[buffer] = value.detach().clone()
        owner._buffers[_COUNT] = torch.tensor(counts[path], dtype=torch.int64, device=value.device)
