"""Where tensors lie."""

import torch

from hopfield.errors import DeviceError


def as_device(device: torch.device | str) -> torch.device:
    """The device, with its index; DeviceError if torch cannot use it here."""
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError, TypeError) as error:  # torch says it in either way, in many lines
        why = (str(error).splitlines() or [""])[0]
        raise DeviceError(f"device: expected one that torch can use here, found {device!r:.60} ({why:.120})") from error
