"""Numba's compile times, told and taken: kernels are compiled on first use and then cached on the disk."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import Lock, Timer
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

import numpy as np

from maskstore.cli import console
from maskstore.kernels import noted
from maskstore.masks import Mask, MaskMatrix, MaskSpec

P = ParamSpec("P")
R = TypeVar("R")
PATIENCE = 1.0  # seconds of compiling before something is said
EVERY = 5.0  # seconds between lines that say how far it is


@contextmanager
def announced(say: Callable[[str], None], patience: float = PATIENCE, every: float = EVERY) -> Iterator[None]:
    """Within this context, say that kernels are being compiled if one takes longer than `patience` seconds.

    From then on a line says how many are done, at most one in `every` seconds. Imports Numba. `say` is called from a
    thread of its own, or from the one that compiles.
    """
    from numba.core import event

    class Announcer(event.Listener):
        def __init__(self) -> None:
            self._lock, self._depth, self._said = Lock(), 0, False
            self._began = self._told = perf_counter()
            self._done, self._seconds = 0, 0.0
            self._timer = Timer(patience, self._say)

        def on_start(self, _: Any) -> None:
            with self._lock:
                self._depth += 1
                if self._depth == 1:
                    self._began = perf_counter()
                if self._depth == 1 and not self._said:
                    self._timer = Timer(patience, self._say)
                    self._timer.daemon = True
                    self._timer.start()

        def on_end(self, _: Any) -> None:
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    self.stop()
                    self._done, self._seconds = self._done + 1, self._seconds + perf_counter() - self._began
                    if self._said and not noted() and perf_counter() - self._told >= every:
                        self._told = perf_counter()
                        say(f"{self._done} kernels compiled, {self._seconds:.0f} s so far")

        def stop(self) -> None:
            self._timer.cancel()

        def _say(self) -> None:
            self._said, self._told = True, perf_counter()
            if not noted():  # that there is no cache, for one
                say("compiling the kernels that this command needs, some 20 seconds; later runs find them in a cache")

    announcer = Announcer()
    event.register("numba:compile", announcer)
    try:
        yield
    finally:
        event.unregister("numba:compile", announcer)
        announcer.stop()


def announcing(command: Callable[P, R]) -> Callable[P, R]:
    """A command that says so, on standard error, when it has to wait for kernels to be compiled."""

    @wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        with announced(console.note):
            return command(*arguments, **options)

    return run


def warm() -> None:
    """Compile, or load from the cache, the kernels of `MaskMatrix` for the arrays they meet."""
    spec = MaskSpec({"fc1": (32, 40), "fc2": (3, 5)})
    matrix = MaskMatrix(spec, [Mask.from_flat(np.zeros(spec.bits, dtype=np.bool_), spec)] * 16)
    matrix.counts()
    matrix.dot(np.zeros(spec.bits, dtype=np.float32))
    weights, left, right = (np.zeros(shape, dtype=np.float32) for shape in ((32, 40), (2, 32), (2, 40)))
    matrix.outer_dots("fc1", weights, left, right)
    matrix.outer_dots("fc1", weights, left, right, np.zeros((2, 1), dtype=np.int64))
