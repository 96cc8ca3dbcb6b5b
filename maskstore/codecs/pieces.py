"""Long loops in pieces of less than a second: between two, Ctrl-C is answered, and a scan that has ended stops them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_here = threading.local()  # .ended: the event that stops this thread's work


class StoppedError(Exception):
    """The work of this thread is wanted no more; whoever wanted it has ended."""


def pieces(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of pieces of range(count), each of `size`; StoppedError once nobody wants them any more."""
    ended: threading.Event | None = getattr(_here, "ended", None)
    for first in range(0, count, size):
        if ended is not None and ended.is_set():
            raise StoppedError
        yield first, min(first + size, count)


@contextmanager
def wanted_until(ended: threading.Event) -> Iterator[None]:
    """In the block, `pieces` of this thread go on until the event is set."""
    _here.ended = ended
    try:
        yield
    finally:
        _here.ended = None
