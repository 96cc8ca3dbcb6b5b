"""Statements of SQLite that end: in a small forged file, a tree of pages can be one that takes years to walk.

SQLite follows every pointer between pages. Where each page of a tree points forty times to the next one, four pages
stand for millions of rows. So a statement may take so many steps for each byte of its file, and a query of all rows
gives no more rows than have room in it: `LIMIT most_rows()`.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import repeat
from pathlib import Path

from maskstore.errors import CorruptError, MaskStoreError
from maskstore.files.stopping import StoppedError, stopped, timed

LOOK = 1 << 16
"""Steps of SQLite's machine between two looks, which take about a millisecond."""
_TIMED_LOOK = 1 << 10  # where values are as long as the file, a step takes as long as a thousand
FREE_LOOKS = 1 << 7  # a file may take so many, however small it is,
LOOKS_A_BYTE = 64 / LOOK  # and in proportion: no use of a file by us needs a tenth of it
_ROW_BYTES = 24  # no row of ours has fewer
_FREE_ROWS = 1 << 10
_FREE_BYTES = 1 << 20  # a writer has some pages in memory


def bound_statements(link: sqlite3.Connection, path: Path) -> None:
    """From now on, statements on a connection to `path` end in a bounded number of steps, or with the time limit."""
    link.set_progress_handler(*watch_for(_bytes(path)))


def watch_for(size: int) -> tuple[Callable[[], bool], int]:
    """What SQLite calls in its work on a file of so many bytes, until the answer is True; and every how many steps."""
    if timed():
        return lambda: stopped() is not None, _TIMED_LOOK
    # no Python code runs in it, and so no handler of a signal, whose exception SQLite would swallow
    return partial(next, repeat(False, FREE_LOOKS + int(LOOKS_A_BYTE * size))), LOOK


def name_bounds(link: sqlite3.Connection, path: Path) -> None:
    """Let statements on a connection call `most_bytes()` and `most_rows()`: more cannot be in the file."""
    link.create_function("most_bytes", 0, lambda: _FREE_BYTES + _bytes(path))
    link.create_function("most_rows", 0, lambda: _FREE_ROWS + _bytes(path) // _ROW_BYTES)


def interrupted(path: Path) -> MaskStoreError | StoppedError | KeyboardInterrupt:
    """Why a statement on `path` was interrupted."""
    if (error := stopped()) is not None:
        return error
    if timed():  # Python code looked at the clock, in the middle of which Ctrl-C came
        return KeyboardInterrupt()
    return CorruptError(f"{path}: expected tables of the size of the file, found pages that lead to each other again "
                        "and again")  # fmt: skip


def _bytes(path: Path) -> int:
    size = 0
    for ending in ("", "-wal"):
        with suppress(OSError):
            size += os.stat(f"{path}{ending}").st_size
    return size
