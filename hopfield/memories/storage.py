"""Saved memories: one .npz file with a JSON header, written atomically, read without pickle.

The file is a zip of .npy arrays; `header` is a uint8 array of UTF-8 JSON: `format`, `version`, `kind` (the class),
`arrays` (name -> [dtype, shape]) and the kind's own fields. Members are stored, never compressed, so that a small file
cannot ask for much memory.
"""

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hopfield.errors import HopfieldError, MemoryFileError, MemoryWriteError
from maskstore.errors import MaskStoreError, one_line
from maskstore.files import path_of, read_npz, replacing

FORMAT = "hopfield-memory"
VERSION = 1
_HEADER_LIMIT = 1 << 24  # bytes; names of the patterns are in it, about 16 bytes each
_DTYPES = ("float32", "float64", "int8", "int32", "int64", "uint8", "uint64")

# What damaged or hostile content raises in numpy, json and the memories. MemoryError is a claim of more elements than
# there is room for; RuntimeError is JSON nested too deeply.
_DAMAGE = (
    *(MaskStoreError, OSError, MemoryError, ArithmeticError, AttributeError),
    *(LookupError, RuntimeError, TypeError, ValueError),
)

M = TypeVar("M")
_KINDS: dict[str, Any] = {}


def write(target: str | Path, kind: str, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a memory; `target` then holds the old file or all of the new one. MemoryWriteError if it cannot."""
    try:
        path = path_of(target)
    except MaskStoreError as error:
        raise MemoryWriteError(str(error)) from None
    described = {name: [array.dtype.name, list(array.shape)] for name, array in arrays.items()}
    text = json.dumps({"format": FORMAT, "version": VERSION, "kind": kind, "arrays": described, **header})
    head = np.frombuffer(text.encode(), dtype=np.uint8)
    if len(head) > _HEADER_LIMIT:
        raise MemoryWriteError(f"{path}: expected a header of at most {_HEADER_LIMIT} bytes, found {len(head)}")
    try:
        with replacing(path, overwrite=True) as scratch, scratch.open("wb") as file:
            np.savez(file, allow_pickle=False, header=head, **arrays)
    except (MaskStoreError, OSError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        why = getattr(cause, "strerror", None) or cause
        raise MemoryWriteError(f"{path}: expected to write a memory there, found: {why}") from error


def register(cls: type[M]) -> type[M]:
    """Class decorator: make a kind of memory known to `kind`, under its class name."""
    _KINDS[cls.__name__] = cls
    return cls


def kind(name: str) -> Any:
    """The class of a kind of memory; MemoryFileError for an unknown one."""
    if name not in _KINDS:
        raise MemoryFileError(f"kind of memory: expected one of {', '.join(_KINDS)}, found {name!r:.60}")
    return _KINDS[name]


def load_memory(path: str | Path) -> Any:
    """Read a saved memory of any kind, onto the CPU.

    Args:
        path: A file that `Memory.save` wrote.

    Returns:
        A memory of the class that was saved.

    Raises:
        MemoryFileError: The file is no saved memory, or is damaged.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from hopfield import HopfieldNetwork, load_memory
        >>> network = HopfieldNetwork(4)
        >>> network.store(torch.tensor([True, True, False, True]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     network.save(Path(folder, "memory.npz"))
        ...     again = load_memory(Path(folder, "memory.npz"))
        >>> again.recall(torch.tensor([1.0, 1.0, 1.0, 1.0]))
        tensor([ 1.,  1., -1.,  1.])
    """
    try:
        path = path_of(path)
    except MaskStoreError as error:
        raise MemoryFileError(str(error)) from None
    if not path.exists():
        raise MemoryFileError(f"{path}: expected a saved memory, found no file")
    try:
        arrays = read_npz(path, compressed=False)
        header = json.loads(arrays["header"][:_HEADER_LIMIT].tobytes(), parse_constant=_refuse_constant)
        _check_header(header, arrays)
        return kind(header["kind"])._restore(header, {name: arrays[name] for name in header["arrays"]})
    except MemoryFileError as error:
        raise MemoryFileError(f"{path}: {error}") from error
    except _DAMAGE as error:
        why = f" ({one_line(error)})" if isinstance(error, (MaskStoreError, HopfieldError, KeyError)) else ""
        raise MemoryFileError(
            f"{path}: expected the fields of a saved memory, found a damaged or foreign file{why}"
        ) from error


def natural(header: dict[str, Any], name: str) -> int:
    """A whole number from 0 to 2**63 - 1 from a header; MemoryFileError for anything else."""
    value = header[name]
    if type(value) is not int or not 0 <= value < 1 << 63:  # `len` takes no more
        expected = "expected a whole number of at least 0 and below 2**63"
        raise MemoryFileError(f"field {name!r}: {expected}, found {value!r:.40}")
    return value


def _refuse_constant(text: str) -> None:
    raise MemoryFileError(f"header: expected finite numbers, found {text}")


def _check_header(header: Any, arrays: dict[str, np.ndarray]) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise MemoryFileError(f"expected format {FORMAT!r}, found another")
    if header["version"] != VERSION:
        raise MemoryFileError(f"expected format version {VERSION}, found {header['version']!r:.40}")
    for name, (dtype, shape) in header["arrays"].items():
        if dtype not in _DTYPES:
            raise MemoryFileError(f"array {name!r}: expected a dtype of {_DTYPES}, found {dtype!r:.40}")
        if name not in arrays:
            raise MemoryFileError(f"expected an array {name!r:.60}, found none")
        array = arrays[name]
        if array.dtype.name != dtype or list(array.shape) != shape:
            raise MemoryFileError(f"array {name!r}: expected {dtype} {shape}, found {array.dtype} {array.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise MemoryFileError(f"array {name!r}: expected finite values, found NaN or infinity")
