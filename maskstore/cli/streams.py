"""Standard output and standard error that take any text, and say plainly when nothing can be written to them.

Text that the terminal's encoding lacks is escaped. Standard output that cannot be written raises `OutputError`.
Standard error that cannot be written is left: no work is lost over a line of progress.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class OutputError(Exception):
    """Standard output cannot be written."""


class ReaderGoneError(OutputError):
    """Whoever read standard output has gone, as `head` does when it has enough."""


@contextmanager
def sturdy() -> Iterator[None]:
    """Within this context both streams are as the module says. Flush standard output before its end."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Stream(sys.stdout, _fail), _Stream(sys.stderr, _ignore)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Stream:
    """A stream, or None for one that was closed before we began; what goes wrong goes to `failed`."""

    def __init__(self, stream: Any, failed: Callable[[Any, Exception], None]) -> None:
        self._stream, self._failed = stream, failed
        if hasattr(stream, "reconfigure"):
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        if self._stream is None:
            self._failed(None, OSError("found it closed"))
            return len(text)
        try:
            written: int = self._stream.write(text)
        except (OSError, ValueError) as error:
            self._failed(self._stream, error)
            return len(text)
        return written

    def flush(self) -> None:
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._failed(self._stream, error)

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            if name in ("isatty", "fileno", "encoding"):
                return {"isatty": lambda: False, "encoding": "utf-8"}.get(name, _no_number)
            raise AttributeError(name)
        return getattr(self._stream, name)


def _no_number() -> int:
    raise OSError("a closed stream has no number")


def _fail(stream: Any, error: Exception) -> None:
    _drop(stream)
    if isinstance(error, BrokenPipeError):
        raise ReaderGoneError from None
    found = f"found {getattr(error, 'strerror', None)!r}" if getattr(error, "strerror", None) else "found it closed"
    raise OutputError(f"standard output: expected room for what is printed, {found}") from None


def _ignore(stream: Any, _: Exception) -> None:
    _drop(stream)


def _drop(stream: Any) -> None:
    """Lead what the stream still holds nowhere: the interpreter would complain when it ends and tries once more."""
    with suppress(AttributeError, OSError, ValueError):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
