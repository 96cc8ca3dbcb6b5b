"""Masks in .npz files: one array a layer; read without ever unpickling, written whole or not at all."""

import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.connection import named_errors, sync_folder
from maskstore.errors import BankExistsError, BankNotFoundError, CorruptError, SpecError


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file, by name; CorruptError for a file that is none or would need unpickling."""
    if not path.is_file():
        raise BankNotFoundError(f"{path}: expected an .npz file, found none")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise SpecError(f"{path}: expected an .npz file with an array a layer, found a single array")
        with archive:
            return {name: archive[name] for name in archive.files}
    except SpecError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError) as error:
        raise CorruptError(f"{path}: expected an .npz file of plain arrays, found: {error}") from None


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]], *, overwrite: bool = False) -> None:
    """Write a compressed .npz file; BankExistsError if there is a file and `overwrite` is not set."""
    if path.exists() and not overwrite:
        raise BankExistsError(f"{path}: expected no file at this path, found one (use --overwrite to replace it)")
    with named_errors(path):
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
            sync_folder(path.parent)
        finally:
            Path(scratch).unlink(missing_ok=True)
