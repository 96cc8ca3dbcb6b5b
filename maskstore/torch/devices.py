"""Where tensors lie: names of devices, and devices that torch can use here."""

import torch

from maskstore.errors import DeviceError


def as_device(device: torch.device | str, error: type[DeviceError] = DeviceError) -> torch.device:
    """The device, with its index where it has one.

    Args:
        device: A device, or what torch calls it.
        error: The error to raise; packages built on maskstore give their own kind of `DeviceError`.

    Raises:
        DeviceError: Torch cannot use the device here.

    Examples:
        >>> from maskstore.torch import as_device
        >>> as_device("cpu")
        device(type='cpu')
    """
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError, TypeError) as failure:  # torch says it in either way, in many lines
        why = (str(failure).splitlines() or [""])[0]
        raise error(f"device: expected one that torch can use here, found {device!r:.60} ({why:.120})") from failure


def pick_device(name: str = "auto", error: type[DeviceError] = DeviceError) -> torch.device:
    """The device of a name.

    Args:
        name: "auto" is a CUDA device where there is one, else the CPU. Other names are torch's own: "cpu", "cuda",
            "cuda:1", and so on.
        error: As in `as_device`.

    Raises:
        DeviceError: The device is not there.

    Examples:
        >>> from maskstore.torch import pick_device
        >>> pick_device("cpu")
        device(type='cpu')
        >>> pick_device().type in ("cpu", "cuda")  # the fastest that this machine has
        True
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise error("device 'cuda': expected a CUDA device, found none")
    return as_device(("cuda" if available else "cpu") if name == "auto" else name, error)
