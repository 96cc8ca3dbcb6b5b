"""Packed masks in torch: their products on the CPU and on a GPU (`docs/gpu.md`), and devices by name."""

from maskstore.torch.devices import as_device
from maskstore.torch.packed import Backend, PackedMasks, packed_bytes, tiles, unpacked

__all__ = ["Backend", "PackedMasks", "as_device", "packed_bytes", "tiles", "unpacked"]
