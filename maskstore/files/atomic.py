"""A new file appears whole under its name, or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maskstore.errors import BankExistsError
from maskstore.files.os_errors import named_os_errors


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A path for a new file; when the block ends, the file that is there is synced and takes the name `path`.

    The new path is in a folder of its own beside `path`, which goes in the end with all that is in it. After an error
    nothing is left behind. BankExistsError if there is a file at `path` and `overwrite` is not set.
    """
    if path.exists() and not overwrite:
        raise _taken(path)
    with (
        named_os_errors(path),
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".new", dir=path.parent) as folder,
    ):
        scratch = Path(folder) / path.name
        yield scratch
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        publish(scratch, path, overwrite=overwrite)


def publish(scratch: Path, path: Path, *, overwrite: bool) -> None:
    """Give a finished file its name; without `overwrite` a file that appeared meanwhile is a BankExistsError."""
    if overwrite:
        os.replace(scratch, path)
    else:
        try:
            os.link(scratch, path)
        except FileExistsError:
            raise _taken(path) from None
        except OSError:  # a file system without hard links: reserve the name, then replace the reservation
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                raise _taken(path) from None
            os.replace(scratch, path)
    with suppress(OSError):  # some network folders cannot be synced; the file itself was
        sync_folder(path.parent)


def _taken(path: Path) -> BankExistsError:
    return BankExistsError(f"{path}: expected no file at this path, found one (`overwrite=True` replaces it)")


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable, where the system lets a folder be synced."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
