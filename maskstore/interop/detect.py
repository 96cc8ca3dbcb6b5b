"""`read_masks`: any foreign file of masks. The container is told by content, the layout by what is in it."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskstore.errors import BankNotFoundError, ForeignFileError, ImportOptionError, SpecError
from maskstore.files import first_bytes, named_os_errors, npz
from maskstore.interop import exchange
from maskstore.interop.model import Arrays, ForeignMasks, ReadOptions
from maskstore.interop.readers import named_arrays, supsup, torch_files
from maskstore.interop.shards import MAGIC

_START = 512


def read_masks(path: str | os.PathLike[str], options: ReadOptions | None = None) -> ForeignMasks:
    """All masks of a file that another program wrote, packed.

    The kind of file is told by its content: torch, .npz, .npy or safetensors. Torch files are read under
    `weights_only`; nothing in a file is ever run.

    Args:
        path: The file.
        options: What the file itself does not say, such as the shapes of packed layers.

    Returns:
        The masks by task, their spec, and what the file says about them. `store` puts them into a bank.

    Raises:
        ForeignFileError: The file holds no masks in a known layout; the message says what was found.
        ImportOptionError: An option is missing, or contradicts the file.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore.interop import ReadOptions, read_masks
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/pruned.npz", fc1=np.eye(4, dtype=bool), fc2=np.ones((2, 4), dtype=bool))
        ...     found = read_masks(f"{folder}/pruned.npz", ReadOptions(name="task-0"))
        >>> found.layout, [(task.name, task.mask.ones) for task in found.tasks]
        ('arrays', [('task-0', 12)])
    """
    options, path = options or ReadOptions(), Path(path)
    with named_os_errors(path):
        container = container_of(path)
        try:
            return _READERS[container](path, options)
        except SpecError as error:  # names or shapes that no bank takes
            raise ForeignFileError(f"{path}: {error}") from None


def container_of(path: Path) -> str:
    """The kind of file: torch, npz, npy or safetensors; ForeignFileError for others."""
    if not path.exists():
        raise BankNotFoundError(f"{path}: expected a file of masks, found none")
    if not path.is_file():
        raise ForeignFileError(f"{path}: expected a file of masks, found a folder or device")
    start = first_bytes(path, _START)
    if start.startswith((b"SQLite format 3\0", MAGIC)):
        raise ForeignFileError(f"{path}: expected a foreign file, found a bank or shard (`merge` takes those)")
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    # before pickles: the length of a safetensors header may begin like one
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8:
        return "safetensors"
    if len(start) > 1 and start[0] == 0x80 and 2 <= start[1] <= 5:  # torch's form before version 1.6
        return "torch"
    raise ForeignFileError(
        f"{path}: expected a torch, .npz, .npy or safetensors file, found another kind ({path.stat().st_size} bytes)"
    )


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # damaged directories fail in many ways
        raise ForeignFileError(f"{path}: expected a zip file of arrays, found: {str(error)[:160]}") from None
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return "torch"
    return "npz"


def _read_torch(path: Path, options: ReadOptions) -> ForeignMasks:
    tree = torch_files.load_torch(path)
    if options.layout == "supsup" or (options.layout == "auto" and supsup.has_scores(tree)):
        return supsup.read_supsup(tree, path, options)
    nested = tree.get("dataset2masks", tree) if isinstance(tree, Mapping) else None
    if isinstance(nested, Mapping) and (
        options.layout == "piggyback" or (options.layout == "auto" and _is_nested(nested))
    ):
        return named_arrays.read_piggyback(_nested_arrays(nested, path), path, options)
    state = torch_files.state_of(tree, path)
    arrays = {
        name: torch_files.as_array(value, f"{path}, {name!r:.80}")
        for name, value in state.items()
        if torch_files.is_array(value)
    }
    return _read_named(arrays, path, options)


def _is_nested(tree: Mapping[Any, Any]) -> bool:
    return bool(tree) and all(
        isinstance(layers, Mapping) and layers and all(torch_files.is_array(value) for value in layers.values())
        for layers in tree.values()
    )


def _nested_arrays(tree: Mapping[Any, Any], path: Path) -> dict[str, dict[str, Any]]:
    by_task: dict[str, dict[str, Any]] = {}
    for task, layers in tree.items():
        if not isinstance(task, str) or not isinstance(layers, Mapping):
            raise ForeignFileError(f"{path}: expected masks by data set and layer, found {type(layers).__name__}")
        by_task[task] = {
            str(name): torch_files.as_array(value, f"{path}, task {task!r:.80}, layer {name!r:.80}")
            for name, value in layers.items()
        }
    return by_task


def _read_npz(path: Path, options: ReadOptions) -> ForeignMasks:
    arrays = npz.read_npz(path)
    if options.layout == "maskstore" or (options.layout == "auto" and exchange.HEADER in arrays):
        return exchange.from_arrays(arrays, exchange.header_of(arrays, path), path, options)
    return _read_named(arrays, path, options)


def _read_npy(path: Path, options: ReadOptions) -> ForeignMasks:
    if options.layout not in ("auto", "tall-masks"):
        raise ImportOptionError(f"{path}: expected layout tall-masks for an .npy file, found {options.layout}")
    return named_arrays.read_vectors(named_arrays.rows_of(npz.read_npy_file(path), path), path, options)


def _read_safetensors(path: Path, options: ReadOptions) -> ForeignMasks:
    arrays, header = exchange.load_safetensors(path)
    if options.layout == "maskstore" or (options.layout == "auto" and header is not None):
        return exchange.from_arrays(arrays, header, path, options)
    return _read_named(arrays, path, options)


def _read_named(arrays: Arrays, path: Path, options: ReadOptions) -> ForeignMasks:
    if not arrays:
        raise ForeignFileError(f"{path}: expected named arrays, found none")
    layout = options.layout
    if layout == "auto":
        vectors = named_arrays.is_vectors(arrays, options)
        layout = "prune" if named_arrays.is_pruned(arrays) else "tall-masks" if vectors else "arrays"
    if layout not in _NAMED_READERS:
        raise ForeignFileError(f"{path}: expected a file of format {layout}, found one that cannot hold it")
    return _NAMED_READERS[layout](arrays, path, options)


_NAMED_READERS = {
    "prune": named_arrays.read_pruned,
    "tall-masks": named_arrays.read_vectors,
    "arrays": named_arrays.read_arrays,
}
_READERS = {"torch": _read_torch, "npz": _read_npz, "npy": _read_npy, "safetensors": _read_safetensors}
