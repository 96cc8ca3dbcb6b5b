"""Choosing a device by name, and how many of its cores torch takes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from supsup_models.errors import DeviceError
from supsup_models.names import check

DEVICES = ("auto", "cpu", "cuda")


def pick_device(name: str) -> torch.device:
    """`auto` takes a CUDA device where there is one. DeviceError for `cuda` without one, UnknownNameError otherwise."""
    check("device", name, DEVICES)
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError("device cuda: expected a CUDA device, found none; --device cpu works everywhere")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")


@contextmanager
def on_one_core(wanted: bool) -> Iterator[None]:
    """Have this thread's torch operations take one core inside, if `wanted`.

    For work that packed products follow: OpenMP's threads spin for milliseconds after an operation, and the products'
    threads would share the cores with them.
    """
    threads = torch.get_num_threads()
    if not wanted or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
