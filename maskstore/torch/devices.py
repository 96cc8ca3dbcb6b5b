"""Where tensors lie."""

import torch

from maskstore.errors import DeviceError


def as_device(device: torch.device | str, error: type[DeviceError] = DeviceError) -> torch.device:
    """The device, with its index; an error of the caller's kind if torch cannot use it here."""
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError, TypeError) as failure:  # torch says it in either way, in many lines
        why = (str(failure).splitlines() or [""])[0]
        raise error(f"device: expected one that torch can use here, found {device!r:.60} ({why:.120})") from failure
