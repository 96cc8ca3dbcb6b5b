"""Work of the kernels shared among threads: they run without the interpreter's lock."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

CORES = os.cpu_count() or 1
_SMALL_WORDS = 1 << 15  # below this many words a thread costs more than it saves
_PIECES = 4  # pieces of work a core, so that a slow core holds up the others by little


@cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, CORES - 1), thread_name_prefix="maskstore")


if hasattr(os, "register_at_fork"):  # the child has none of the threads, but may have a lock that one of them held
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def shared(kernel: Any, pieces: list[tuple[Any, ...]], work: int) -> None:
    """Call `kernel(*piece)` for every piece, on as many cores as `work`, in words of masked adds, is worth.

    Each thread takes the next piece when it is done with one, and the caller's waits for no helper that has not
    started: threads of another pool may still spin on the other cores (OpenMP's do for milliseconds). Without any
    helper it does all the work itself.
    """
    remaining = deque(pieces)

    def take() -> None:
        while True:
            try:
                piece = remaining.popleft()
            except IndexError:
                return
            kernel(*piece)

    helping: list[Future[None]] = []
    try:
        ask_for_help(take, min(threads_for(work), len(pieces)) - 1, helping)
        take()
    finally:  # an interrupted caller must not leave helpers that still write to its arrays
        remaining.clear()
        dismiss(helping)


def threads_for(work: int) -> int:
    """How many threads `work`, in words of masked adds, is worth: at least the caller's own, at most one a core."""
    return min(CORES, max(1, work // _SMALL_WORDS))


def ask_for_help(take: Callable[[], None], helpers: int, helping: list[Future[None]]) -> None:
    """Add to `helping` what helpers were asked to do: nothing where no thread can be started any more."""
    try:
        for _ in range(helpers):
            helping.append(_helpers().submit(take))
    except RuntimeError:  # the main thread has ended and this one goes on, or the system has no threads left
        return


def dismiss(helping: list[Future[None]], wait: bool = True) -> None:
    """Send away the helpers that have not started, and wait for the others, or raise what went wrong there."""
    for helper in helping:
        if not helper.cancel() and wait:
            helper.result()


def ranges(count: int, pieces: int, step: int = 1) -> list[tuple[int, int]]:
    """range(count) in about so many pieces that start at multiples of `step`."""
    size = -(-count // max(1, pieces) // step) * step or step
    return [(first, min(first + size, count)) for first in range(0, count, size)]


def pieces_for_cores(count: int) -> int:
    """Into how many pieces to cut work whose pieces are cheap to start."""
    return min(count, _PIECES * CORES)
