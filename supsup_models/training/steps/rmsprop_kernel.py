"""One pass over all scores: straight-through gradient, RMSProp, threshold and effective weights.

    q = dL/d(W M) * W;  v = alpha v + (1 - alpha) q²;  s = s - lr q / (sqrt(v) + eps);  W M = W [s >= 0]

Torch needs eight passes for this, and one core with this loop is faster than two with those. With this many arrays
Numba's own vectoriser gives up (it must prove that none overlaps another), so the loop's body is written as LLVM vector
IR, without reassociation.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from maskstore.kernels import LANES, compiled, compiles, cpu_features
from maskstore.kernels.ir import FLOATS, INTS, ZEROS, data, function, load, splat, store

_SHORTS = ir.VectorType(ir.IntType(16), LANES)
_SIXTEEN = ir.Constant(INTS, [16] * LANES)


@intrinsic
def _update_vectors(typing_context, gradient, weights, scores, square, effective, vectors, constants):
    """The module's formula for `vectors` times 16 scores; constants = (lr, alpha, 1 - alpha, eps).

    `gradient` and `effective` are float32, or uint16 that hold bfloat16 (then W must be exact in bfloat16).
    """
    signature = types.void(gradient, weights, scores, square, effective, types.intp, constants)
    half = gradient.dtype == types.uint16

    def codegen(context, builder, signature, arguments):
        arrays = [
            data(context, builder, kind, array) for kind, array in zip(signature.args[:5], arguments[:5], strict=True)
        ]
        gradient, weights, scores, square, effective = arrays
        constant_data = data(context, builder, signature.args[6], arguments[6])
        index_type = arguments[5].type
        rate, alpha, beta, eps = (
            splat(builder, builder.load(builder.gep(constant_data, [ir.Constant(index_type, i)]))) for i in range(4)
        )
        sqrt = function(builder, "llvm.sqrt.v16f32", FLOATS, [FLOATS])
        with cgutils.for_range(builder, arguments[5]) as loop:
            at = builder.mul(loop.index, ir.Constant(index_type, LANES))
            if half:
                wide = builder.zext(load(builder, gradient, at, _SHORTS), INTS)
                g = builder.bitcast(builder.shl(wide, _SIXTEEN), FLOATS)
            else:
                g = load(builder, gradient, at)
            w = load(builder, weights, at)
            q = builder.fmul(g, w)
            v = builder.fadd(builder.fmul(alpha, load(builder, square, at)), builder.fmul(beta, builder.fmul(q, q)))
            store(builder, v, square, at)
            step = builder.fdiv(q, builder.fadd(builder.call(sqrt, [v]), eps))
            s = builder.fsub(load(builder, scores, at), builder.fmul(rate, step))
            store(builder, s, scores, at)
            kept = builder.select(builder.fcmp_ordered(">=", s, ZEROS), w, ZEROS)
            if half:
                kept = builder.trunc(builder.lshr(builder.bitcast(kept, INTS), _SIXTEEN), _SHORTS)
            store(builder, kept, effective, at)
        return context.get_dummy_value()

    return signature, codegen


@compiled
def _update(gradient, weights, scores, square, effective, constants):
    _update_vectors(gradient, weights, scores, square, effective, scores.size // 16, constants)


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware, and Numba compiles what goes with it."""
    return compiles() and bool(cpu_features() & {"amx-bf16", "avx512bf16"})


def padded(size: int) -> int:
    """Length of the buffers for `size` scores: whole vectors."""
    return -(-size // LANES) * LANES


def update(
    gradient: NDArray[Any],
    weights: NDArray[np.float32],
    scores: NDArray[np.float32],
    square: NDArray[np.float32],
    effective: NDArray[Any],
    *,
    learning_rate: float,
    alpha: float,
    eps: float,
) -> None:
    """The module's formula, in place on `scores`, `square` and `effective`; all flat, of one `padded` length.

    `gradient` is dL/d(W M). It and `effective` are float32, or uint16 that hold bfloat16; for the latter the weights
    must be exact in bfloat16.
    """
    constants = np.array([learning_rate, alpha, 1.0 - alpha, eps], dtype=np.float32)
    _update(gradient, weights, scores, square, effective, constants)
