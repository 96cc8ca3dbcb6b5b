"""Arrays as foreign files hold them: numpy's, torch's, or not read yet; and the names that they stand under."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import ForeignFileError, ImportOptionError
from maskstore.interop.readers import torch_files
from maskstore.interop.readers.safetensors_files import SafeTensor

T = TypeVar("T")
STATES = ("state_dict", "model_state_dict", "model")
"""The keys under which checkpoints keep a state dict."""
_COMPILED, _PARALLEL = "_orig_mod", "module."


def is_array(value: Any) -> bool:
    """Whether `as_array` may take it."""
    return isinstance(value, (np.ndarray, SafeTensor, torch_files.StoredArray)) or torch_files.is_tensor(value)


def as_array(value: Any, what: str) -> NDArray[Any]:
    """The values of an array in a file; ForeignFileError for what is none, and for one without its data."""
    if isinstance(value, np.ndarray):
        return value
    return value.array(what) if isinstance(value, SafeTensor) else torch_files.as_array(value, what)


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of an array; None for what has none."""
    shape = getattr(value, "shape", None)
    return None if shape is None else tuple(shape)


def is_float(value: Any) -> bool:
    """Whether an array holds real numbers that need not be whole."""
    if isinstance(value, SafeTensor):
        return "F" in value.dtype
    return "float" in str(getattr(value, "dtype", ""))


def states_of(tree: Any) -> list[str]:
    """The customary keys under which a checkpoint holds mappings."""
    return [key for key in STATES if isinstance(tree.get(key), Mapping)] if isinstance(tree, Mapping) else []


def state_of(tree: Any, path: Path) -> Mapping[str, Any]:
    """The state dict of a checkpoint: the mapping itself, or the one under a customary key; names without prefixes."""
    keys = states_of(tree)
    if len(keys) > 1:
        raise ImportOptionError(f"{path}: expected one state dict, found {' and '.join(keys)} (save one of them alone)")
    state = tree[keys[0]] if keys else tree
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise ForeignFileError(f"{path}: expected a dict by name, found {type(state).__name__}")
    return plain_names(state, path)


def plain_names(state: Mapping[str, T], path: Path) -> dict[str, T]:
    """Names without what wrappers add: `module.` before every name, `_orig_mod` anywhere in one."""
    names = {name: ".".join(part for part in name.split(".") if part != _COMPILED) or name for name in state}
    while names and all(name.startswith(_PARALLEL) and len(name) > len(_PARALLEL) for name in names.values()):
        names = {name: short.removeprefix(_PARALLEL) for name, short in names.items()}
    plain = {names[name]: value for name, value in state.items()}
    if len(plain) != len(state):
        raise ForeignFileError(f"{path}: expected distinct names without their _orig_mod, found one twice")
    return plain
