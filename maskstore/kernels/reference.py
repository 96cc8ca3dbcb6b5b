"""The hot loops in plain numpy: slow, obvious, and what the fast kernels are tested against."""

import numpy as np
from numpy.typing import NDArray

from maskstore.masks import Interleaved


def unpack_rows(rows: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Bits of packed rows, padding included: `(k, words)` uint64 -> `(k, 64 * words)` uint8."""
    return np.unpackbits(np.ascontiguousarray(rows).astype("<u8", copy=False).view(np.uint8), axis=1, bitorder="little")


def dot(packed: Interleaved, g: NDArray[np.float32], layers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Sum of `g` over the set bits of each of k masks, `(k,)` float32.

    `layers`, `(n, 3)` int64, say with which word of the masks a layer starts, with which value of g, and its size.
    """
    dense = unpack_rows(packed.rows()).astype(np.float64)
    total = np.zeros(len(dense))
    for word, flat, size in layers:
        total += dense[:, 64 * word : 64 * word + size] @ g[flat : flat + size].astype(np.float64)
    return total.astype(np.float32)


def outer_dots(
    packed: Interleaved,
    first_bit: int,
    weights: NDArray[np.float32],
    left: NDArray[np.float32],
    right: NDArray[np.float32],
) -> NDArray[np.float32]:
    """out[b, i] = left[b] @ (weights * M^i) @ right[b]; M^i are mask i's bits from `first_bit` on, in weights' shape.

    weights `(o, n)`, left `(B, o)`, right `(B, n)` -> `(B, k)` float32.
    """
    dense = unpack_rows(packed.rows())[:, first_bit : first_bit + weights.size].reshape(-1, *weights.shape)
    masked = dense * weights.astype(np.float64)
    result: NDArray[np.float32] = np.einsum("bo,kon,bn->bk", left, masked, right, optimize=True).astype(np.float32)
    return result


def weighted_sum(packed: Interleaved, alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of the masks' bits weighted by `alpha`: `(k,)` -> `(64 * words,)` float32."""
    return (alpha.astype(np.float64) @ unpack_rows(packed.rows()).astype(np.float64)).astype(np.float32)


def score_contexts(key: tuple[int, int], signs: NDArray[np.uint64], size: int) -> NDArray[np.uint8]:
    """Contexts of the `SeededScores` prior: 4 * bin + 2 * (score > 0) + (weight > 0), `(size,)` uint8.

    `key` is the address of the scores' random stream (`philox.address_key`), `signs` is packed like a mask layer.
    """
    words = np.random.Philox(key=np.array(key, dtype=np.uint64)).random_raw((size + 1) // 2)
    u = np.asarray(words, dtype="<u8").view("<u4")[:size].astype(np.int64)
    positive = u >= 2**31
    magnitude = np.where(positive, u - 2**31, 2**31 - 1 - u)
    weight = np.unpackbits(signs.astype("<u8", copy=False).view(np.uint8), count=size, bitorder="little")
    return (4 * (magnitude >> 25) + 2 * positive + weight).astype(np.uint8)
