"""Files written by `torch.save`, read without ever running what they name.

Only torch's `weights_only` reader is used. Beside tensors and plain containers it is told of `argparse.Namespace`, and
of stand-ins of ours for three harmless things that real checkpoints hold: paths, numpy arrays and numpy numbers. A
stand-in keeps or drops its arguments and does nothing else; numpy and pathlib never see them.
"""

import argparse
import re
import warnings
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import ForeignFileError, how_to_install, one_line

_SAFE_FROM = (2, 10)  # earlier weights_only readers could be made to run code (CVE-2025-32434, CVE-2026-24747)
_STORED_DTYPES = {"b1": np.bool_, "u1": np.uint8}


class StoredPath:
    """Stands in for a `pathlib` path."""

    __slots__ = ()

    def __init__(self, *parts: object) -> None:
        pass


class StoredDtype:
    """Stands in for `numpy.dtype`; keeps the type's name."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        pass  # byte order and field names: one-byte types have neither


class StoredArray:
    """Stands in for a numpy array; keeps the state that numpy would have been given."""

    def __init__(self, *_: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def array(self, what: str) -> NDArray[Any]:
        """The array, if it is one of bytes or bools whose data is all there."""
        match self.state:
            case (_, tuple(shape), StoredDtype(name=str(name)), fortran, bytes(data)) if name in _STORED_DTYPES:
                if all(type(n) is int and n >= 0 for n in shape) and prod(shape) == len(data):
                    values = np.frombuffer(data, dtype=np.uint8)
                    if name == "b1" and values.size and values.max() > 1:
                        raise ForeignFileError(f"{what}: expected bools, found byte {values.max()}")
                    return values.view(_STORED_DTYPES[name]).reshape(shape, order="F" if fortran else "C")
        raise ForeignFileError(f"{what}: expected a numpy array of bytes or bools, found another")


def _scalar(*_: object) -> None:
    """Stands in for numpy numbers."""


def _stand_ins() -> list[Any]:
    known: list[Any] = [argparse.Namespace]
    for module in ("pathlib", "pathlib._local"):
        known += [(StoredPath, f"{module}.{name}") for name in ("PosixPath", "WindowsPath", "PurePosixPath")]
    for module in ("numpy._core.multiarray", "numpy.core.multiarray"):
        known += [(StoredArray, f"{module}._reconstruct"), (_scalar, f"{module}.scalar")]
    return [*known, (StoredArray, "numpy.ndarray"), (StoredDtype, "numpy.dtype")]


def load_torch(path: Path) -> Any:
    """The content of a torch file, tensors on the CPU; ForeignFileError names what would have to be run to read it."""
    try:
        import torch
    except ImportError:
        how = how_to_install("models")
        raise ForeignFileError(f"{path}: expected torch to be installed for torch files, found none {how}") from None
    version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if version < _SAFE_FROM:
        raise ForeignFileError(
            f"{path}: expected torch 2.10 or newer, whose weights_only reader is safe, found {torch.__version__}"
        )
    try:
        with torch.serialization.safe_globals(_stand_ins()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters about a foreign file is raised
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types on damaged or hostile files
        raise ForeignFileError(f"{path}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    text = one_line(error, 10_000)
    for pattern in (r"GLOBAL (\S+) (?:was not|whose module)", r"function (<.+?>)", r"but got (<class .+?>)"):
        named = re.search(pattern, text)
        if named:
            return f"expected tensors and plain containers, found {named[1]}, which only unpickling code could load"
    return f"expected a torch file, found: {text[:160]}"


def as_array(value: Any, what: str) -> NDArray[Any]:
    """A tensor or stored array as numpy array; ForeignFileError for other values and for tensors without their data."""
    if isinstance(value, StoredArray):
        return value.array(what)
    import torch

    if not is_tensor(value):
        raise ForeignFileError(f"{what}: expected a tensor, found {type(value).__name__}")
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise ForeignFileError(f"{what}: expected a plain dense tensor, found {value.layout} on {value.device}")
    # a few stored bytes can be viewed as a tensor of any size: what is not in the file is not made up here
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ForeignFileError(f"{what}: expected {value.numel()} stored values, found a view that repeats fewer")
    if value.dtype == torch.bfloat16:
        value = value.float()
    if value.dtype.is_complex:
        raise ForeignFileError(f"{what}: expected bools or real numbers, found {value.dtype}")
    try:
        return np.asarray(value.detach().numpy())
    except TypeError:
        raise ForeignFileError(f"{what}: expected bools or real numbers, found {value.dtype}") from None


def is_tensor(value: Any) -> bool:
    """Whether it is a tensor of torch's own."""
    import torch

    return isinstance(value, torch.Tensor)


def is_array(value: Any) -> bool:
    """Whether `as_array` may take it."""
    return isinstance(value, StoredArray) or is_tensor(value)


def gain_of(nonlinearity: Any, what: str) -> float:
    """The gain by which torch scales the weights before a nonlinearity; ForeignFileError for one unknown to it."""
    import torch

    try:
        return torch.nn.init.calculate_gain(nonlinearity)
    except ValueError:
        raise ForeignFileError(f"{what}: expected a nonlinearity known to torch, found {nonlinearity!r:.40}") from None


def state_of(tree: Any, path: Path) -> Mapping[str, Any]:
    """The state dict of a checkpoint: the mapping itself, or the one under a customary key.

    A prefix "module." on every key, which data-parallel training leaves, is taken off.
    """
    if isinstance(tree, Mapping):
        for key in ("state_dict", "model_state_dict", "model"):
            if isinstance(tree.get(key), Mapping):
                tree = tree[key]
                break
    if not isinstance(tree, Mapping) or not all(isinstance(key, str) for key in tree):
        raise ForeignFileError(f"{path}: expected a dict by name, found {type(tree).__name__}")
    if tree and all(key.startswith("module.") for key in tree):
        return {key.removeprefix("module."): value for key, value in tree.items()}
    return tree
