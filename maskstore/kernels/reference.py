"""The hot loops in plain numpy: slow, obvious, and what the fast kernels are tested against."""

import numpy as np
from numpy.typing import NDArray


def unpack_rows(rows: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Bits of packed rows, padding included: `(k, words)` uint64 -> `(k, 64 * words)` uint8."""
    return np.unpackbits(np.ascontiguousarray(rows).astype("<u8", copy=False).view(np.uint8), axis=1, bitorder="little")


def dot(rows: NDArray[np.uint64], g: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of `g` over the set bits of each row: `(k, words)`, `(64 * words,)` -> `(k,)` float32."""
    return (unpack_rows(rows).astype(np.float64) @ g.astype(np.float64)).astype(np.float32)


def weighted_sum(rows: NDArray[np.uint64], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of the rows' bits weighted by `alpha`: `(k, words)`, `(k,)` -> `(64 * words,)` float32."""
    return (alpha.astype(np.float64) @ unpack_rows(rows).astype(np.float64)).astype(np.float32)
