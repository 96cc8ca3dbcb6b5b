"""Devices by name."""

import pytest
import torch

from hopfield.errors import DeviceError as HopfieldDeviceError
from maskstore.errors import DeviceError
from maskstore.torch import as_device, pick_device


def test_auto_is_the_fastest_device_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu") == as_device("cpu") == torch.device("cpu")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(HopfieldDeviceError, match="expected a CUDA device, found none"):
        pick_device("cuda", HopfieldDeviceError)


def test_a_device_that_torch_does_not_know_is_refused() -> None:
    for choose in (as_device, pick_device):
        with pytest.raises(DeviceError, match="one that torch can use here, found 'gpu'"):
            choose("gpu")
