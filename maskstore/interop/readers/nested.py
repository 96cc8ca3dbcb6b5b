"""Masks in nested dicts: by task and layer (Piggyback, WSN), by module and parameter (NNI), by owner (PackNet)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import ForeignFileError
from maskstore.interop.model import ForeignMasks, ReadOptions
from maskstore.interop.readers.leaves import as_array, is_array, plain_names, shape_of
from maskstore.interop.readers.named_arrays import read_arrays, read_tasks

PACKNET, PIGGYBACK, WSN = "previous_masks", "dataset2masks", "per_task_masks"
"""The keys under which the released code of each saves its masks."""
_IN_OR_OUT = re.compile(r"_(in|out)put_(\d+_?)?")
_PARAMETER = re.compile(rf"\w*(weight|bias|kernel|embedding|scale)\w*|{_IN_OR_OUT.pattern}")
_TASK = re.compile(r"task[-_ ]?\d+")


def is_nested(tree: Any, *, holes: bool = False) -> bool:
    """Whether it is a dict of dicts of arrays; with `holes`, None may stand for an array."""
    return (
        isinstance(tree, Mapping)
        and bool(tree)
        and all(
            isinstance(inner, Mapping)
            and inner
            and all(is_array(value) or (holes and value is None) for value in inner.values())
            for inner in tree.values()
        )
    )


def readings_of(tree: Any) -> dict[str, str]:
    """The layouts that a nested dict may be of, each with what speaks for it."""
    if not isinstance(tree, Mapping):
        return {}
    named = {"packnet": PACKNET, "piggyback": PIGGYBACK, "wsn": WSN}
    found = {layout: f"the key {key}" for layout, key in named.items() if isinstance(tree.get(key), Mapping)}
    if found or not is_nested(tree, holes=True):
        return found
    outer, inner = list(tree), {key for layers in tree.values() for key in layers}
    parameters = all(isinstance(key, str) and _PARAMETER.fullmatch(key) for key in inner)
    if all(isinstance(key, int) for key in outer) and all(isinstance(key, str) for key in inner):
        found = {"wsn": f"tasks by number ({outer[0]!r}), ... of layers"}
        return found | ({"nni": f"modules by number ({outer[0]!r}), ... of parameters"} if parameters else {})
    if not all(isinstance(key, str) for key in outer):
        return {}
    if all(isinstance(key, int) for key in inner):
        return {"piggyback": "layers by the number of their module"}
    if all(_TASK.fullmatch(key) for key in outer):
        return {"piggyback": f"tasks by name ({outer[0]!r:.40})"}
    shapes = [{key: shape_of(value) for key, value in layers.items()} for layers in tree.values()]
    found = {}
    if all(shape == shapes[0] for shape in shapes):
        found["piggyback"] = f"tasks {outer[0]!r:.40}, ... of equal layers"
    if parameters or (found and all(isinstance(key, str) for key in inner)):
        found["nni"] = f"modules {outer[0]!r:.40}, ... of parameters"
    return found


def read_piggyback(tree: Any, path: Path, options: ReadOptions) -> ForeignMasks:
    """Masks by task and layer, as Piggyback packs them in bytes; ternary masks are refused."""
    by_task = _nested(tree, PIGGYBACK, path, options)
    for task, layers in by_task.items():
        for name, array in layers.items():
            if not options.nonzero and array.dtype == np.uint8 and array.size and array.max() == 255:
                raise ForeignFileError(f"{path}, task {task!r}, layer {name!r}: expected a binary mask, "
                                       "found -1, which only ternary masks hold")  # fmt: skip
    return read_tasks("piggyback", by_task, path, options)


def read_wsn(tree: Any, path: Path, options: ReadOptions) -> ForeignMasks:
    """Masks by the number of the task and by the path of the layer, as WSN saves `per_task_masks`.

    A layer without a mask is None, and is left out. The head of a task is a layer that has the task's number in its
    path and that no other task has: to the other tasks all its weights are off.
    """
    by_number = _nested(tree, WSN, path, options, holes=True)
    shapes: dict[str, tuple[int, ...]] = {}
    for number, layers in by_number.items():
        for name, array in layers.items():
            if shapes.setdefault(name, array.shape) != array.shape:
                raise ForeignFileError(f"{path}, task {number}, layer {name!r:.80}: expected shape {shapes[name]}, "
                                       f"found {array.shape}")  # fmt: skip
    for name in shapes:
        owners = [number for number, layers in by_number.items() if name in layers]
        if len(owners) not in (1, len(by_number)) or (
            len(owners) < len(by_number) and owners[0] not in name.split(".")
        ):
            lacking = next(number for number in by_number if number not in owners)
            raise ForeignFileError(f"{path}, task {lacking}: expected the layers of task {owners[0]}, "
                                   f"found no {name!r:.80}")  # fmt: skip
    by_task = {
        f"task-{number}": {name: layers.get(name, np.zeros(shape, dtype=np.bool_)) for name, shape in shapes.items()}
        for number, layers in by_number.items()
    }
    return read_tasks("wsn", by_task, path, options)


def read_nni(tree: Any, path: Path, options: ReadOptions) -> ForeignMasks:
    """Masks by module and parameter, as NNI's pruners give them: one task, whose layers are MODULE.PARAMETER.

    NNI's masks of a module's inputs and outputs are left out, and so is a parameter whose mask is None.
    """
    if not isinstance(tree, Mapping):
        raise ForeignFileError(f"{path}: expected masks by module and parameter, found {type(tree).__name__}")
    arrays: dict[str, Any] = {}
    for module, parameters in tree.items():
        if isinstance(module, bool) or not isinstance(module, (str, int)) or not isinstance(parameters, Mapping):
            raise ForeignFileError(
                f"{path}: expected masks by module and parameter, found {type(parameters).__name__} "
                f"under {module!r:.40}"
            )
        for parameter, value in parameters.items():
            name = f"{module}.{parameter}"
            if value is None or _IN_OR_OUT.fullmatch(str(parameter)):
                continue
            if name in arrays:
                raise ForeignFileError(f"{path}: expected distinct names, found {name!r:.80} twice")
            arrays[name] = value
    return read_arrays("nni", plain_names(arrays, path), path, options)


def read_packnet(tree: Any, path: Path, options: ReadOptions) -> ForeignMasks:
    """PackNet's `previous_masks`: for each weight, by module index, the number of the data set that it belongs to.

    0 is a weight that was pruned. A data set uses its own weights and those of the data sets before it.
    """
    owners = tree.get(PACKNET, tree) if isinstance(tree, Mapping) else {}
    if not isinstance(owners, Mapping) or not owners or not all(is_array(value) for value in owners.values()):
        raise ForeignFileError(f"{path}: expected {PACKNET}, a dict of arrays by module index, found none")
    by_name = {str(key): value for key, value in owners.items()}
    if len(by_name) != len(owners):
        raise ForeignFileError(f"{path}, {PACKNET}: expected distinct names, found one twice")
    layers = {
        name: as_array(value, f"{path}, layer {name!r:.80}")
        for name, value in options.chosen(by_name, str(path)).items()
    }
    for name, array in layers.items():
        if array.dtype.kind not in "iu" or (array.size and array.min() < 0):
            raise ForeignFileError(
                f"{path}, layer {name!r:.80}: expected numbers of data sets, found {array.dtype} others"
            )
    most = max((int(array.max()) for array in layers.values() if array.size), default=0)
    by_task = {}
    for name, number in _datasets(tree, most, path).items():
        by_task[name] = {layer: (array != 0) & (array <= number) for layer, array in layers.items()}
    return read_tasks("packnet", by_task, path, options, chosen=True)


def _datasets(tree: Mapping[Any, Any], most: int, path: Path) -> dict[str, int]:
    """The data sets by name, in the order of their numbers."""
    given = tree.get("dataset2idx")
    if given is None:
        if most > 255:
            raise ForeignFileError(f"{path}: expected at most 255 data sets, found number {most}")
        return {f"task-{number}": number for number in range(1, most + 1)}
    numbers: dict[str, int] = {}
    for name, value in given.items() if isinstance(given, Mapping) else [("", None)]:
        number = as_array(value, str(path)).reshape(-1) if is_array(value) else np.asarray([value], dtype=object)
        if not isinstance(name, str) or number.size != 1 or not str(number[0]).isdecimal() or not int(number[0]):
            raise ForeignFileError(f"{path}, dataset2idx: expected numbers from 1 by name, found {value!r:.40}")
        numbers[name] = int(number[0])
    named = set(numbers.values())
    if len(named) != len(numbers) or most > len(named) or not named.issuperset(range(1, most + 1)):
        raise ForeignFileError(f"{path}, dataset2idx: expected a name for each data set up to {most}, "
                               f"found {str(numbers)[:80]}")  # fmt: skip
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def _nested(
    tree: Any, key: str, path: Path, options: ReadOptions, *, holes: bool = False
) -> dict[str, dict[str, NDArray[Any]]]:
    by_task: dict[str, dict[str, NDArray[Any]]] = {}
    nested = tree.get(key, tree) if isinstance(tree, Mapping) else None
    if not isinstance(nested, Mapping) or not nested:
        raise ForeignFileError(f"{path}: expected masks by task and layer, found {type(nested).__name__}")
    for task, layers in nested.items():
        if isinstance(task, bool) or not isinstance(task, (str, int)) or not isinstance(layers, Mapping):
            raise ForeignFileError(f"{path}: expected masks by task and layer, found {type(layers).__name__} "
                                   f"under {task!r:.40}")  # fmt: skip
        given = plain_names({str(name): value for name, value in layers.items()}, path)
        if len(given) != len(layers) or str(task) in by_task:
            raise ForeignFileError(f"{path}, task {task!r:.80}: expected distinct names, found one twice")
        by_task[str(task)] = {
            name: as_array(value, f"{path}, task {task!r:.80}, layer {name!r:.80}")
            for name, value in given.items()
            if not (holes and value is None)
        }
    return by_task
