"""Finding the four IDX files of a data set on this machine, and making sure that they are the right ones."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from supsup_models.data.sets.idx import read_idx
from supsup_models.data.sets.mnist import IDX_DATA_SETS, IDX_FILES, IdxDataSet
from supsup_models.errors import DataFormatError, DataNotFoundError

DATA_VARIABLE = "MASKSTORE_DATA"
_SMALLEST = IDX_FILES[-1]


def cache_folder() -> Path:
    """The user's cache of data sets: `$XDG_CACHE_HOME/maskstore`, or `~/.cache/maskstore`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "maskstore"


def find_folder(wanted: IdxDataSet, data: Path | None = None) -> Path:
    """The folder that holds the four files of `wanted`, plain or `.gz`.

    With `data`, only that folder is searched: naming a wrong place is an error, never silently another place. Without,
    `$MASKSTORE_DATA`, the user's cache and the folder of the Debian package are, in that order. In each, the folder
    itself may hold the files, or a folder below named as the data set. As the data sets use the same file names, the
    smallest file's hash tells which one it is. Raises `DataNotFoundError` if there is none, and `DataFormatError` if
    all that was found is another data set.
    """
    places = search_places(data)
    if data is None and wanted.packaged is not None:
        places.append((f"Debian's {wanted.package}", wanted.packaged))
    strangers: list[str] = []
    incomplete: list[str] = []
    for _, place in places:
        for folder in (*(place / name for name in wanted.subfolders), place):
            files = {name: path for name in IDX_FILES if (path := _find_file(folder, name))}
            missing = [name for name in IDX_FILES if name not in files]
            if not missing:
                found = _owner(_SMALLEST, read_idx(files[_SMALLEST]).sha256)
                if found is wanted:
                    return folder
                strangers.append(f"{found.title if found else 'an unknown data set'} in {folder}")
            elif len(missing) < len(IDX_FILES):
                incomplete.append(f"{folder} lacks {', '.join(missing)}")
    if strangers:
        raise DataFormatError(f"expected {wanted.title}, found {' and '.join(strangers)}")
    searched = describe_places(places)
    half = f"; {'; '.join(incomplete)}" if incomplete else ""
    raise DataNotFoundError(
        f"{wanted.title} not found: expected {IDX_FILES[0]}[.gz] and its three companions, "
        f"found none in {searched}{half}; "
        f"{_how_to_get(wanted)}"
    )


def read_file(wanted: IdxDataSet, folder: Path, name: str) -> NDArray[np.uint8]:
    """The values of `wanted`'s file `name` in `folder`, its hash checked; DataNotFoundError or DataFormatError."""
    path = _find_file(folder, name)
    if path is None:
        raise DataNotFoundError(f"{wanted.title} not found: expected {name}[.gz], found none in {folder}")
    return read_verified(wanted, path, name)


def read_verified(wanted: IdxDataSet, path: Path, name: str) -> NDArray[np.uint8]:
    """The values of the IDX file at `path`, which must have the hash of `wanted`'s file `name`."""
    content, expected = read_idx(path), wanted.sha256[name]
    if content.sha256 != expected:
        stranger = _owner(name, content.sha256)
        found = stranger.title if stranger else f"a file with SHA-256 {content.sha256[:16]}…, not {expected[:16]}…,"
        raise DataFormatError(f"expected {wanted.title}, found {found} in {path}")
    return content.values.astype(np.uint8, copy=False)


def _find_file(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder`, plain (which is faster to read) or else gzipped; None if there is neither."""
    for path in (folder / name, folder / f"{name}.gz"):
        if os.path.isfile(path):  # False, not an error, where one may not look
            return path
    return None


def search_places(data: Path | None) -> list[tuple[str, Path]]:
    """Where any data set is looked for, each with what it is called: in `data` alone, or in the usual places."""
    if data is not None:
        return [("the given folder", Path(data))]
    places = [("the cache", cache_folder())]
    if variable := os.environ.get(DATA_VARIABLE):
        places.insert(0, (f"${DATA_VARIABLE}", Path(variable)))
    return places


def describe_places(places: list[tuple[str, Path]]) -> str:
    """Places that were searched, for a message."""
    return ", ".join(f"{label} {path}{'' if os.path.isdir(path) else ' (no such folder)'}" for label, path in places)


def _owner(name: str, sha256: str) -> IdxDataSet | None:
    return next((known for known in IDX_DATA_SETS.values() if known.sha256[name] == sha256), None)


def _how_to_get(wanted: IdxDataSet) -> str:
    ways = [f"put the files of {wanted.urls[0]} in a folder and give it as `data` or in ${DATA_VARIABLE}"]
    if wanted.package is not None:
        ways.append(f"apt install {wanted.package}")
    ways.append("let it be downloaded (`download=True`)")
    return f"to get it: {', or '.join(ways)}"
