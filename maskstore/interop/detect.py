"""`read_masks`: any foreign file of masks. The container is told by content, the layout by what is in it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from maskstore.errors import (
    ArgumentTypeError,
    BankNotFoundError,
    ForeignFileError,
    ImportOptionError,
    IrregularFileError,
    SpecError,
)
from maskstore.files import named_os_errors, npz, open_regular, path_of
from maskstore.interop import exchange
from maskstore.interop.model import Arrays, ForeignMasks, ReadOptions
from maskstore.interop.readers import (
    as_array,
    hidden_networks,
    index_of,
    is_array,
    load_parts,
    load_safetensors,
    named_arrays,
    nested,
    packed_rows,
    state_of,
    states_of,
    supsup,
    torch_files,
)
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
    path = path_of(path)
    if not isinstance(options := options or ReadOptions(), ReadOptions):
        raise ArgumentTypeError(f"options: expected ReadOptions(...), found {type(options).__name__}")
    with named_os_errors(path):
        try:
            masks = _read(path, options)
        except SpecError as error:  # names or shapes that no bank takes
            raise ForeignFileError(f"{path}: {error}") from None
    if options.density is not None and options.ternarise is None and masks.layout != "hidden-networks":
        raise ImportOptionError(f"{path}: expected scores of hidden-networks for `density`, or `ternarise` beside it, "
                                f"found masks of layout {masks.layout}, which keep what they keep")  # fmt: skip
    return masks


def _read(path: Path, options: ReadOptions) -> ForeignMasks:
    if (index := index_of(path)) is not None:
        return _read_tree(load_parts(index, lambda part: _load_part(part, options)), index, options)
    container = container_of(path, options)
    if container == "npy":
        return _read_npy(path, options)
    if container == "torch":
        return _read_tree(torch_files.load_torch(path, options.limit), path, options)
    if container == "npz":
        arrays = npz.read_npz(path, limit=options.limit)
        if exchange.HEADER in arrays:
            return _read_exported(arrays, exchange.header_of(arrays, path), path, options)
        return _read_tree(arrays, path, options)
    tensors, meta = load_safetensors(path, options.limit)
    if exchange.HEADER in meta:
        arrays = {name: as_array(value, f"{path}, {name!r:.80}") for name, value in tensors.items()}
        return _read_exported(arrays, exchange.parsed(meta[exchange.HEADER], path), path, options)
    return _read_tree(tensors, path, options)


def _load_part(path: Path, options: ReadOptions) -> Mapping[str, Any]:
    container = container_of(path, options)
    if container == "safetensors":
        return load_safetensors(path, options.limit)[0]
    if container == "torch":
        return state_of(torch_files.load_torch(path, options.limit), path)
    raise ForeignFileError(f"{path}: expected a safetensors or torch file beside the index, found {container}")


def container_of(path: Path, options: ReadOptions) -> str:
    """The kind of file: torch, npz, npy or safetensors; ForeignFileError for others."""
    if not path.exists():
        raise BankNotFoundError(f"{path}: expected a file of masks, found none")
    try:
        with open_regular(path, what="a file of masks") as file:
            start, size = file.read(_START), path.stat().st_size
            if start.startswith(b"PK\x03\x04"):
                return _kind_of_zip(path, file, options)
    except IrregularFileError as error:
        hint = " (`merge` takes those)" if path.is_file() else ""
        raise ForeignFileError(f"{error}{hint}") from None
    if start.startswith(MAGIC):
        raise ForeignFileError(f"{path}: expected a foreign file, found a shard (`merge` takes those)")
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    # before pickles: the length of a safetensors header may begin like one
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return "safetensors"
    if start.startswith(torch_files.LEGACY_START):
        return "torch"
    if len(start) > 1 and start[0] == 0x80 and 2 <= start[1] <= 5:
        raise ForeignFileError(f"{path}: expected a torch, .npz, .npy or safetensors file, found a plain pickle, "
                               "which only running its code could read (save the masks with numpy.savez)")  # fmt: skip
    raise ForeignFileError(
        f"{path}: expected a torch, .npz, .npy or safetensors file, found another kind ({size} bytes)"
    )


def _kind_of_zip(path: Path, file: BinaryIO, options: ReadOptions) -> str:
    with npz.opened_zip(path, file, options.limit, "a zip file of arrays") as archive:
        names = archive.namelist()
    return "torch" if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names) else "npz"


def _read_exported(arrays: Arrays, header: Any, path: Path, options: ReadOptions) -> ForeignMasks:
    if options.ternarise is not None:
        raise ImportOptionError(f"{path}: expected changes of weights for `ternarise`, found an exported bank of masks "
                                "(leave `ternarise` out)")  # fmt: skip
    if options.layout not in ("auto", "maskstore"):
        return _read_tree(arrays, path, options)
    return exchange.from_arrays(arrays, header, path, options)


def _read_npy(path: Path, options: ReadOptions) -> ForeignMasks:
    """Vectors of whole tasks, which need shapes; or, of bools in two or more dimensions, one layer."""
    if options.layout not in ("auto", "tall-masks", "arrays"):
        raise ImportOptionError(f"{path}: expected layout tall-masks for an .npy file, or arrays for one layer, "
                                f"found {options.layout}")  # fmt: skip
    array = npz.read_npy_file(path, limit=options.limit)
    if options.ternarise is not None:
        return named_arrays.read_deltas({path.stem: array}, path, options)
    layers = options.shapes or {}
    one_layer = array.ndim > 2 or (array.ndim == 2 and not layers and (array.dtype == np.bool_ or options.nonzero))
    one_layer |= len(layers) == 1 and array.shape[:1] > (1,) and array.shape in map(tuple, layers.values())
    if options.layout == "arrays" or (options.layout == "auto" and one_layer):
        layer = next(iter(layers)) if len(layers) == 1 else path.stem
        return named_arrays.read_arrays("arrays", {layer: array}, path, options)
    if array.dtype == np.bool_ and not layers and options.layout == "auto":
        raise ImportOptionError(f"{path}: expected bools of two or more dimensions, found shape {array.shape} "
                                "(`shapes` cuts it into layers, `layout=\"arrays\"` takes it as one)")  # fmt: skip
    return named_arrays.read_vectors(named_arrays.rows_of(array, path), path, options)


def _read_tree(tree: Any, path: Path, options: ReadOptions) -> ForeignMasks:
    """A tree of arrays in the layout that was asked for, or in the only one for which something in it speaks."""
    layout = options.layout if options.ternarise is None else "arrays"
    if layout == "auto":
        found = _readings(tree, path, options)
        if len(found) > 1:
            seen = " and ".join(f"{name} ({why})" for name, why in found.items())
            choice = " or ".join(f'`layout="{name}"`' for name in found)
            raise ImportOptionError(f"{path}: expected signs of one layout, found those of {seen} ({choice} decides)")
        layout = next(iter(found), "arrays")
    if layout == "maskstore":
        raise ForeignFileError(f"{path}: expected the header of an exported bank, found none")
    if layout in _TREE_READERS:
        return _TREE_READERS[layout](tree, path, options)
    state = state_of(tree, path) if options.separator is None else _bare_state(tree, path)
    arrays = {name: value for name, value in state.items() if is_array(value)}
    if not arrays:
        raise ForeignFileError(f"{path}: expected named arrays, found none")
    if options.ternarise is not None:
        return named_arrays.read_deltas(arrays, path, options)
    if layout == "arrays":
        return named_arrays.read_arrays("arrays", arrays, path, options)
    return _STATE_READERS[layout](arrays, path, options)


def _readings(tree: Any, path: Path, options: ReadOptions) -> dict[str, str]:
    """The layouts for which something in a tree speaks, and what; nothing speaks for plain arrays."""
    found = nested.readings_of(tree)
    keys = states_of(tree)
    if isinstance(tree, Mapping) and len(keys) == len(tree) == 1:
        found = {}  # a state dict that was saved under its customary key, with nothing beside it
    if not keys and (found or nested.is_nested(tree)):
        return found or _refuse_nested(tree, path)
    if isinstance(tree, Mapping) and len(keys) == 1 and len(tree) > 1 and nested.is_nested(tree):
        found["arrays"] = f"a state dict under {keys[0]!r}"
    state = state_of(tree, path)
    signs = {
        "supsup": supsup.has_scores(state),
        "hidden-networks": hidden_networks.has_one_score(state),
        "prune": named_arrays.is_pruned(state),
        "compressed-tensors": packed_rows.has_bitmasks(state),
    }
    return {**found, **{layout: sign for layout, sign in signs.items() if sign}} or _vectors(state, options)


def _vectors(state: Mapping[str, Any], options: ReadOptions) -> dict[str, str]:
    sign = named_arrays.is_vectors({name: value for name, value in state.items() if is_array(value)}, options)
    return {"tall-masks": sign} if sign else {}


def _refuse_nested(tree: Any, path: Path) -> dict[str, str]:
    raise ForeignFileError(f"{path}: expected tasks of the same layers, or modules of parameters, found a dict of "
                           f"dicts of others (first {next(iter(tree))!r:.40})")  # fmt: skip


def _bare_state(tree: Any, path: Path) -> Mapping[str, Any]:
    """A state dict under the names as they are: what looks like a wrapper's prefix may be the name of a task."""
    keys = states_of(tree)
    state = tree[keys[0]] if len(keys) == 1 else tree
    state_of(state, path)
    return dict(state)


_TREE_READERS = {
    "supsup": supsup.read_supsup,
    "piggyback": nested.read_piggyback,
    "packnet": nested.read_packnet,
    "wsn": nested.read_wsn,
    "nni": nested.read_nni,
}
_STATE_READERS = {
    "prune": named_arrays.read_pruned,
    "tall-masks": named_arrays.read_vectors,
    "hidden-networks": hidden_networks.read_hidden,
    "compressed-tensors": packed_rows.read_bitmasks,
}
