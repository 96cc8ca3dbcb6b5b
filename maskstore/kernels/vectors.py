"""Words of LLVM IR that the vector primitives of the kernels are written in: sixteen values side by side."""

from typing import Any

from llvmlite import ir

from maskstore.interleaved import LANES

I32 = ir.IntType(32)
FLOATS = ir.VectorType(ir.FloatType(), LANES)
INTS = ir.VectorType(I32, LANES)


def data_of(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, array).data


def _vector_at(builder: Any, data: Any, index: Any, vector: Any) -> Any:
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def load(builder: Any, data: Any, index: Any, vector: Any) -> Any:
    value = builder.load(_vector_at(builder, data, index, vector))
    value.align = 4
    return value


def store(builder: Any, value: Any, data: Any, index: Any) -> None:
    builder.store(value, _vector_at(builder, data, index, value.type)).align = 4


def function(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    return builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def prefetch(builder: Any, data: Any, index: Any) -> None:
    """Ask for what is needed soon: the processor itself foresees little of several blocks, and nothing across pages."""
    byte_pointer = ir.IntType(8).as_pointer()
    prefetch = function(builder, "llvm.prefetch.p0", ir.VoidType(), [byte_pointer, I32, I32, I32])
    reading, keep, of_data = (ir.Constant(I32, value) for value in (0, 3, 1))
    builder.call(prefetch, [builder.bitcast(builder.gep(data, [index]), byte_pointer), reading, keep, of_data])


def offset(builder: Any, index: Any, by: int) -> Any:
    return builder.add(index, ir.Constant(index.type, by))


def times(builder: Any, index: Any, by: int) -> Any:
    return builder.mul(index, ir.Constant(index.type, by))


def splat(builder: Any, value: Any) -> Any:
    lanes = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), value, ir.Constant(I32, 0))
    return builder.shuffle_vector(lanes, lanes, ir.Constant(INTS, [0] * LANES))
