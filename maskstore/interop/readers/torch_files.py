"""Files written by `torch.save`, read without ever running what they name.

Only torch's `weights_only` reader is used. Beside tensors and plain containers it is told of `argparse.Namespace`, and
of stand-ins of ours for three harmless things that real checkpoints hold: paths, numpy arrays and numpy numbers. A
stand-in keeps or drops its arguments and does nothing else; numpy and pathlib never see them.
"""

import argparse
import io
import pickletools
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import ForeignFileError, LimitError, MaskStoreError, MaskValueError, needing, one_line
from maskstore.files import check_claim, check_table, npz, open_regular
from maskstore.masks import bits

_SAFE_FROM = (2, 10)  # earlier weights_only readers could be made to run code (CVE-2025-32434, CVE-2026-24747)
_LEGACY_PICKLES = 5  # magic number, version, system, the tree, names of storages
_TENSOR_TYPE = re.compile(r"torch\.(\w+\.)?(\w*Tensor)")
_STORAGE_TYPE = re.compile(r"torch\.(\w+\.)?(\w*Storage)")  # files name these, and must not call them
_MOST_VALUES = 100_000
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How `torch.save` began a file before version 1.6: its magic number, pickled."""
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

    @property
    def shape(self) -> tuple[int, ...] | None:
        """What the state says of the shape."""
        match self.state:
            case (_, tuple(shape), *_) if all(type(n) is int for n in shape):
                return shape
        return None


def _scalar(*_: object) -> None:
    """Stands in for numpy numbers."""


def _stand_ins() -> list[Any]:
    known: list[Any] = [argparse.Namespace]
    for module in ("pathlib", "pathlib._local"):
        known += [(StoredPath, f"{module}.{name}") for name in ("PosixPath", "WindowsPath", "PurePosixPath")]
    for module in ("numpy._core.multiarray", "numpy.core.multiarray"):
        known += [(StoredArray, f"{module}._reconstruct"), (_scalar, f"{module}.scalar")]
    return [*known, (StoredArray, "numpy.ndarray"), (StoredDtype, "numpy.dtype")]


def load_torch(path: Path, limit: int | None = None) -> Any:
    """The content of a torch file, tensors on the CPU; ForeignFileError names what would have to be run to read it."""
    with needing("torch", path):
        import torch
    version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if version < _SAFE_FROM:
        raise ForeignFileError(
            f"{path}: expected torch 2.10 or newer, whose weights_only reader is safe, found {torch.__version__}"
        )
    _check_pickles(path, limit)
    try:
        with torch.serialization.safe_globals(_stand_ins()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters about a foreign file is raised
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types on damaged or hostile files
        raise ForeignFileError(f"{path}: {_reason(error)}") from None
    check_claim(str(path), _claimed(tree, path), path.stat().st_size, limit)
    return tree


def _check_pickles(path: Path, limit: int | None) -> None:
    """Refuse, before torch allocates anything, what would take memory that the file does not hold."""
    with open_regular(path) as file:
        if zipfile.is_zipfile(file):
            _check_zip(path, file, limit)
            return
        file.seek(0)
        for _ in range(_LEGACY_PICKLES):
            _check_pickle(path, file, limit)


def _check_zip(path: Path, file: BinaryIO, limit: int | None) -> None:
    with npz.opened_zip(path, file, limit, "a torch file") as archive:
        members = archive.infolist()
        size = path.stat().st_size
        if any(member.compress_type != zipfile.ZIP_STORED for member in members) or size < sum(
            member.file_size for member in members
        ):
            raise ForeignFileError(f"{path}: expected torch's own zip file, its members stored once and uncompressed, "
                                   "found another")  # fmt: skip
        for member in members:
            if member.filename == "data.pkl" or member.filename.endswith("/data.pkl"):
                check_table(str(path), member.file_size, limit)
                try:
                    content = archive.read(member)
                except Exception as error:  # damaged members fail in many ways
                    raise ForeignFileError(f"{path}: expected a torch file, found: {one_line(error)}") from None
                _check_pickle(path, io.BytesIO(content), limit)


def _check_pickle(path: Path, stream: BinaryIO, limit: int | None) -> None:
    """Read one pickle without running it: every step is known, its length is bounded, and it makes no raw memory."""
    start, called = stream.tell(), _Calls()
    try:
        for operation, argument, at in pickletools.genops(stream):
            check_table(str(path), (at or start) - start, limit)
            if name := called.after(operation, argument):
                raise ForeignFileError(f"{path}: expected tensors that hold their values, found {name}, "
                                       "which could take any amount of memory")  # fmt: skip
    except MaskStoreError:
        raise
    except (IndexError, KeyError):  # of what cannot be followed, nothing is run
        raise ForeignFileError(f"{path}: expected a torch file, found steps that take what is not there") from None
    except Exception:  # not a pickle that Python knows: torch says what is wrong with it
        return


class _Calls:
    """Which names a pickle calls: its stack and memo, with names alone in them."""

    def __init__(self) -> None:
        self._stack: list[object] = []
        self._memo: dict[object, object] = {}

    def after(self, operation: pickletools.OpcodeInfo, argument: object) -> str:
        """Take one step of the pickle. The name that it calls or loads, if that could make raw memory; else ""."""
        before = operation.stack_before
        made: list[object] = [None] * len(operation.stack_after)
        match operation.name:
            case "GLOBAL":
                name = str(argument).replace("__builtin__ ", "builtins ").replace(" ", ".", 1)
                if name == "builtins.bytearray" or _TENSOR_TYPE.fullmatch(name):
                    return name
                made = [name]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                made = [self._memo[argument]]
            case "REDUCE" | "NEWOBJ" if _STORAGE_TYPE.fullmatch(str(self._stack[-2])):
                return str(self._stack[-2])
            case "MARK":
                made = [pickletools.markobject]
        taken = len(before)
        if pickletools.markobject in before:
            while self._stack.pop() is not pickletools.markobject:
                pass
            taken = before.index(pickletools.markobject)
        del self._stack[len(self._stack) - taken :]
        self._stack.extend(made)
        return ""


def _claimed(tree: Any, path: Path) -> int:
    """Bytes of all tensors in a tree, those of one storage as often as they are named."""
    claimed, seen, waiting = 0, 0, [tree]
    while waiting:
        value = waiting.pop()
        if is_tensor(value):
            # a view may repeat what is stored: it is refused where it is used
            stored = value.untyped_storage().nbytes() if _has_storage(value) else 0
            claimed += min(value.numel() * value.element_size(), stored)
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        seen += 1
        if seen > _MOST_VALUES:
            raise LimitError(f"{path}: expected at most {_MOST_VALUES:,} values, found some named again and again")
    return claimed


def _has_storage(value: Any) -> bool:
    import torch

    return bool(value.layout is torch.strided and value.device.type == "cpu")


def _reason(error: Exception) -> str:
    text = one_line(error, 10_000)
    for pattern in (r"GLOBAL (\S+) (?:was not|whose module)", r"function (<.+?>)", r"but got (<class .+?>)"):
        named = re.search(pattern, text)
        if named:
            found = f"found {named[1]}, which only unpickling code could load (save the masks alone)"
            return f"expected tensors and plain containers, {found}"
    return f"expected a torch file, found: {text[:160]}"


def as_array(value: Any, what: str) -> NDArray[Any]:
    """A tensor or stored array as numpy array; ForeignFileError for other values and for tensors without their data."""
    if isinstance(value, StoredArray):
        return value.array(what)
    if not is_tensor(value):
        raise ForeignFileError(f"{what}: expected a tensor, found {type(value).__name__}")
    import torch

    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise ForeignFileError(f"{what}: expected a plain dense tensor, found {value.layout} on {value.device}")
    # a few stored bytes can be viewed as a tensor of any size: what is not in the file is not made up here
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ForeignFileError(f"{what}: expected {value.numel()} stored values, found a view that repeats fewer")
    if value.dtype.is_complex:
        raise ForeignFileError(f"{what}: expected bools or real numbers, found {value.dtype}")
    try:
        return bits.as_numpy(value, what)
    except MaskValueError:
        raise ForeignFileError(f"{what}: expected bools or real numbers, found {value.dtype}") from None


def is_tensor(value: Any) -> bool:
    """Whether it is a tensor of torch's own. Nobody can have one before torch was imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def gain_of(nonlinearity: Any, what: str) -> float:
    """The gain by which torch scales the weights before a nonlinearity; ForeignFileError for one unknown to it."""
    import torch

    try:
        return torch.nn.init.calculate_gain(nonlinearity)
    except ValueError:
        raise ForeignFileError(f"{what}: expected a nonlinearity known to torch, found {nonlinearity!r:.40}") from None
