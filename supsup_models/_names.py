"""What a caller may pass: names that a user typed, and arguments of the right type.

What is wrong is said once, by the argument's name, before anything is computed. Imports neither torch nor numpy.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from operator import index
from pathlib import Path
from typing import Any, TypeVar

from maskstore import files
from maskstore.errors import CodecError, MaskStoreError
from supsup_models.errors import ArgumentTypeError, NetworkError, UnknownNameError

T = TypeVar("T")

_SEEDS = 1 << 64


def choose(kind: str, name: str, known: Mapping[str, T]) -> T:
    """`known[name]`; UnknownNameError, with the nearest known name, if there is none."""
    check(kind, name, known)
    return known[name]


def check(kind: str, name: str, known: Iterable[str]) -> None:
    """UnknownNameError, with the nearest known name, unless `name` is one of `known`; ArgumentTypeError for no str."""
    expect(kind, name, str, "the name of one, a str")
    files.check_known(kind, name, known, UnknownNameError)


def expect(what: str, value: object, kind: type | tuple[type, ...], says: str, **hints: str) -> Any:
    """The value, if it is of a kind; ArgumentTypeError that says what was expected if not.

    Args:
        what: The argument's name.
        value: What the caller gave.
        kind: The class that it has to be of, or several.
        says: The same in words, such as "a MaskMatrix".
        hints: What to do, by the name of the class that was found instead.
    """
    if isinstance(value, kind):
        return value
    names = [each.__name__ for each in type(value).__mro__]
    hint = next((f"; {hints[name]}" for name in names if name in hints), "")
    raise ArgumentTypeError(f"{what}: expected {says}, found {found(value)}{hint}")


def whole_number(what: str, value: Any) -> int:
    """The value as an int; ArgumentTypeError for what is no whole number."""
    if not isinstance(value, bool):
        try:
            return index(value)
        except TypeError:
            pass
    raise ArgumentTypeError(f"{what}: expected a whole number, found {found(value)}")


def expect_within(within: Callable[[float], bool], what: str, value: float) -> None:
    """NetworkError unless a setting is as expected, ArgumentTypeError for no number; no comparison with NaN holds."""
    if not within(number(what.partition(":")[0], value)):
        raise NetworkError(f"{what}, found {value}")


def seed_of(what: str, value: Any) -> int:
    """The value as a seed; ArgumentTypeError for no whole number, CodecError for one out of range."""
    seed = whole_number(what, value)
    if not 0 <= seed < _SEEDS:
        raise CodecError(f"{what}: expected a whole number in [0, 2**64), found {seed}")
    return seed


def number(what: str, value: Any) -> float:
    """The value as a float, perhaps NaN or infinite; ArgumentTypeError for what is no real number."""
    if not isinstance(value, bool) and isinstance(value, Real):
        return float(value)
    raise ArgumentTypeError(f"{what}: expected a number, found {found(value)}")


def plain_numbers(settings: Any) -> None:
    """Make the numbers in the fields of a frozen dataclass plain ints and floats: JSON takes none of numpy."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, tuple | list):
            plain: Any = tuple(map(_plain_number, value))
        elif isinstance(value, Mapping):
            plain = {key: _plain_number(each) for key, each in value.items()}
        else:
            plain = _plain_number(value)
        object.__setattr__(settings, field.name, plain)


def _plain_number(value: Any) -> Any:
    if isinstance(value, bool | int | float) and type(value) in (bool, int, float):
        return value
    return int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value


def expect_call(what: str, value: object) -> None:
    """ArgumentTypeError for what is neither None nor something to call."""
    if value is not None and not callable(value):
        raise ArgumentTypeError(f"{what}: expected something to call, or None, found {found(value)}")


def path_of(what: str, value: object) -> Path:
    """The value as a path; ArgumentTypeError for what is none."""
    try:
        return files.path_of(value, what)
    except MaskStoreError as error:
        raise ArgumentTypeError(str(error)) from None


def found(value: object) -> str:
    """A value in an error: its class, and itself where it is short and plain."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{name} {value!r:.40}" if isinstance(value, str | bytes | int | float) else name
