"""Progress on standard error: on a terminal a bar once work has taken two seconds, elsewhere a line now and then."""

import sys
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from maskstore.errors import printable

_PATIENCE = 2.0  # seconds of work before a bar appears
_SILENCE = 10.0  # seconds without a line after which, without a bar, one says how far the work is


class Reporter:
    """Reports `total` pieces of work. Use as a context manager; standard output is left alone."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._start = self._told = perf_counter()
        self._parts: dict[object, float] = {}

    def part(self, name: object, done: float) -> None:
        """So much is done of one part of the work, in pieces; may be called from any thread."""
        self._parts[name] = done
        self.at(sum(self._parts.copy().values()))

    def advance(self) -> None:
        """One more piece is done."""
        self.part(None, self._parts.get(None, 0.0) + 1)

    def at(self, done: float) -> None:
        """So many of the pieces are done, fractions included."""
        now = perf_counter()
        if not self._console.is_terminal:
            if now - self._told >= _SILENCE:
                self.line(f"{self._title}: {100 * done / (self._total or 1):.0f} %")
            return
        if now - self._start < _PATIENCE:
            return
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
            self._bar.add_task(self._title, total=self._total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done)

    def line(self, text: str) -> None:
        """A line that stays, above the bar if there is one; what is not printable in it is escaped."""
        text, self._told = printable(text), perf_counter()
        if self._bar is not None:
            self._bar.console.print(text, markup=False)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


Reporting = Callable[[str, int], Reporter]
"""Makes the reporter of `total` pieces of work under a title; `Reporter` itself is one."""
