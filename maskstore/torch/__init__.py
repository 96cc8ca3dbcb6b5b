"""Packed masks on a GPU: Triton kernels, and plain torch where Triton or the GPU is missing. See `docs/gpu.md`."""

from maskstore.torch.devices import as_device
from maskstore.torch.packed import PackedRows

__all__ = ["PackedRows", "as_device"]
