"""compressed-tensors' bitmasks: each weight as its values that are not zero, and a bit for each place, packed by rows.

A weight NAME is stored as `NAME.shape`, `NAME.bitmask` (uint8, `(rows, ceil(columns / 8))`, least significant bit
first), `NAME.compressed` and, in its `sparse-bitmask` format, `NAME.row_offsets`.
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from maskstore.errors import ForeignFileError
from maskstore.interop.model import ForeignMasks, ReadOptions
from maskstore.interop.readers.leaves import as_array
from maskstore.interop.readers.named_arrays import read_arrays

_MASK, _SHAPE = ".bitmask", ".shape"


def has_bitmasks(state: Mapping[str, Any]) -> str:
    """What speaks for the layout: the first bitmask that has its shape beside it; "" if nothing does."""
    return next((name for name in state if _name(name) and f"{_name(name)}{_SHAPE}" in state), "")


def read_bitmasks(state: Mapping[str, Any], path: Path, options: ReadOptions) -> ForeignMasks:
    """One task, of whose layers each is a bitmask; the values and all other tensors are left out."""
    names = {_name(name): value for name, value in state.items() if _name(name)}
    if not names:
        raise ForeignFileError(f"{path}: expected tensors named *{_MASK}, found none among {len(state)}")
    arrays = {}
    for name, value in options.chosen(names, str(path)).items():
        what = f"{path}, {name}{_MASK}"
        if f"{name}{_SHAPE}" not in state:
            raise ForeignFileError(f"{what}: expected {name}{_SHAPE} beside it, found none")
        packed, stored = as_array(value, what), as_array(state[f"{name}{_SHAPE}"], f"{path}, {name}{_SHAPE}")
        if stored.dtype.kind not in "iu" or not stored.size or stored.min() < 0:
            raise ForeignFileError(f"{what}: expected a shape of whole numbers, found {stored.dtype} others")
        shape = tuple(int(n) for n in stored.reshape(-1))
        rows, columns = prod(shape[:-1]), shape[-1]
        width = (columns + 7) // 8
        if packed.dtype != np.uint8 or packed.size != rows * width or packed.shape[-1:] != (width,):
            raise ForeignFileError(f"{what}: expected {rows} rows of {width} packed bytes for shape {shape}, "
                                   f"found {packed.dtype} of shape {packed.shape}")  # fmt: skip
        bits = np.unpackbits(packed.reshape(rows, width), axis=1, bitorder="little")
        if bits[:, columns:].any():
            raise ForeignFileError(f"{what}: expected zero padding after column {columns}, found set bits")
        arrays[name] = bits[:, :columns].reshape(shape).view(np.bool_)
    return read_arrays("compressed-tensors", arrays, path, options, chosen=True)


def _name(key: str) -> str:
    return key.removesuffix(_MASK) if key.endswith(_MASK) else ""
