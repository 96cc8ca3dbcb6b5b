"""Contexts of seeded scores on the CPU: Philox's random words are made and binned in registers, never stored."""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from maskstore.kernels.compile_cache import compiled

# the constants of Philox4x64 (Salmon et al. 2011)
PHILOX_M0, PHILOX_M1 = 0xD2E7470EE14C6C93, 0xCA5A826395121157
PHILOX_W0, PHILOX_W1 = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B


@intrinsic
def _high_product(typing_context, a, b):
    """The upper 64 bits of a 64 x 64 bit product."""
    signature = types.uint64(types.uint64, types.uint64)

    def codegen(context, builder, signature, arguments):
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return signature, codegen


@njit(inline="always")
def _score_context(u, weight):
    positive = u >> np.uint32(31)
    # |2u + 1 - 2**32| grows with u above the middle and with ~u below it: fold both onto 31 bits
    magnitude = (u if positive else ~u) & np.uint32(0x7FFFFFFF)
    return (magnitude >> np.uint32(25)) << np.uint32(2) | positive << np.uint32(1) | np.uint32(weight)


@compiled
def _score_contexts(key0, key1, start, signs, out):
    words = np.empty(4, dtype=np.uint64)
    for block in range((out.size + 7) // 8):
        c0, c1, c2, c3 = start + np.uint64(block + 1), np.uint64(0), np.uint64(0), np.uint64(0)
        k0, k1 = key0, key1
        for _ in range(10):
            high0, high1 = _high_product(c0, np.uint64(PHILOX_M0)), _high_product(c2, np.uint64(PHILOX_M1))
            low0, low1 = c0 * np.uint64(PHILOX_M0), c2 * np.uint64(PHILOX_M1)
            c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
            k0, k1 = k0 + np.uint64(PHILOX_W0), k1 + np.uint64(PHILOX_W1)
        words[0], words[1], words[2], words[3] = c0, c1, c2, c3
        first = 8 * block
        byte = signs[first >> 6] >> np.uint64(first & 63)
        for j in range(min(8, out.size - first)):
            u = np.uint32(words[j >> 1] >> np.uint64(32 * (j & 1)))
            out[first + j] = _score_context(u, (byte >> np.uint64(j)) & np.uint64(1))


def score_contexts(key: tuple[int, int], signs: NDArray[np.uint64], size: int, start: int = 0) -> NDArray[np.uint8]:
    """As `reference.score_contexts`; the random words are made and used in registers, never stored."""
    out = np.empty(size, dtype=np.uint8)
    _score_contexts(np.uint64(key[0]), np.uint64(key[1]), np.uint64(start // 8), signs, out)
    return out
