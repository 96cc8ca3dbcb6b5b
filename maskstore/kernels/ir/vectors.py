"""LLVM vector IR for Numba intrinsics: registers of 512 bits, sixteen values of 32 bits.

Each function takes llvmlite's builder first and adds instructions to it. Indices count values, not bytes.
"""

import struct
from math import factorial, log
from typing import Any

from llvmlite import ir

from maskstore.kernels.layout import LANES

I32 = ir.IntType(32)
FLOATS = ir.VectorType(ir.FloatType(), LANES)
INTS = ir.VectorType(I32, LANES)
FLAGS = ir.VectorType(ir.IntType(1), LANES)
ZEROS = ir.Constant(FLOATS, [0.0] * LANES)
_LN2_HIGH = 355 / 512  # few bits, so that n times it is exact


def _rounded(value: float) -> float:
    """What a constant is in float32, which is how LLVM wants it written."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


def data(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    """Where the values of a Numba array begin."""
    return context.make_array(array_type)(context, builder, array).data


def function(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """An LLVM intrinsic, declared once a module."""
    return builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def offset(builder: Any, index: Any, by: int) -> Any:
    """index + by"""
    return builder.add(index, ir.Constant(index.type, by))


def times(builder: Any, index: Any, by: int) -> Any:
    """index * by"""
    return builder.mul(index, ir.Constant(index.type, by))


def prefetch(builder: Any, values: Any, index: Any) -> None:
    """Ask for what is needed soon: the processor itself foresees little of several streams, nothing across pages."""
    pointer = ir.IntType(8).as_pointer()
    call = function(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, I32, I32, I32])
    reading, keep, of_data = (ir.Constant(I32, value) for value in (0, 3, 1))
    builder.call(call, [builder.bitcast(builder.gep(values, [index]), pointer), reading, keep, of_data])


def splat(builder: Any, value: Any) -> Any:
    """A 32-bit value in all lanes."""
    vector = ir.VectorType(value.type, LANES)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, first, ir.Constant(INTS, [0] * LANES))


def _at(builder: Any, values: Any, index: Any, vector: Any) -> Any:
    return builder.bitcast(builder.gep(values, [index]), vector.as_pointer())


def load(builder: Any, values: Any, index: Any, vector: Any = FLOATS) -> Any:
    """A vector from any index on."""
    value = builder.load(_at(builder, values, index, vector))
    value.align = vector.element.width // 8 if isinstance(vector.element, ir.IntType) else 4
    return value


def store(builder: Any, value: Any, values: Any, index: Any) -> None:
    """Write a vector from any index on."""
    width = value.type.element.width // 8 if isinstance(value.type.element, ir.IntType) else 4
    builder.store(value, _at(builder, values, index, value.type)).align = width


def first_lanes(builder: Any, count: Any) -> Any:
    """Flags of the first `count` lanes, for `load_some` and `store_some`; `count` is any integer."""
    lanes = ir.Constant(INTS, list(range(LANES)))
    return builder.icmp_signed("<", lanes, splat(builder, builder.trunc(count, I32)))


def load_some(builder: Any, values: Any, index: Any, flags: Any) -> Any:
    """Sixteen floats, of which only the flagged lanes are read; the others are zero."""
    pointer = FLOATS.as_pointer()
    call = function(builder, "llvm.masked.load.v16f32.p0", FLOATS, [pointer, I32, FLAGS, FLOATS])
    return builder.call(call, [_at(builder, values, index, FLOATS), ir.Constant(I32, 4), flags, ZEROS])


def store_some(builder: Any, value: Any, values: Any, index: Any, flags: Any) -> None:
    """Write the flagged lanes of sixteen floats."""
    pointer = FLOATS.as_pointer()
    arguments = [FLOATS, pointer, I32, FLAGS]
    call = function(builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), arguments)
    builder.call(call, [value, _at(builder, values, index, FLOATS), ir.Constant(I32, 4), flags])


def fused_multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    return builder.call(function(builder, "llvm.fma.v16f32", FLOATS, [FLOATS] * 3), [a, b, c])


def exponential(builder: Any, x: Any) -> Any:
    """e to the power of each lane, to about one unit in the last place; 0 below -104, NaN where x is.

    x = n ln 2 + r with |r| <= ln 2 / 2, and the Taylor series of e^r to the seventh power, whose rest is below 6e-9.
    """

    def constant(value: float) -> Any:
        return ir.Constant(FLOATS, [value] * LANES)

    x = builder.select(builder.fcmp_ordered("<", x, constant(-110.0)), constant(-110.0), x)  # minus infinity has no r
    nearest = function(builder, "llvm.nearbyint.v16f32", FLOATS, [FLOATS])
    n = builder.call(nearest, [builder.fmul(x, constant(_rounded(1 / log(2))))])
    r = fused_multiply_add(builder, n, constant(-_LN2_HIGH), x)
    r = fused_multiply_add(builder, n, constant(-_rounded(log(2) - _LN2_HIGH)), r)
    result = constant(_rounded(1 / factorial(7)))
    for power in range(6, -1, -1):
        result = fused_multiply_add(builder, result, r, constant(_rounded(1 / factorial(power))))
    flags, rounding = ir.IntType(16), ir.Constant(I32, 4)  # all lanes; as the processor rounds now
    scale = function(builder, "llvm.x86.avx512.mask.scalef.ps.512", FLOATS, [FLOATS, FLOATS, FLOATS, flags, I32])
    return builder.call(scale, [result, n, ZEROS, ir.Constant(flags, 0xFFFF), rounding])


def turned(builder: Any, rows: list[Any]) -> list[Any]:
    """16 vectors of 16 values, turned: four rounds of interleaving halves."""
    low = ir.Constant(INTS, [lane // 2 + 16 * (lane % 2) for lane in range(16)])
    high = ir.Constant(INTS, [8 + lane // 2 + 16 * (lane % 2) for lane in range(16)])
    for _ in range(4):
        mixed = []
        for a, b in zip(rows[:8], rows[8:], strict=True):
            mixed += [builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)]
        rows = mixed
    return rows
