"""Layouts of named arrays, whatever file they came in: pruned state dicts, plain arrays, packed vectors, Piggyback."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import ForeignFileError, ImportOptionError, SpecError
from maskstore.interop.model import Arrays, BitOrder, ForeignMasks, ReadOptions, assemble, mask_of, unpack
from maskstore.masks import Mask, MaskSpec


def read_arrays(arrays: Arrays, path: Path, options: ReadOptions) -> ForeignMasks:
    """One array a layer, of 0/1 values or (given shapes) packed bytes; names may start with their task's."""
    spec = options.spec(str(path)) if options.shapes is not None else None
    by_task = _by_task(arrays, path, options)
    return assemble("arrays", _masks(by_task, path, spec, options.bit_order), options, path.stem, {})


def is_pruned(names: Mapping[str, Any]) -> bool:
    """Whether a state dict is of a module under `torch.nn.utils.prune`."""
    return any(name.endswith("_mask") and f"{name.removesuffix('_mask')}_orig" in names for name in names)


def read_pruned(arrays: Arrays, path: Path, options: ReadOptions) -> ForeignMasks:
    """The buffers `NAME_mask` that `torch.nn.utils.prune` keeps beside `NAME_orig`; layers are called `NAME`."""
    found = {}
    for name, array in arrays.items():
        if name.endswith("_mask"):
            layer = name.removesuffix("_mask")
            original = arrays.get(f"{layer}_orig")
            if original is not None and original.shape != array.shape:
                raise ForeignFileError(
                    f"{path}, {name}: expected shape {original.shape}, that of {layer}_orig, found {array.shape}"
                )
            found[layer] = array
    if not found:
        raise ForeignFileError(f"{path}: expected buffers named *_mask, found none among {len(arrays)} arrays")
    by_task = _by_task(found, path, options)
    return assemble("prune", _masks(by_task, path), options, path.stem, {})


def read_piggyback(by_task: Mapping[str, Mapping[str, NDArray[Any]]], path: Path, options: ReadOptions) -> ForeignMasks:
    """Byte masks by data set and by module index, as Piggyback packs them; ternary masks are refused."""
    for task, layers in by_task.items():
        for name, array in layers.items():
            if array.dtype == np.uint8 and array.size and array.max() == 255:
                raise ForeignFileError(f"{path}, task {task!r}, layer {name!r}: expected a binary mask, "
                                       "found -1, which only ternary masks hold")  # fmt: skip
    return assemble("piggyback", _masks(by_task, path), options, path.stem, {})


def is_vectors(arrays: Arrays, options: ReadOptions) -> bool:
    """Whether arrays are whole masks under their tasks' names, not layers."""
    if options.shapes is None or set(arrays) == set(options.shapes):
        return False
    total = MaskSpec(options.shapes).bits
    return all(array.shape in (((total + 7) // 8,), (total,)) for array in arrays.values())


def read_vectors(arrays: Arrays, path: Path, options: ReadOptions) -> ForeignMasks:
    """TALL-masks: one vector a task over all layers, packed by `numpy.packbits`, or still unpacked.

    Layers follow one another sorted by name, as TALL-masks flattens state dicts, unless `vector_order` says otherwise.
    """
    spec = options.spec(str(path))
    order = sorted(spec.shapes) if options.vector_order == "sorted" else list(spec.shapes)
    masks = []
    for task, vector in arrays.items():
        what = _where(path, task)
        packed = vector.dtype == np.uint8 and vector.shape == ((spec.bits + 7) // 8,)
        if vector.shape == (spec.bits,) and not packed:
            flat = mask_of({"vector": vector}, None, what).flat()
        else:
            flat = unpack(vector, spec.bits, options.bit_order, what)
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


def _by_task(arrays: Arrays, path: Path, options: ReadOptions) -> dict[str, dict[str, NDArray[Any]]]:
    if options.separator is None:
        return {"": dict(arrays)}
    if options.separator == "":
        raise ImportOptionError("separator: expected at least one character, found none")
    by_task: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        task, found, layer = name.partition(options.separator)
        if not found or not task or not layer:
            raise ForeignFileError(
                f"{path}: expected names TASK{options.separator}LAYER, found {name!r:.80} (is `separator` right?)"
            )
        by_task.setdefault(task, {})[layer] = array
    return by_task


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
