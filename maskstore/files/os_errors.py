"""What the operating system's errors about a file are called."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOLCK, ENOSPC, ENOSYS, EOPNOTSUPP
from pathlib import Path

from maskstore.errors import (
    BankExistsError,
    BankFullError,
    BankIOError,
    BankNotFoundError,
    BankReadOnlyError,
    MaskStoreError,
)

_NO_LOCKS = (ENOLCK, ENOSYS, EOPNOTSUPP)


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
    if error.errno in _NO_LOCKS:
        return BankIOError(f"{path}: expected a file system that can lock files, found: {error.strerror}")
    return BankIOError(f"{path}: expected the system to read or write the file, found: {error.strerror or error}")


def lock_fault(folder: Path) -> str | None:
    """Why no file in a folder can be locked; None if one can, or if that cannot be tried.

    SQLite calls a file system without locks busy, as if somebody else held the lock.
    """
    if os.name != "posix":
        return None
    import fcntl

    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.strerror if error.errno in _NO_LOCKS else None
    return None
