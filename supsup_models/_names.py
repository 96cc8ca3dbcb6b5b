"""Looking up a name that a user typed."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from maskstore.files import check_known
from supsup_models._arguments import expect
from supsup_models.errors import UnknownNameError

T = TypeVar("T")


def choose(kind: str, name: str, known: Mapping[str, T]) -> T:
    """`known[name]`; UnknownNameError, with the nearest known name, if there is none."""
    check(kind, name, known)
    return known[name]


def check(kind: str, name: str, known: Iterable[str]) -> None:
    """UnknownNameError, with the nearest known name, unless `name` is one of `known`; ArgumentTypeError for no str."""
    expect(kind, name, str, "the name of one, a str")
    check_known(kind, name, known, UnknownNameError)
