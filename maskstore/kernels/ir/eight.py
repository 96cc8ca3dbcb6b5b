"""Eight 32-bit integers side by side, as a type of Numba's: every operation takes or gives all eight at once.

Results are modulo 2**32, shifts keep the sign. Where Numba does not compile, arrays of numpy's int32 stand for them.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from maskstore.kernels.compile_cache import compiles

LANES = 8


class _Eight(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Eight")


_EIGHT = _Eight()
_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(_I32, LANES)


@register_model(_Eight)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, front: Any) -> None:
        super().__init__(manager, front, _VECTOR)


def _all(builder: Any, value: Any) -> Any:
    """A 64-bit integer's low half in every lane."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), builder.trunc(value, _I32), ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, one, ir.Constant(_VECTOR, [0] * LANES))


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    start = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(start, [index]), _VECTOR.as_pointer())


@intrinsic
def _load(_context, array, index):
    def code(context, builder, signature, arguments):
        value = builder.load(_place(context, builder, signature.args[0], *arguments))
        value.align = 4
        return value

    return _EIGHT(array, types.intp), code


@intrinsic
def _store(_context, array, index, value):
    def code(context, builder, signature, arguments):
        builder.store(arguments[2], _place(context, builder, signature.args[0], *arguments[:2])).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, _EIGHT), code


@intrinsic
def _splat(_context, value):
    return _EIGHT(types.int64), lambda context, builder, signature, arguments: _all(builder, arguments[0])


@intrinsic
def _add(_context, a, b):
    return _EIGHT(_EIGHT, _EIGHT), lambda context, builder, signature, arguments: builder.add(*arguments)


@intrinsic
def _sub(_context, a, b):
    return _EIGHT(_EIGHT, _EIGHT), lambda context, builder, signature, arguments: builder.sub(*arguments)


@intrinsic
def _mul(_context, a, b):
    return _EIGHT(_EIGHT, _EIGHT), lambda context, builder, signature, arguments: builder.mul(*arguments)


@intrinsic
def _shift(_context, a, by):
    def code(context, builder, signature, arguments):
        return builder.ashr(arguments[0], _all(builder, arguments[1]))

    return _EIGHT(_EIGHT, types.int64), code


@intrinsic
def _both(_context, a, b):
    return _EIGHT(_EIGHT, _EIGHT), lambda context, builder, signature, arguments: builder.and_(*arguments)


@intrinsic
def _bits_of(_context, byte):
    """Bit k of an integer in lane k."""

    def code(context, builder, signature, arguments):
        lanes = ir.Constant(_VECTOR, list(range(LANES)))
        return builder.and_(builder.lshr(_all(builder, arguments[0]), lanes), ir.Constant(_VECTOR, [1] * LANES))

    return _EIGHT(types.int64), code


@intrinsic
def _look_up(_context, table, places):
    """The values of a table of integers at eight places, none of which is negative."""

    def code(context, builder, signature, arguments):
        kind = signature.args[0]
        start = context.make_array(kind)(context, builder, arguments[0]).data
        found = ir.Constant(_VECTOR, ir.Undefined)
        for lane in range(LANES):
            place = builder.zext(builder.extract_element(arguments[1], ir.Constant(_I32, lane)), ir.IntType(64))
            value = context.unpack_value(builder, kind.dtype, builder.gep(start, [place]))
            wide = (
                value if value.type == _I32 else builder.zext(value, _I32)
            )  # tables of less than 32 bits are unsigned
            found = builder.insert_element(found, wide, ir.Constant(_I32, lane))
        return found

    return _EIGHT(table, _EIGHT), code


@intrinsic
def _turn(_context, array, index):
    """Eight vectors that follow each other in an array, rows for columns."""

    def code(context, builder, signature, arguments):
        places, rows = [], []
        for row in range(LANES):
            at = builder.add(arguments[1], ir.Constant(arguments[1].type, LANES * row))
            places.append(_place(context, builder, signature.args[0], arguments[0], at))
            rows.append(builder.load(places[-1]))
            rows[-1].align = 4
        for width in (1, 2, 4):
            low = [lane if not lane & width else LANES + lane - width for lane in range(LANES)]
            high = [lane + width if not lane & width else LANES + lane for lane in range(LANES)]
            turned = list(rows)
            for row in range(LANES):
                if not row & width:
                    pair = rows[row], rows[row + width]
                    turned[row] = builder.shuffle_vector(*pair, ir.Constant(_VECTOR, low))
                    turned[row + width] = builder.shuffle_vector(*pair, ir.Constant(_VECTOR, high))
            rows = turned
        for place, row in zip(places, rows, strict=True):
            builder.store(row, place).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp), code


