"""Long work in pieces of less than a second: between two, Ctrl-C is answered, a scan that has ended stops them, and the
caller's time limit is kept."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from maskstore.errors import TimeLimitError
from maskstore.files.arguments import seconds as checked_seconds


class StoppedError(Exception):
    """The work of this thread is wanted no more; whoever wanted it has ended."""


class Ended(Protocol):
    """What may stop work: a `threading.Event`, or a time that comes by itself."""

    def is_set(self) -> bool:
        """Whether the work is wanted no more."""


class _TimeIsUp:
    """Set from some time on."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._end = seconds, time.monotonic() + seconds

    def is_set(self) -> bool:
        return time.monotonic() >= self._end


class _Here(threading.local):
    ended: tuple[Ended, ...] = ()
    """What stops this thread's work."""


here = _Here()
"""Of this thread; `ended` is empty where nothing stops its work."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """In the block, whatever this thread asks of maskstore ends within some seconds, or with `TimeLimitError`.

    For files and bytes from strangers: `limit=` of the functions that open them bounds memory, this bounds time. It
    holds for banks, shards, messages, imports, exports and `compact`, and for the threads that decode. The clock is
    looked at between pieces of work, each of which takes less than a second: blocks and layers of masks, rows of a
    bank, arrays of other programs' files, steps of SQLite. A call that waits for another writer waits for its own
    `timeout`, and a request to a store for that of the store. Within another block the shorter time counts.

    Args:
        seconds: How long, from now on.

    Raises:
        ArgumentTypeError: `seconds` is no number.
        SpecError: It is below 0, or NaN.
        TimeLimitError: The time was over before the work in the block was done. A bank is then as it was before the
            call that was at work.

    Examples:
        >>> import tempfile
        >>> from maskstore import MaskBank, MaskSpec, time_limit
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec({"fc1": (20, 40)})):
        ...         pass
        ...     with time_limit(30), MaskBank.open(f"{folder}/tasks.bank", limit=10**8) as bank:
        ...         len(bank.matrix())
        0
    """
    with wanted_until(*wanted_now(), _TimeIsUp(checked_seconds(seconds, "seconds"))):
        yield


def pieces(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of pieces of range(count), each of `size`; an error as of `check_wanted` before one of them."""
    for first in range(0, count, size):
        check_wanted()
        yield first, min(first + size, count)


def check_wanted() -> None:
    """StoppedError once nobody wants this thread's work any more; TimeLimitError once its time is over."""
    if (error := stopped()) is not None:
        raise error


def stopped() -> StoppedError | TimeLimitError | None:
    """Why this thread's work should stop; None while it should go on."""
    for each in wanted_now():
        if each.is_set():
            if isinstance(each, _TimeIsUp):
                return TimeLimitError(f"time limit: expected an end within {each.seconds:g} s, found more to do (a "
                                      "longer `time_limit` allows it, for a file that you trust)")  # fmt: skip
            return StoppedError()
    return None


def timed() -> bool:
    """Whether a time limit holds for this thread."""
    return any(isinstance(each, _TimeIsUp) for each in wanted_now())


def wanted_now() -> tuple[Ended, ...]:
    """What stops this thread's work, for other threads that do parts of it."""
    return here.ended


@contextmanager
def wanted_until(*ended: Ended) -> Iterator[None]:
    """In the block, `pieces` of this thread go on until one of these is set."""
    before, here.ended = here.ended, ended
    try:
        yield
    finally:
        here.ended = before
