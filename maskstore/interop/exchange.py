"""Banks as safetensors or `.npz`: one packed array a layer, a row a task, and a JSON header that brings back the rest.

`docs/interop.md`, "The exchange layout", is normative. `masks/LAYER` is uint8 of shape `(tasks, ceil(size / 8))`, least
significant bit first; `extras/ROW/NAME` are the tasks' extra arrays.
"""

import errno
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from maskstore import errors
from maskstore.bank import MaskSource, check_source, decode_extras, decode_layers, in_blocks, info_of
from maskstore.codecs import codec_from_config
from maskstore.errors import ForeignFileError, LimitError, MaskStoreError
from maskstore.files import npz, parse_json, path_of, replacing
from maskstore.interop.model import Arrays, ForeignMasks, ForeignTask, ReadOptions
from maskstore.masks import Mask, MaskSpec, bits
from maskstore.priors import prior_from_config

HEADER = "maskstore"
_LAYOUT_VERSION = 1
T = TypeVar("T")


def write_safetensors(source: MaskSource, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write all masks of a bank or shard to a safetensors file, whole or not at all. `read_masks` brings back the same.

    Args:
        source: An open bank or shard.
        path: The file.
        overwrite: Replace a file that is there.

    Raises:
        BankExistsError: There is a file, and `overwrite` is not set.
        BankFullError: The disk is full.
        MissingPackageError: safetensors is not installed.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec
        >>> from maskstore.interop import read_masks, write_safetensors
        >>> masks = {"fc1": np.arange(800).reshape(20, 40) % 10 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec.of(masks)) as bank:
        ...         bank.put("task-0", masks)
        ...         write_safetensors(bank, f"{folder}/tasks.safetensors")
        ...     [task.name for task in read_masks(f"{folder}/tasks.safetensors").tasks]
        ['task-0']
    """
    path = path_of(path)
    with errors.needing("safetensors", path):
        from safetensors import SafetensorError
        from safetensors.numpy import save_file
    arrays, header = to_arrays(source)
    with replacing(path, overwrite=overwrite) as scratch:
        try:
            save_file(arrays, str(scratch), metadata={HEADER: header})
        except SafetensorError as error:  # it has the system's errors in its text alone
            raise _unwritten(path, str(error)) from None


def _unwritten(path: Path, text: str) -> MaskStoreError:
    if any(f"os error {code})" in text for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)):
        return errors.BankFullError(f"{path}: expected room to write, found: {text[:160]}")
    return errors.BankIOError(f"{path}: expected to write there, found: {text[:160]}")


def write_npz(source: MaskSource, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write all masks of a bank or shard to a compressed .npz file, whole or not at all. `read_masks` brings them back.

    `masks/LAYER` is uint8 of shape `(tasks, ceil(size / 8))`, least significant bit first. The array `maskstore` holds
    the UTF-8 bytes of a JSON header.

    Args:
        source: An open bank or shard.
        path: The file.
        overwrite: Replace a file that is there.

    Raises:
        BankExistsError: There is a file, and `overwrite` is not set.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec
        >>> from maskstore.interop import write_npz
        >>> masks = {"fc1": np.arange(800).reshape(20, 40) % 10 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec.of(masks)) as bank:
        ...         bank.put("task-0", masks)
        ...         write_npz(bank, f"{folder}/tasks.npz")
        ...     with np.load(f"{folder}/tasks.npz") as arrays:
        ...         packed = arrays["masks/fc1"]
        >>> packed.shape, np.unpackbits(packed[0], bitorder="little").sum()
        ((1, 100), np.uint64(80))
    """
    path = path_of(path)
    arrays, header = to_arrays(source)
    arrays[HEADER] = np.frombuffer(header.encode(), dtype=np.uint8)
    npz.write_npz(path, arrays, overwrite=overwrite)


def to_arrays(source: MaskSource) -> tuple[dict[str, NDArray[Any]], str]:
    """The arrays of all masks and the JSON header."""
    check_source(source)
    spec, count = source.spec, len(source)
    try:
        rows = {layer.name: np.empty((count, layer.bytes), dtype=np.uint8) for layer in spec}
    except MemoryError:
        packed = sum(layer.bytes for layer in spec)
        raise LimitError(f"export: expected memory for {count} masks of {packed} bytes, found too little") from None
    arrays: dict[str, NDArray[Any]] = {}
    tasks: list[dict[str, Any]] = []
    # large masks layer by layer, each on all cores; of small ones, many at a time
    decoded = source.map_records(lambda row: None if in_blocks(row.codec) else list(decode_layers(row, spec)))
    for i, (row, layers) in enumerate(decoded):
        if i == count:  # another program has put more meanwhile
            break
        for layer, words in zip(spec, decode_layers(row, spec) if layers is None else layers, strict=True):
            rows[layer.name][i] = bits.as_bytes(words)[: layer.bytes]
        info, extras = info_of(row), decode_extras(row.extras, row.name)
        arrays.update({f"extras/{i}/{key}": value for key, value in extras.items()})
        prior = info.prior.get("given", info.prior)  # rows that the prior refers to stay behind
        tasks.append({"name": row.name, "meta": info.meta, "codec": info.codec, "prior": prior, "extras": list(extras)})
    arrays |= {f"masks/{name}": row[: len(tasks)] for name, row in rows.items()}  # fewer if some were removed meanwhile
    header = {
        "layout": _LAYOUT_VERSION,
        "bit_order": "little",
        "spec": [[layer.name, list(layer.shape)] for layer in spec],
        "meta": source.meta,
        "tasks": tasks,
    }
    return arrays, json.dumps(header, separators=(",", ":"), ensure_ascii=False)


def header_of(arrays: Arrays, path: Path) -> Any:
    """The JSON header among the arrays of an .npz; None if there is none."""
    array = arrays.get(HEADER)
    if array is None:
        return None
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ForeignFileError(f"{path}: expected a header of bytes, found {array.dtype} of shape {array.shape}")
    return parsed(array.tobytes().decode(errors="replace"), path)


def from_arrays(arrays: Arrays, header: Any, path: Path, options: ReadOptions) -> ForeignMasks:
    """The masks that `to_arrays` was given, each with the codec and prior it was stored under."""
    match header:
        case {"layout": int(version)} if version != _LAYOUT_VERSION:
            raise ForeignFileError(f"{path}: expected exchange layout 1 to {_LAYOUT_VERSION}, found {version}")
        case {"layout": 1, "bit_order": "little", "spec": list(pairs), "meta": dict(meta), "tasks": list(tasks)}:
            spec = MaskSpec.from_json(json.dumps(pairs))
        case _:
            raise ForeignFileError(f"{path}: expected the header of an exported bank, found none or another")
    _check_rows(arrays, spec, len(tasks), path)
    expected = {f"masks/{layer.name}" for layer in spec}
    read = []
    for i, task in enumerate(tasks):
        match task:
            case {
                "name": str(name),
                "meta": dict(own),
                "codec": dict(codec),
                "prior": dict(prior),
                "extras": list(keys),
            }:
                extras = _extras(arrays, i, keys, path)
                expected |= {f"extras/{i}/{key}" for key in extras}
                mask = _row(arrays, spec, i, path)
                read.append(
                    ForeignTask(
                        name, mask, own, extras, _known(codec_from_config, codec), _known(prior_from_config, prior)
                    )
                )
            case _:
                raise ForeignFileError(f"{path}: expected name, meta, codec, prior and extras of row {i}, found others")
    unknown = set(arrays) - expected - {HEADER}
    if unknown:
        raise ForeignFileError(f"{path}: expected only the header's arrays, found {sorted(unknown)[:4]}")
    names = options.task_names([task.name for task in read], path.stem)
    named = (replace(task, name=name) for task, name in zip(read, names, strict=True))
    return ForeignMasks("maskstore", spec, tuple(named), meta)


def _check_rows(arrays: Arrays, spec: MaskSpec, count: int, path: Path) -> None:
    """Every layer's rows are there: after this a mask is no larger than what the file holds."""
    for layer in spec:
        packed = arrays.get(f"masks/{layer.name}")
        found = "none" if packed is None else f"{packed.dtype} of shape {packed.shape}"
        if packed is None or packed.dtype != np.uint8 or packed.shape != (count, layer.bytes):
            raise ForeignFileError(
                f"{path}, masks/{layer.name}: expected uint8 of shape {(count, layer.bytes)}, found {found}"
            )


def _row(arrays: Arrays, spec: MaskSpec, row: int, path: Path) -> Mask:
    words = np.empty(spec.words, dtype=np.uint64)
    for layer in spec:
        try:
            words[layer.packed] = bits.from_bytes(arrays[f"masks/{layer.name}"][row].tobytes(), layer.size)
        except errors.MaskValueError as error:
            raise ForeignFileError(f"{path}, masks/{layer.name}, row {row}: {error}") from None
    words.flags.writeable = False
    return Mask(spec, words)


def _extras(arrays: Arrays, row: int, keys: list[Any], path: Path) -> dict[str, NDArray[Any]]:
    missing = [key for key in keys if f"extras/{row}/{key}" not in arrays]
    if missing or not all(isinstance(key, str) for key in keys):
        raise ForeignFileError(f"{path}: expected the extra arrays of row {row}, found none named {missing[:4]}")
    return {key: arrays[f"extras/{row}/{key}"] for key in keys}


def _known(read: Callable[[object], T], config: Mapping[str, Any]) -> T | None:
    """The codec or prior of a description; None for one that this version does not know: bits do not depend on it."""
    try:
        return read(config)
    except (errors.CodecError, errors.UnknownCodecError, errors.UnknownPriorError):
        return None


def parsed(text: str, path: Path) -> Any:
    """The JSON header of an export; ForeignFileError for other text."""
    try:
        return parse_json(text)
    except errors.CorruptError:
        raise ForeignFileError(f"{path}: expected a JSON header, found {text[:40]!r}") from None
