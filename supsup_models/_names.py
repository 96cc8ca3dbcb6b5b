"""Looking up a name that a user typed."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from maskstore.files import check_known
from supsup_models.errors import DeviceError, UnknownNameError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
DEVICES = ("auto", "cpu", "cuda")


def choose(kind: str, name: str, known: Mapping[str, T]) -> T:
    """`known[name]`; UnknownNameError, with the nearest known name, if there is none."""
    check(kind, name, known)
    return known[name]


def check(kind: str, name: str, known: Iterable[str]) -> None:
    """UnknownNameError, with the nearest known name, unless `name` is one of `known`."""
    check_known(kind, name, known, UnknownNameError)


def pick_device(name: str) -> "torch.device":
    """The device of one of `DEVICES`; DeviceError for "cuda" where there is none, UnknownNameError for other names."""
    from maskstore import torch as packed  # not at the top: command lines without torch look names up too

    check("device", name, DEVICES)
    return packed.pick_device(name, DeviceError)
