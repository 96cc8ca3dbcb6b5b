"""Packed masks in torch: their products on the CPU and on a GPU (`docs/gpu.md`); devices; torch's own pruning."""

from maskstore.errors import needing

with needing("torch", "maskstore.torch"):
    import torch as _torch  # noqa: F401

from maskstore.torch.devices import as_device, pick_device
from maskstore.torch.packed import Backend, Leading, PackedMasks, packed_bytes, unpacked, unpacked_tiles
from maskstore.torch.pruning import prune_by, pruned_mask

__all__ = [
    "Backend",
    "Leading",
    "PackedMasks",
    "as_device",
    "packed_bytes",
    "pick_device",
    "prune_by",
    "pruned_mask",
    "unpacked",
    "unpacked_tiles",
]
