"""Looking up a name that a user typed."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from maskstore.cli import nearest
from supsup_models.errors import UnknownNameError

T = TypeVar("T")


def choose(kind: str, name: str, known: Mapping[str, T]) -> T:
    """`known[name]`; UnknownNameError, with the nearest known name, if there is none."""
    check(kind, name, known)
    return known[name]


def check(kind: str, name: str, known: Iterable[str]) -> None:
    """UnknownNameError, with the nearest known name, unless `name` is one of `known`."""
    names = list(known)
    if name not in names:
        raise UnknownNameError(f"{kind}: expected one of {', '.join(names)}, found {name!r}{nearest(name, names)}")
