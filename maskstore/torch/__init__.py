"""Packed masks in torch: their products on the CPU and on a GPU (`docs/gpu.md`), and devices by name."""

from maskstore.errors import needing

with needing("torch", "maskstore.torch"):
    import torch as _torch  # noqa: F401

from maskstore.torch.devices import as_device, pick_device
from maskstore.torch.packed import Backend, Leading, PackedMasks, packed_bytes, unpacked, unpacked_tiles

__all__ = [
    "Backend",
    "Leading",
    "PackedMasks",
    "as_device",
    "packed_bytes",
    "pick_device",
    "unpacked",
    "unpacked_tiles",
]
