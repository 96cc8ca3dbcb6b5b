"""Saved memories: one .npz file with a JSON header, written atomically, read without pickle.

The file is a zip of .npy arrays; `header` is a uint8 array of UTF-8 JSON: `format`, `version`, `kind` (the class),
`arrays` (name -> [dtype, shape]) and the kind's own fields. Members are stored, never compressed, and their sizes are
checked against the header before they are read, so that a small file cannot ask for much memory.
"""

import json
import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hopfield.errors import HopfieldError, MemoryFileError, MemoryWriteError
from maskstore.errors import MaskStoreError
from maskstore.files import replacing

FORMAT = "hopfield-memory"
VERSION = 1
_HEADER_LIMIT = 1 << 24  # bytes; names of the patterns are in it, about 16 bytes each
_NPY_PREAMBLE = 4096
_DTYPES = ("float32", "float64", "int8", "int32", "int64", "uint8", "uint64")

# What numpy, zipfile and json raise on damaged or hostile content. MemoryError is a claim of more elements than there
# is room for; RuntimeError an encrypted member, or JSON nested too deeply.
_DAMAGE = (
    *(OSError, EOFError, zipfile.BadZipFile, MemoryError, ArithmeticError, AttributeError),
    *(LookupError, RuntimeError, TypeError, ValueError),
)

T = TypeVar("T")
M = TypeVar("M")
_KINDS: dict[str, Any] = {}


def write(path: Path, kind: str, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a memory so that `path` holds either the old file or all of the new one; MemoryWriteError if it cannot."""
    described = {name: [array.dtype.name, list(array.shape)] for name, array in arrays.items()}
    text = json.dumps({"format": FORMAT, "version": VERSION, "kind": kind, "arrays": described, **header})
    head = np.frombuffer(text.encode(), dtype=np.uint8)
    if len(head) > _HEADER_LIMIT - _NPY_PREAMBLE:
        raise MemoryWriteError(f"{path}: expected a header of at most {_HEADER_LIMIT} bytes, found {len(head)}")
    try:
        with replacing(path, overwrite=True) as scratch, scratch.open("wb") as file:
            np.savez(file, allow_pickle=False, header=head, **arrays)
    except (MaskStoreError, OSError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        why = getattr(cause, "strerror", None) or cause
        raise MemoryWriteError(f"{path}: expected to write a memory there, found: {why}") from error


def read(path: Path, kind: str | None = None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a saved memory; MemoryFileError unless it is one, and of `kind` where that is given."""
    if not path.exists():
        raise MemoryFileError(f"{path}: expected a saved memory, found no file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise MemoryFileError(f"{path}: expected stored members, found compressed ones")
        sizes = {member.filename: member.file_size for member in members}
        if not 0 < sizes.get("header.npy", 0) <= _HEADER_LIMIT:
            raise MemoryFileError(f"{path}: expected a saved memory, found no header of its size")
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(file["header"].tobytes(), parse_constant=_refuse_constant)
            _check_header(path, header, kind, sizes)
            arrays = {name: file[name] for name in header["arrays"]}
    except HopfieldError:
        raise
    except _DAMAGE as error:
        raise MemoryFileError(f"{path}: expected a saved memory, found a damaged or foreign file ({error})") from error
    for name, (dtype, shape) in header["arrays"].items():
        array = arrays[name]
        if array.dtype.name != dtype or list(array.shape) != shape:
            raise MemoryFileError(
                f"{path}: array {name!r}: expected {dtype} {shape}, found {array.dtype} {array.shape}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise MemoryFileError(f"{path}: array {name!r}: expected finite values, found NaN or infinity")
    return header, arrays


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
    """A saved memory of whichever kind; MemoryFileError if the file is none."""
    header, arrays = read(Path(path))
    return checked(path, lambda: kind(header["kind"])._restore(header, arrays))


def checked(path: str | Path, rebuild: Callable[[], T]) -> T:
    """Run a rebuild, turning its complaints about wrong fields into a MemoryFileError that names the file."""
    try:
        return rebuild()
    except MemoryFileError as error:
        raise MemoryFileError(f"{path}: {error}") from error
    except _DAMAGE as error:
        raise MemoryFileError(f"{path}: expected the fields of a saved memory, found {error}") from error


def natural(header: dict[str, Any], name: str) -> int:
    """A whole number of at least zero from a header; MemoryFileError for anything else."""
    value = header[name]
    if type(value) is not int or value < 0:
        raise MemoryFileError(f"field {name!r}: expected a whole number of at least 0, found {value!r:.40}")
    return value


def _refuse_constant(text: str) -> None:
    raise MemoryFileError(f"header: expected finite numbers, found {text}")


def _check_header(path: Path, header: Any, kind: str | None, sizes: dict[str, int]) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise MemoryFileError(f"{path}: expected format {FORMAT!r}, found another")
    if header["version"] != VERSION:
        raise MemoryFileError(f"{path}: expected format version {VERSION}, found {header['version']!r:.40}")
    if kind is not None and header["kind"] != kind:
        raise MemoryFileError(f"{path}: expected a {kind}, found a {header['kind']!s:.60}")
    for name, (dtype, shape) in header["arrays"].items():
        if dtype not in _DTYPES:
            raise MemoryFileError(f"{path}: array {name!r}: expected a dtype of {_DTYPES}, found {dtype!r:.40}")
        size = sizes.get(f"{name}.npy")
        if size is None:
            raise MemoryFileError(f"{path}: expected an array {name!r:.60}, found none")
        if size > prod(shape) * np.dtype(dtype).itemsize + _NPY_PREAMBLE:
            raise MemoryFileError(f"{path}: array {name!r}: expected {dtype} {shape}, found more bytes")
