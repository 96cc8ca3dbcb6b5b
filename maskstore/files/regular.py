"""Regular files of bounded size: the one door through which a file of somebody else's is read.

A FIFO keeps its reader waiting for ever, a device such as `/dev/zero` never ends, and a file may be far larger than
what is looked for. All of them are refused before a byte is read. So is an SQLite file: to close one drops the locks
that this process holds on it (`maskstore.files.connections`). It stays open until the process ends.
"""

import os
import stat
from io import BufferedReader

from maskstore.errors import IrregularFileError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
TEXT_LIMIT = 32 << 20
_SQLITE = b"SQLite format 3\0"
_PARKED: dict[tuple[int, int], int] = {}
"""SQLite files that were opened here. They stay open: to close one drops the locks that this process has on it."""
_WHAT = "a regular file"


def open_regular(path: str | os.PathLike[str], *, what: str = _WHAT) -> BufferedReader:
    """A regular file, open for reading bytes.

    Args:
        path: The file; symbolic links are followed.
        what: What it should be, for errors.

    Raises:
        OSError: As `open` raises it, for a file that is missing or cannot be read.
        IrregularFileError: There is a folder, a named pipe, a socket, a device or an SQLite file. Nothing was read.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from maskstore.files import open_regular
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = Path(folder, "start").write_bytes(b"PK")
        ...     with open_regular(f"{folder}/start") as file:
        ...         file.read()
        b'PK'
    """
    _check(os.stat(path), path, what)  # before it is opened: to open a device may already act on it
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        found = os.fstat(handle)
        _check(found, path, what)  # another file may have taken the name meanwhile
        if os.read(handle, len(_SQLITE)) == _SQLITE:
            _PARKED[found.st_dev, found.st_ino] = handle
            _check(found, path, what)
        os.lseek(handle, 0, os.SEEK_SET)
        return os.fdopen(handle, "rb")
    except BaseException:
        if handle not in _PARKED.values():
            os.close(handle)
        raise


def read_regular(path: str | os.PathLike[str], *, limit: int = TEXT_LIMIT, what: str = _WHAT) -> bytes:
    """All bytes of a regular file that is not larger than `limit`.

    Args:
        path: The file; symbolic links are followed.
        limit: The most bytes that it may have.
        what: What it should be, for errors.

    Raises:
        OSError: As `open` raises it, for a file that is missing or cannot be read.
        IrregularFileError: There is a folder, a named pipe, a socket or a device, or a file of more bytes.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from maskstore.files import read_regular
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = Path(folder, "run.json").write_bytes(b"{}")
        ...     read_regular(f"{folder}/run.json", limit=100)
        b'{}'
    """
    with open_regular(path, what=what) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1) if size <= limit else b""  # a file may grow, and some of the system's show no size
        if max(size, len(data)) > limit:
            raise IrregularFileError(
                f"{os.fspath(path)}: expected {what} of at most {limit:,} bytes, found {max(size, len(data)):,}"
            )
        return data


def kind_of(mode: int) -> str:
    """What a file of this mode is, for errors; "" for a regular file."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "" if stat.S_ISREG(mode) else "no regular file")


def _check(found: os.stat_result, path: str | os.PathLike[str], what: str) -> None:
    kind = kind_of(found.st_mode)
    if (found.st_dev, found.st_ino) in _PARKED:
        kind = "a bank or another SQLite file"
    if kind:
        raise IrregularFileError(f"{os.fspath(path)}: expected {what}, found {kind}")
