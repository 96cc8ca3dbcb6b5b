"""Work of the kernels shared among threads: they run without the interpreter's lock."""

import os
from _thread import allocate_lock, start_new_thread  # the locks of `threading.Thread` can be left locked
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

CORES = os.cpu_count() or 1
_most = CORES
_SMALL_WORDS = 1 << 15  # below this many words a thread costs more than it saves
_PIECES = 4  # pieces of work a core, so that a slow core holds up the others by little


class Helper:
    """One helper of a caller: it starts its work, or is dismissed before that, and never both.

    An interrupt (Ctrl-C) at any moment leaves nothing locked that somebody else waits for. In `concurrent.futures` and
    `threading` it can: their conditions are locked in Python, and a helper may then stand still for ever.
    """

    def __init__(self, take: Callable[[], None]) -> None:
        self._take: Callable[[], None] | None = take
        self._decided, self._done = allocate_lock(), allocate_lock()
        self._done.acquire()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do the work, in a thread of ours, unless it has been dismissed."""
        if not self._decided.acquire(blocking=False):
            return
        try:
            if self._take is not None:
                self._take()
        except BaseException as error:  # the caller's to raise
            self._error = error
        finally:
            self._done.release()

    def dismiss(self, wait: bool) -> None:
        """Send it away if it has not started; otherwise wait for it, if asked to, and raise what it raised."""
        if self._decided.acquire(blocking=False):
            self._take = None  # a busy helper looks at it late: until then it must not hold the caller's memory
        elif wait:
            self._done.acquire()
            if self._error is not None:
                raise self._error


class _Threads:
    """Threads that wait for helpers to run; started when they are first needed, and ended with the process."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Helper] = SimpleQueue()
        self._threads = 0

    def ask(self, helpers: list[Helper]) -> None:
        """Have helpers run, by nobody where there is no thread and none can be started."""
        try:
            while self._threads < len(helpers):  # two callers at once may start one too many, which harms nobody
                start_new_thread(self._serve, ())
                self._threads += 1
        except RuntimeError:  # the main thread has ended and this one goes on, or the system has no threads left
            if not self._threads:
                return
        for helper in helpers:
            self._asked.put(helper)

    def _serve(self) -> None:
        while True:
            self._asked.get().run()


_threads = _Threads()


def _forget_helpers() -> None:
    global _threads
    _threads = _Threads()


if hasattr(os, "register_at_fork"):  # the child has none of the threads, but may have a lock that one of them held
    os.register_at_fork(after_in_child=_forget_helpers)


def share_work(kernel: Any, pieces: list[tuple[Any, ...]], work: int) -> None:
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

    helpers = [Helper(take) for _ in range(min(threads_for(work), len(pieces)) - 1)]
    try:
        ask(helpers)
        take()
    finally:  # an interrupted caller must not leave helpers that still write to its arrays
        remaining.clear()
        dismiss(helpers)


def limit_threads(count: int) -> None:
    """The most threads that the kernels use in this process, 1 or more, for where many processes share the cores."""
    global _most
    _most = max(1, count)


def threads_for(work: int) -> int:
    """How many threads `work`, in words of masked adds, is worth: at least the caller's own, at most one a core."""
    return min(_most, max(1, work // _SMALL_WORDS))


def ask(helpers: list[Helper]) -> None:
    """Ask for help, which comes as soon as a helper is free, or not at all."""
    _threads.ask(helpers)


def dismiss(helpers: list[Helper], wait: bool = True) -> None:
    """Send away the helpers that have not started, and wait for the others, or raise what went wrong there."""
    for helper in helpers:
        helper.dismiss(wait)


def ranges(count: int, pieces: int, step: int = 1) -> list[tuple[int, int]]:
    """range(count) in about so many pieces that start at multiples of `step`."""
    size = -(-count // max(1, pieces) // step) * step or step
    return [(first, min(first + size, count)) for first in range(0, count, size)]


def pieces_for_cores(count: int) -> int:
    """Into how many pieces to cut work whose pieces are cheap to start."""
    return min(count, _PIECES * CORES)
