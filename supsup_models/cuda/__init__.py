"""Packed masks on a GPU: Triton kernels, and plain torch where Triton or the GPU is missing. See `docs/gpu.md`."""

from supsup_models.cuda.packed import PackedRows

__all__ = ["PackedRows"]
