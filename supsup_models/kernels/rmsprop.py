"""One pass over all scores: straight-through gradient, RMSProp, threshold and effective weights.

    q = dL/d(W M) * W;  v = alpha v + (1 - alpha) q²;  s = s - lr q / (sqrt(v) + eps);  W M = W [s >= 0]

Torch needs eight passes for this, and one core with this loop is faster than two with those. With this many arrays
Numba's own vectoriser gives up (it must prove that none overlaps another), so the loop's body is written as LLVM vector
IR, without reassociation.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES = 16
_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_FLOATS = ir.VectorType(_F32, LANES)
_INTS = ir.VectorType(_I32, LANES)
_SHORTS = ir.VectorType(ir.IntType(16), LANES)
_SIXTEEN = ir.Constant(_INTS, [16] * LANES)


def _splat(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, first, ir.Constant(_INTS, [0] * LANES))


def _pointer(builder: Any, data: Any, index: Any, vector: Any) -> Any:
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _load(builder: Any, data: Any, index: Any, vector: Any = _FLOATS) -> Any:
    value = builder.load(_pointer(builder, data, index, vector))
    value.align = 2 if vector is _SHORTS else 4
    return value


def _store(builder: Any, value: Any, data: Any, index: Any) -> None:
    builder.store(value, _pointer(builder, data, index, value.type)).align = 2 if value.type == _SHORTS else 4


@intrinsic
def _update_vectors(typing_context, gradient, weights, scores, square, effective, vectors, constants):
    """The module's formula for `vectors` times 16 scores; constants = (lr, alpha, 1 - alpha, eps).

    `gradient` and `effective` are float32, or uint16 that hold bfloat16 (then W must be exact in bfloat16).
    """
    signature = types.void(gradient, weights, scores, square, effective, types.intp, constants)
    half = gradient.dtype == types.uint16

    def codegen(context, builder, signature, arguments):
        arrays = [
            context.make_array(kind)(context, builder, array).data
            for kind, array in zip(signature.args[:5], arguments[:5], strict=True)
        ]
        gradient, weights, scores, square, effective = arrays
        constant_data = context.make_array(signature.args[6])(context, builder, arguments[6]).data
        index_type = arguments[5].type
        rate, alpha, beta, eps = (
            _splat(builder, builder.load(builder.gep(constant_data, [ir.Constant(index_type, i)]))) for i in range(4)
        )
        sqrt_type = ir.FunctionType(_FLOATS, [_FLOATS])
        sqrt = builder.module.globals.get("llvm.sqrt.v16f32") or ir.Function(
            builder.module, sqrt_type, "llvm.sqrt.v16f32"
        )
        zero = ir.Constant(_FLOATS, [0.0] * LANES)
        with cgutils.for_range(builder, arguments[5]) as loop:
            at = builder.mul(loop.index, ir.Constant(index_type, LANES))
            if half:
                wide = builder.zext(_load(builder, gradient, at, _SHORTS), _INTS)
                g = builder.bitcast(builder.shl(wide, _SIXTEEN), _FLOATS)
            else:
                g = _load(builder, gradient, at)
            w = _load(builder, weights, at)
            q = builder.fmul(g, w)
            v = builder.fadd(builder.fmul(alpha, _load(builder, square, at)), builder.fmul(beta, builder.fmul(q, q)))
            _store(builder, v, square, at)
            step = builder.fdiv(q, builder.fadd(builder.call(sqrt, [v]), eps))
            s = builder.fsub(_load(builder, scores, at), builder.fmul(rate, step))
            _store(builder, s, scores, at)
            kept = builder.select(builder.fcmp_ordered(">=", s, zero), w, zero)
            if half:
                kept = builder.trunc(builder.lshr(builder.bitcast(kept, _INTS), _SIXTEEN), _SHORTS)
            _store(builder, kept, effective, at)
        return context.get_dummy_value()

    return signature, codegen


@njit(cache=True, nogil=True)
def _update(gradient, weights, scores, square, effective, constants):
    _update_vectors(gradient, weights, scores, square, effective, scores.size // 16, constants)


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


def reference_update(
    gradient: NDArray[np.float32],
    weights: NDArray[np.float32],
    scores: NDArray[np.float32],
    square: NDArray[np.float32],
    effective: NDArray[np.float32],
    *,
    learning_rate: float,
    alpha: float,
    eps: float,
) -> None:
    """`update` for float32, in plain numpy: the obvious twin."""
    rate, decay, rest, tiny = (np.float32(value) for value in (learning_rate, alpha, 1.0 - alpha, eps))
    q = gradient * weights
    square[:] = decay * square + rest * (q * q)
    scores -= rate * (q / (np.sqrt(square) + tiny))
    effective[:] = np.where(scores >= 0, weights, np.float32(0))
