"""What the operating system's errors about a file are called."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

from maskstore.errors import (
    BankExistsError,
    BankFullError,
    BankIOError,
    BankNotFoundError,
    BankReadOnlyError,
    MaskStoreError,
)


@contextmanager
def named_os_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about the file at `path` into named ones."""
    try:
        yield
    except MaskStoreError:
        raise
    except OSError as error:
        raise named_os_error(error, path) from error


def named_os_error(error: OSError, path: Path) -> MaskStoreError:
    """The named error for one of the operating system's about the file at `path`."""
    if isinstance(error, FileNotFoundError):
        return BankNotFoundError(f"{path}: expected an existing folder and file, found none")
    if isinstance(error, FileExistsError):
        return BankExistsError(f"{path}: expected no file at this path, found one")
    if isinstance(error, PermissionError):
        return BankReadOnlyError(f"{path}: expected permission to write there, found none")
    if error.errno in (ENOSPC, EDQUOT, EFBIG):
        return BankFullError(f"{path}: expected room to write, found: {error.strerror}")
    return BankIOError(f"{path}: expected the system to read or write the file, found: {error.strerror or error}")
