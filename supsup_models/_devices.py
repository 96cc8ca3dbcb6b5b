"""Choosing a device by name."""

import torch

from supsup_models._names import check
from supsup_models.errors import DeviceError

DEVICES = ("auto", "cpu", "cuda")


def pick_device(name: str) -> torch.device:
    """`auto` takes a CUDA device where there is one. DeviceError for `cuda` without one, UnknownNameError otherwise."""
    check("device", name, DEVICES)
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError("device cuda: expected a CUDA device, found none; --device cpu works everywhere")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")
