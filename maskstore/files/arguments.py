"""Arguments that many functions take: paths, seconds, and the most bytes that a file may become."""

import os
from numbers import Real
from pathlib import Path
from typing import Any

from maskstore.errors import ArgumentTypeError, SpecError

_MOST_SECONDS = 2e6  # SQLite counts milliseconds in 32 bits
_MOST_BYTES = 1 << 63


def path_of(value: Any, what: str = "path") -> Path:
    """The value as a path; ArgumentTypeError for what is none, SpecError for text that no file can be called."""
    text = text_of(value, what)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:  # half of a surrogate pair
        text += "\0"
    if "\0" in text or not text:
        raise SpecError(f"{what}: expected text that a file can be called, found {text!r:.60}")
    return Path(text)


def text_of(value: Any, what: str = "path") -> str:
    """A path or a URL as text; ArgumentTypeError for what is neither, such as bytes."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise ArgumentTypeError(f"{what}: expected a path, found {_found(value)}")
    return text


def seconds(value: Any, what: str = "timeout") -> float:
    """Seconds to wait; ArgumentTypeError for no number, SpecError for one below 0 and for NaN."""
    number = _number(value, what, "a number of seconds")
    if not number >= 0:
        raise SpecError(f"{what}: expected seconds of at least 0, found {value}")
    return min(float(number), _MOST_SECONDS)


def byte_limit(value: Any, what: str = "limit") -> int | None:
    """A number of bytes, or None; ArgumentTypeError for no number, SpecError for one below 0 and for NaN."""
    if value is None:
        return None
    number = _number(value, what, "a number of bytes")
    if not number >= 0:
        raise SpecError(f"{what}: expected bytes of at least 0, found {value}")
    return int(number)


def _number(value: Any, what: str, says: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentTypeError(f"{what}: expected {says}, found {_found(value)}")
    return min(value, _MOST_BYTES)


def _found(value: Any) -> str:
    return "None" if value is None else f"{type(value).__name__} {value!r:.40}"
