"""Long loops in pieces of less than a second: between two, Ctrl-C is answered, and a scan that has ended stops them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_here = threading.local()  # .ended: the events that stop this thread's work


class StoppedError(Exception):
    """The work of this thread is wanted no more; whoever wanted it has ended."""


def pieces(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of pieces of range(count), each of `size`; StoppedError once nobody wants them any more."""
    for first in range(0, count, size):
        if any(event.is_set() for event in wanted_now()):
            raise StoppedError
        yield first, min(first + size, count)


def wanted_now() -> tuple[threading.Event, ...]:
    """The events that stop this thread's work, for other threads that do parts of it."""
    found: tuple[threading.Event, ...] = getattr(_here, "ended", ())
    return found


@contextmanager
def wanted_until(*ended: threading.Event) -> Iterator[None]:
    """In the block, `pieces` of this thread go on until one of the events is set."""
    before, _here.ended = wanted_now(), ended
    try:
        yield
    finally:
        _here.ended = before
