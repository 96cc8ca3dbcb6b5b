"""Layouts of named arrays, whatever file they came in: pruned state dicts, plain arrays, packed vectors."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import ForeignFileError, ImportOptionError, MaskValueError, SpecError
from maskstore.interop.model import Arrays, BitOrder, ForeignMasks, ReadOptions, assemble, mask_of, unpack
from maskstore.interop.readers.leaves import as_array, is_float, plain_names, shape_of
from maskstore.masks import Mask, MaskSpec, SignedMask

_PARAMETRIZED = re.compile(r"(.+\.)?parametrizations\.(\w+)\.\d+\.mask")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def read_arrays(
    layout: str, arrays: Mapping[str, Any], path: Path, options: ReadOptions, *, chosen: bool = False
) -> ForeignMasks:
    """One array a layer, of 0/1 values or (given shapes) packed bytes; names may start with their task's.

    With `nonzero` the arrays are weights. Whole numbers and running statistics among them are no weights, and are left
    out. With `chosen` the layers were picked before.
    """
    if options.nonzero and not chosen:
        arrays = _weights(arrays, path)
    spec = options.spec(str(path)) if options.shapes is not None else None
    by_task = _by_task(arrays, path, options)
    return read_tasks(layout, by_task, path, options, spec=spec, chosen=chosen)


def read_tasks(
    layout: str,
    by_task: Mapping[str, Mapping[str, Any]],
    path: Path,
    options: ReadOptions,
    *,
    spec: MaskSpec | None = None,
    chosen: bool = False,
) -> ForeignMasks:
    """A mask a task, of one array a layer; with `chosen` the layers were picked before, and hold bits."""
    dense = {}
    for task, layers in by_task.items():
        picked = layers if chosen else options.chosen(layers, _where(path, task))
        dense[task] = {name: as_array(value, f"{_where(path, task)}, {name!r:.80}") for name, value in picked.items()}
        if options.nonzero and not chosen:
            dense[task] = {
                name: _kept(array, f"{_where(path, task)}, {name!r:.80}") for name, array in dense[task].items()
            }
    return assemble(layout, _masks(dense, path, spec, options.bit_order), options, path.stem, {})


def read_deltas(arrays: Mapping[str, Any], path: Path, options: ReadOptions) -> ForeignMasks:
    """Changes of weights, one array a layer, ternarised one after the other; names may start with their task's.

    Whole numbers other than int8, and running statistics, are no changes of weights, and are left out.
    """
    assert options.ternarise is not None
    changes = {name: value for name, value in arrays.items() if _may_be_delta(name, value)}
    if not changes:
        raise ForeignFileError(f"{path}: expected changes of weights, found none among {len(arrays)} arrays")
    found: list[tuple[str, SignedMask]] = []
    for task, layers in _by_task(changes, path, options).items():
        what, spec = _where(path, task), found[0][1].spec if found else None
        picked = _Read(options.chosen(layers, what), what)
        try:
            signed = SignedMask.from_deltas(picked, spec, density=options.density, scale=options.ternarise)
        except (MaskValueError, SpecError) as error:
            raise ForeignFileError(f"{what}: {error}") from None
        found.append((task, signed))
    masks = assemble("arrays", [(task, signed.mask) for task, signed in found], options, path.stem, {})
    tasks = tuple(replace(task, signed=signed) for task, (_, signed) in zip(masks.tasks, found, strict=True))
    return replace(masks, tasks=tasks, meta={"ternarised": options.ternarise})


class _Read(Mapping[str, NDArray[Any]]):
    """Arrays of a file, each read when it is asked for."""

    def __init__(self, arrays: Mapping[str, Any], what: str) -> None:
        self._arrays, self._what = arrays, what

    def __getitem__(self, name: str) -> NDArray[Any]:
        return as_array(self._arrays[name], f"{self._what}, {name!r:.80}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _may_be_delta(name: str, value: Any) -> bool:
    dtype = getattr(value, "dtype", "")
    return name.rpartition(".")[2] not in _STATISTICS and (
        is_float(value) or str(dtype) in ("I8", "int8", "torch.int8")
    )


def _weights(arrays: Mapping[str, Any], path: Path) -> dict[str, Any]:
    weights = {
        name: value for name, value in arrays.items() if is_float(value) and name.rpartition(".")[2] not in _STATISTICS
    }
    if not weights:
        raise ForeignFileError(f"{path}: expected weights, found none among {len(arrays)} arrays")
    return weights


def _kept(array: NDArray[Any], what: str) -> NDArray[np.bool_]:
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ForeignFileError(f"{what}: expected weights, found NaN among them")
    return np.asarray(array != 0)


def is_pruned(state: Mapping[str, Any]) -> str:
    """What speaks for `torch.nn.utils.prune`: the first `NAME_mask` beside `NAME_orig`; "" if nothing does."""
    return next((name for name in state if _pruned(name) and _original(name) in state), "")


def read_pruned(state: Mapping[str, Any], path: Path, options: ReadOptions) -> ForeignMasks:
    """The buffers `NAME_mask` that `torch.nn.utils.prune` keeps beside `NAME_orig`; layers are called `NAME`.

    The masks of `torch.ao.pruning`, `MODULE.parametrizations.NAME.0.mask` beside `.original`, are taken alike.
    Other buffers called `*_mask` are the network's own, and are left out. Where there is no `NAME_orig` at all, the
    file is one of masks alone.
    """
    names = [name for name in state if _pruned(name)]
    if is_pruned(state):
        names = [name for name in names if _original(name) in state]
    if not names:
        raise ForeignFileError(f"{path}: expected buffers named *_mask, found none among {len(state)} arrays")
    for name in names:
        original = state.get(_original(name), state[name])
        if shape_of(original) != shape_of(state[name]):
            raise ForeignFileError(f"{path}, {name}: expected shape {shape_of(original)}, that of {_original(name)}, "
                                   f"found {shape_of(state[name])}")  # fmt: skip
    by_task = _by_task({_pruned(name): state[name] for name in names}, path, options)
    if options.nonzero:
        raise ImportOptionError(f"{path}: expected weights without masks beside them for `nonzero`, "
                                f"found {names[0]} (leave `nonzero` out)")  # fmt: skip
    return read_tasks("prune", by_task, path, options)


def _pruned(name: str) -> str:
    """The layer of which an array may be the mask, by its name; "" if it is none."""
    if parts := _PARAMETRIZED.fullmatch(name):
        return f"{parts[1] or ''}{parts[2]}"
    return name.removesuffix("_mask") if name.endswith("_mask") else ""


def _original(name: str) -> str:
    """The array that stands beside a mask of this name."""
    if parts := _PARAMETRIZED.fullmatch(name):
        return f"{parts[1] or ''}parametrizations.{parts[2]}.original"
    return f"{_pruned(name)}_orig"


def is_vectors(arrays: Mapping[str, Any], options: ReadOptions) -> str:
    """What speaks for whole masks under their tasks' names, and not for layers; "" if nothing does."""
    if options.shapes is None or set(arrays) & set(options.shapes):
        return ""
    total = MaskSpec(options.shapes).bits
    if not all(shape_of(array) in (((total + 7) // 8,), (total,)) for array in arrays.values()):
        return ""
    if len(options.shapes) == 1:  # a vector over one layer is the layer, and its name may be mistyped
        (layer,) = options.shapes
        name = next(iter(arrays))
        raise ImportOptionError(f"layout: expected an array named {layer!r:.60}, found {name!r:.60} "
                                "(`layout=\"tall-masks\"` takes it as a task's name)")  # fmt: skip
    return f"vectors of all {total} bits"


def read_vectors(state: Mapping[str, Any], path: Path, options: ReadOptions) -> ForeignMasks:
    """TALL-masks: one vector a task over all layers, packed by `numpy.packbits`, or still unpacked.

    Layers follow one another sorted by name, as TALL-masks flattens state dicts, unless `vector_order` says otherwise.
    """
    spec = options.spec(str(path))
    order = sorted(spec.shapes) if options.vector_order == "sorted" else list(spec.shapes)
    masks = []
    for task, value in state.items():
        what = _where(path, task)
        vector = as_array(value, what)
        packed = vector.dtype == np.uint8 and vector.shape == ((spec.bits + 7) // 8,)
        if vector.shape == (spec.bits,) and not packed:
            flat = mask_of({"vector": vector}, MaskSpec({"vector": vector.shape}), what).flat()
        else:
            flat = unpack(vector, (spec.bits,), options.bit_order, what)
        layers, start = {}, 0
        for name in order:
            layer = spec[name]
            layers[name] = flat[start : start + layer.size].reshape(layer.shape)
            start += layer.size
        masks.append((task, mask_of(layers, spec, what)))
    return assemble("tall-masks", masks, options, path.stem, {})


def rows_of(array: NDArray[Any], path: Path) -> dict[str, NDArray[Any]]:
    """The vectors of an .npy file: `(n,)` is one task, `(k, n)` are k."""
    if array.ndim == 1:
        return {"": array}
    if array.ndim != 2:
        raise ForeignFileError(f"{path}: expected an array of shape (n,) or (tasks, n), found {array.shape}")
    return {f"task-{i}": row for i, row in enumerate(array)}


def _by_task(arrays: Mapping[str, Any], path: Path, options: ReadOptions) -> dict[str, dict[str, Any]]:
    if options.separator is None:
        return {"": dict(arrays)}
    if options.separator == "":
        raise ImportOptionError("separator: expected at least one character, found none")
    by_task: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        task, found, layer = name.partition(options.separator)
        if not found or not task or not layer:
            raise ForeignFileError(
                f"{path}: expected names TASK{options.separator}LAYER, found {name!r:.80} (is `separator` right?)"
            )
        by_task.setdefault(task, {})[layer] = array
    return {task: plain_names(layers, path) for task, layers in by_task.items()}


def _masks(
    by_task: Mapping[str, Arrays], path: Path, spec: MaskSpec | None = None, bit_order: BitOrder = "big"
) -> Iterator[tuple[str, Mask]]:
    """A mask a task, with the layers of each in the order of the first one's."""
    first = None
    for task, layers in by_task.items():
        mask = mask_of(layers, spec, _where(path, task), bit_order)
        first = first or mask.spec
        if mask.spec != first and set(mask.spec.shapes) == set(first.shapes):
            try:
                mask = Mask.from_dense(mask.dense(), first)
            except SpecError as error:
                raise ForeignFileError(f"task {task!r}: {error}") from None
        yield task, mask


def _where(path: Path, task: str) -> str:
    return f"{path}, task {task!r:.80}" if task else str(path)
