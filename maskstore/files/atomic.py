"""A new file appears whole under its name, or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maskstore.bank.sqlite import named_errors, new_file_mode, sync_folder
from maskstore.errors import BankExistsError


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A scratch path in the same folder; when the block ends, its content is synced and takes the name `path`.

    BankExistsError if there is a file already and `overwrite` is not set; after an error nothing is left behind.
    """
    if path.exists() and not overwrite:
        raise _taken(path)
    with named_errors(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
        os.close(handle)
        scratch = Path(name)
        try:
            yield scratch
            with scratch.open("rb") as file:
                os.fsync(file.fileno())
            os.chmod(scratch, new_file_mode())
            publish(scratch, path, overwrite=overwrite)
        finally:
            scratch.unlink(missing_ok=True)


def publish(scratch: Path, path: Path, *, overwrite: bool) -> None:
    """Give a finished file its name; without `overwrite` a file that appeared meanwhile is a BankExistsError."""
    if overwrite:
        os.replace(scratch, path)
    else:
        try:
            os.link(scratch, path)
        except FileExistsError:
            raise _taken(path) from None
        except OSError:  # a file system without hard links: the check above is the best there is
            os.replace(scratch, path)
    with suppress(OSError):  # some network folders cannot be synced; the file itself was
        sync_folder(path.parent)


def _taken(path: Path) -> BankExistsError:
    return BankExistsError(f"{path}: expected no file at this path, found one (use --overwrite to replace it)")