def _chosen(builder: Any, order: str, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed(order, a, b), a, b)


@intrinsic
def _least(_context, a, b):
    return _EIGHT(_EIGHT, _EIGHT), lambda context, builder, signature, arguments: _chosen(builder, "<", *arguments)


@intrinsic
def _most(_context, a, b):
    return _EIGHT(_EIGHT, _EIGHT), lambda context, builder, signature, arguments: _chosen(builder, ">", *arguments)


@intrinsic
def _sums(_context, a, b, c, d, e, f, g, h):
    """The sums of eight vectors, as one vector."""

    def code(context, builder, signature, arguments):
        rows = list(arguments)
        # halves of two vectors side by side, then quarters of two of those, then single lanes
        for width in (4, 2, 1):
            even = ir.Constant(_VECTOR, [lane // width * 2 * width + lane % width for lane in range(LANES)])
            odd = ir.Constant(_VECTOR, [lane // width * 2 * width + lane % width + width for lane in range(LANES)])
            rows = [
                builder.add(builder.shuffle_vector(a, b, even), builder.shuffle_vector(a, b, odd))
                for a, b in zip(rows[::2], rows[1::2], strict=True)
            ]
        return rows[0]

    return _EIGHT(*[_EIGHT] * LANES), code


@intrinsic
def _at(_context, array, index):
    """One value; unlike `array[index]`, without asking whether the index counts from the end."""

    def code(context, builder, signature, arguments):
        kind = signature.args[0]
        start = context.make_array(kind)(context, builder, arguments[0]).data
        return context.unpack_value(builder, kind.dtype, builder.gep(start, [arguments[1]]))

    return array.dtype(array, types.intp), code


@intrinsic
def _put(_context, array, index, value):
    """Set one value of 32 bits, as `_at` gets it."""

    def code(context, builder, signature, arguments):
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        builder.store(builder.trunc(arguments[2], _I32), builder.gep(start, [arguments[1]]))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), code


@intrinsic
def _set_bit(_context, words, index, bit):
    """Set a bit of packed words if `bit` is 1."""

    def code(context, builder, signature, arguments):
        _, index, bit = arguments
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.gep(start, [builder.lshr(index, ir.Constant(index.type, 6))])
        value = builder.shl(bit, builder.and_(index, ir.Constant(index.type, 63)))
        builder.store(builder.or_(builder.load(place), value), place)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), code


def _numpy_set_bit(words: Any, index: int, bit: int) -> None:
    words[index >> 6] |= np.uint64(bit) << np.uint64(index & 63)


def _numpy_put(array: Any, index: int, value: Any) -> None:
    array[index] = value


def _numpy_store(array: Any, index: int, value: Any) -> None:
    array[index : index + LANES] = value


def _numpy_splat(value: int) -> Any:
    return np.full(LANES, value, dtype=np.int64).astype(np.int32)


def _numpy_sums(*vectors: Any) -> Any:
    return np.stack(vectors).sum(axis=1, dtype=np.int32)


def _numpy_turn(array: Any, index: int) -> None:
    array[index : index + LANES * LANES] = array[index : index + LANES * LANES].reshape(LANES, LANES).T.ravel()


def _either(compiled: Any, plain: Any) -> Any:
    return compiled if compiles() else plain


at = _either(_at, lambda array, index: array[index])
put = _either(_put, _numpy_put)
set_bit = _either(_set_bit, _numpy_set_bit)
load = _either(_load, lambda array, index: array[index : index + LANES].copy())
store = _either(_store, _numpy_store)
splat = _either(_splat, _numpy_splat)
add, sub, mul = _either(_add, np.add), _either(_sub, np.subtract), _either(_mul, np.multiply)
shift = _either(_shift, lambda a, by: a >> np.int32(by))
least, most = _either(_least, np.minimum), _either(_most, np.maximum)
sums = _either(_sums, _numpy_sums)
both = _either(_both, np.bitwise_and)
bits_of = _either(_bits_of, lambda byte: (byte >> np.arange(LANES) & 1).astype(np.int32))
look_up = _either(_look_up, lambda table, places: table[places].astype(np.int32))
turn = _either(_turn, _numpy_turn)
