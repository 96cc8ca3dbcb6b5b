"""Safetensors files and folders, read without the package: a table of contents, then the tensors' bytes back to back.

A tensor is read only when it is used. One of a type that numpy lacks does not block the others. bfloat16 and float8
become float32, which holds each of their values.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import ForeignFileError, LimitError, MaskStoreError, one_line
from maskstore.files import (
    TABLE_BYTES,
    check_claim,
    check_table,
    check_wanted,
    distinct_names,
    open_regular,
    read_regular,
)

_DTYPES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4", "I32": "<i4",
    "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8", "BF16": "<u2", "F8_E5M2": "|u1", "F8_E4M3": "|u1",
}  # fmt: skip
INDEX_ENDING = ".index.json"


@dataclass(frozen=True)
class SafeTensor:
    """A tensor in a safetensors file, not read yet."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    def array(self, what: str) -> NDArray[Any]:
        """Its values; ForeignFileError for a type that numpy lacks, for other lengths, and for bools beside 0 and 1."""
        check_wanted()
        if self.dtype not in _DTYPES:
            raise ForeignFileError(f"{what}: expected bools or real numbers that numpy has, found {self.dtype:.20}")
        dtype = np.dtype(_DTYPES[self.dtype])
        if prod(self.shape) * dtype.itemsize != self.stop - self.start:
            raise ForeignFileError(f"{what}: expected the bytes of {self.dtype} of shape {self.shape!r:.80}, "
                                   f"found {self.stop - self.start} bytes")  # fmt: skip
        with open_regular(self.path) as file:
            file.seek(self.start)
            data = file.read(self.stop - self.start)
        if len(data) != self.stop - self.start:
            raise ForeignFileError(f"{what}: expected {self.stop - self.start} bytes, found {len(data)}")
        if self.dtype == "BOOL" and data and (most := np.frombuffer(data, dtype=np.uint8).max()) > 1:
            raise ForeignFileError(f"{what}: expected bools, found byte {most}")
        try:
            values = np.frombuffer(data, dtype=dtype).reshape(self.shape)
        except ValueError:  # more dimensions than numpy has
            raise ForeignFileError(f"{what}: expected a shape that arrays can have, found {self.shape!r:.80}") from None
        return _WIDENED[self.dtype](values) if self.dtype in _WIDENED else values


def _from_e4m3(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    exponent, fraction = (values >> 3 & 15).astype(np.float32), (values & 7).astype(np.float32) / 8
    size = np.where(exponent == 0, fraction * 2.0**-6, (1 + fraction) * 2.0 ** (exponent - 7))
    signed = np.where(values >> 7, -size, size)
    return np.where(values & 127 == 127, np.nan, signed).astype(np.float32)


_WIDENED: dict[str, Callable[[NDArray[Any]], NDArray[np.float32]]] = {
    "BF16": lambda values: (values.astype(np.uint32) << 16).view(np.float32),
    "F8_E5M2": lambda values: (values.astype(np.uint16) << 8).view(np.float16).astype(np.float32),
    "F8_E4M3": _from_e4m3,
}


def load_safetensors(path: Path, limit: int | None = None) -> tuple[dict[str, SafeTensor], dict[str, str]]:
    """The tensors of a file in the order in which they lie, and its metadata; ForeignFileError for another file."""
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        left = path.stat().st_size - 8 - size
        if left < 0:
            if size >> 32:  # bytes of a table, which nobody writes
                raise ForeignFileError(f"{path}: expected a safetensors file, found one of another kind")
            raise ForeignFileError(f"{path}: expected a safetensors table of {size} bytes, found a shorter file")
        check_table(str(path), size, limit)
        check_claim(str(path), left, left, limit)
        text = file.read(size)
    try:
        table = json.loads(text.decode(), object_pairs_hook=distinct_names)
        meta = table.pop("__metadata__", {})
        tensors = sorted(
            (_tensor(path, name, entry, 8 + size) for name, entry in table.items()),
            key=lambda item: (item[1].start, item[1].stop),
        )
        if not isinstance(meta, dict) or not all(isinstance(value, str) for value in meta.values()):
            raise ValueError("metadata that is not text")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ForeignFileError(f"{path}: expected a safetensors table of contents, found: {one_line(error)}") from None
    at = 8 + size
    for name, tensor in tensors:
        if tensor.start != at or tensor.stop < at:
            raise ForeignFileError(f"{path}: expected tensors back to back, found {name!r:.80} at {tensor.start}")
        at = tensor.stop
    if at != 8 + size + left:
        raise ForeignFileError(f"{path}: expected {at - 8 - size} bytes of tensors, found {left}")
    return dict(tensors), meta


def _tensor(path: Path, name: str, entry: Any, base: int) -> tuple[str, SafeTensor]:
    start, stop = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if set(entry) != {"dtype", "shape", "data_offsets"} or not isinstance(entry["dtype"], str):
        raise ValueError(f"another entry for {name!r:.60}")
    if any(type(n) is not int or n < 0 for n in (*shape, start, stop)):
        raise ValueError(f"sizes of {name!r:.60} that are not whole numbers")
    return name, SafeTensor(path, entry["dtype"], shape, base + start, base + stop)


def index_of(path: Path) -> Path | None:
    """The index of a checkpoint in several files: `path` itself, or the one index in a folder; None for other files."""
    if path.is_dir():
        found = sorted(path.glob(f"*{INDEX_ENDING}"))
        if len(found) != 1:
            raise ForeignFileError(f"{path}: expected a file of masks, or a folder with one {INDEX_ENDING}, found "
                                   f"a folder with {len(found)}")  # fmt: skip
        return found[0]
    return path if path.name.endswith(INDEX_ENDING) else None


def load_parts(index: Path, load: Callable[[Path], Any]) -> dict[str, Any]:
    """The tensors that an index names, each from the file beside it that `load` reads as a mapping.

    ForeignFileError if a tensor is not where the index says, and for names of files that lead out of the folder.
    """
    try:
        table = json.loads(
            read_regular(index, limit=TABLE_BYTES, what="an index").decode(), object_pairs_hook=distinct_names
        )
        places = table["weight_map"]
        if not places or not all(isinstance(part, str) for part in places.values()):
            raise ValueError("no map from tensors to files")
    except LimitError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, MaskStoreError) as error:
        raise ForeignFileError(f"{index}: expected an index with a weight_map, found: {one_line(error)}") from None
    loaded = {}
    for part in dict.fromkeys(places.values()):
        if part in ("", ".", "..") or "/" in part or "\\" in part or "\0" in part:
            raise ForeignFileError(f"{index}: expected names of files beside it, found {part!r:.80}")
        if not (index.parent / part).exists():
            raise ForeignFileError(f"{index}: expected the file {part!r:.80} beside it, found none")
        loaded[part] = load(index.parent / part)
    lost = next((name for name, part in places.items() if name not in loaded[part]), None)
    if lost is not None:
        raise ForeignFileError(f"{index}: expected {lost!r:.80} in {places[lost]}, found none there")
    unlisted = next((name for part, found in loaded.items() for name in found if places.get(name) != part), None)
    if unlisted is not None:
        raise ForeignFileError(
            f"{index}: expected every tensor in the index, found {unlisted!r:.80} in none of its lines"
        )
    return {name: loaded[part][name] for name, part in places.items()}
