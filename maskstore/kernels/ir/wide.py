"""Products of 128 bits, as functions of Numba's."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from maskstore.kernels.compile_cache import compiles


@intrinsic
def _high_product(_context, a, b):
    def code(context, builder, signature, arguments):
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), code


def _numpy_high_product(a: np.uint64, b: np.uint64) -> np.uint64:
    return np.uint64(int(a) * int(b) >> 64)


high_product = _high_product if compiles() else _numpy_high_product
"""The upper 64 bits of a product of two unsigned integers of 64 bits."""
