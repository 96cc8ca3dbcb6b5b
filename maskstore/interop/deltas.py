"""A signed mask as changes of weights: a safetensors file of numbers, written layer by layer."""

import json
import os
from pathlib import Path

import numpy as np

from maskstore.bank import MaskSource
from maskstore.errors import ImportOptionError
from maskstore.files import check_known, replacing

_DTYPES = {"float32": ("F32", "<f4"), "float16": ("F16", "<f2")}


def write_deltas(
    source: MaskSource,
    name: str,
    path: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    overwrite: bool = False,
) -> None:
    """Write a signed mask to a safetensors file, whole or not at all: each layer's values times its scale.

    `read_masks(path, ReadOptions(ternarise="layer"))` brings back the mask, its signs and, in float32, its scales.

    Args:
        source: An open bank or shard.
        name: The task.
        path: The file. Its tensors have the names and shapes of the layers.
        dtype: "float32" or "float16". In float16 scales are rounded, and those beyond 65504 are infinite.
        overwrite: Replace a file that is there.

    Raises:
        TaskNotFoundError: There is no mask of that name, or it has no signs.
        ImportOptionError: There is no such dtype.
        BankExistsError: There is a file, and `overwrite` is not set.
        BankFullError: The disk is full.

    Examples:
        >>> import tempfile
        >>> from maskstore import MaskBank, SignedMask
        >>> from maskstore.interop import ReadOptions, read_masks, write_deltas
        >>> signed = SignedMask.from_dense({"fc1": [[0, 1, -1], [0, 0, 1]]}, scales={"fc1": 0.5})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", signed.spec) as bank:
        ...         bank.put_signed("task-0", signed)
        ...         write_deltas(bank, "task-0", f"{folder}/task-0.safetensors")
        ...     found = read_masks(f"{folder}/task-0.safetensors", ReadOptions(ternarise="layer"))
        >>> found.tasks[0].name, found.tasks[0].signed == signed
        ('task-0', True)
    """
    check_known("dtype", dtype, tuple(_DTYPES), ImportOptionError)
    code, layout = _DTYPES[dtype]
    signed, table, at = source.signed(name), {}, 0
    for layer in signed.spec:
        size = layer.size * np.dtype(layout).itemsize
        table[layer.name] = {"dtype": code, "shape": list(layer.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **table}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(Path(path), overwrite=overwrite) as scratch, scratch.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for layer in signed.spec:
            with np.errstate(over="ignore"):
                file.write(signed.delta(layer.name).astype(layout).data if layer.size else b"")
