"""Products with arrays that are mostly one number, given as lists of what else they hold, and the making of such lists.

A list has places and values, and as many more zeros as make a multiple of two. Sums stay in registers.
"""

from itertools import chain
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from maskstore.kernels.compile_cache import compiled
from maskstore.kernels.ir.vectors import ZEROS, data, function, load, offset, splat, store, times, turned
from maskstore.kernels.layout import LANES

WIDTH = 2  # vectors of columns, of which a few hundred rows stay in the nearest cache
CHAINS = 2  # sums that do not wait for one another; lists have a multiple of so many values
_COLUMNS = WIDTH * LANES
_TURNED = 16  # rows that are turned together


def _sum_of_list(width: int) -> Any:
    @intrinsic
    def sum_of_list(typing_context, places, values, first, last, dense, stride, column, out, at):
        """out[at + c] = sum of values[i] * dense[places[i] * stride + column + c], first <= i < last; c < 16 width."""
        index = types.intp
        signature = types.void(places, values, index, index, dense, index, index, out, index)

        def codegen(context, builder, signature, arguments):
            place_data, value_data, dense_data, out_data = (
                data(context, builder, signature.args[i], arguments[i]) for i in (0, 1, 4, 7)
            )
            _, _, first, last, _, stride, column, _, at = arguments
            totals = [[cgutils.alloca_once_value(builder, ZEROS) for _ in range(width)] for _ in range(CHAINS)]
            for total in chain.from_iterable(totals):
                builder.store(ZEROS, total)
            with cgutils.for_range_slice(builder, first, last, ir.Constant(first.type, CHAINS)) as (i, _):
                for number, some in enumerate(totals):
                    here = offset(builder, i, number)
                    place = builder.sext(builder.load(builder.gep(place_data, [here])), first.type)
                    value = splat(builder, builder.load(builder.gep(value_data, [here])))
                    start = builder.add(builder.mul(place, stride), column)
                    for vector, total in enumerate(some):
                        row = load(builder, dense_data, offset(builder, start, LANES * vector))
                        builder.store(builder.fadd(builder.load(total), builder.fmul(value, row)), total)
            for vector, (one, other) in enumerate(zip(*totals, strict=True)):
                both = builder.fadd(builder.load(one), builder.load(other))
                store(builder, both, out_data, offset(builder, at, LANES * vector))
            return context.get_dummy_value()

        return signature, codegen

    return sum_of_list


@intrinsic
def _put_turned(typing_context, sums, at, stride, base, first, out, start, apart):
    """out[start + apart * c + r] = base[first + c] + sums[at + stride * r + c], for r and c below 16."""
    index = types.intp
    signature = types.void(sums, index, index, base, index, out, index, index)

    def codegen(context, builder, signature, arguments):
        sum_data, base_data, out_data = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 3, 5))
        _, at, stride, _, first, _, start, apart = arguments
        rows = [load(builder, sum_data, builder.add(at, times(builder, stride, row))) for row in range(LANES)]
        for column, values in enumerate(turned(builder, rows)):
            more = splat(builder, builder.load(builder.gep(base_data, [offset(builder, first, column)])))
            place = builder.add(start, times(builder, apart, column))
            store(builder, builder.fadd(values, more), out_data, place)
        return context.get_dummy_value()

    return signature, codegen


def _flags(holds: Any) -> Any:
    @intrinsic
    def flags(typing_context, values, index, number):
        """Of values[index + l] and a number, whether something holds, as bit l of an integer, l < 16."""

        def codegen(context, builder, signature, arguments):
            values = load(builder, data(context, builder, signature.args[0], arguments[0]), arguments[1])
            found = holds(builder, values, splat(builder, arguments[2]))
            return builder.zext(builder.bitcast(found, ir.IntType(LANES)), ir.IntType(64))

        return types.int64(values, types.intp, types.float32), codegen

    return flags


_reach = _flags(lambda builder, values, number: builder.fcmp_ordered(">=", values, number))
_differ = _flags(lambda builder, values, number: builder.fcmp_unordered("!=", values, number))


@intrinsic
def _lowest(typing_context, bits):
    """The place of the lowest set bit of an integer that has one."""

    def codegen(context, builder, signature, arguments):
        wide = ir.IntType(64)
        count = function(builder, "llvm.cttz.i64", wide, [wide, ir.IntType(1)])
        return builder.call(count, [arguments[0], ir.Constant(ir.IntType(1), 1)])

    return types.int64(types.int64), codegen


_one, _two = (_sum_of_list(width) for width in range(1, WIDTH + 1))


@compiled(fastmath={"contract", "nsz"})
def _some_columns(places, values, first, last, dense, stride, column, width, out, at):
    if width == WIDTH:
        _two(places, values, first, last, dense, stride, column, out, at)
    else:
        _one(places, values, first, last, dense, stride, column, out, at)


@compiled(fastmath={"contract", "nsz"})
def products(starts, places, values, dense, stride, out):
    """out[r] = sum over row r's list of value * dense[place]; dense and out are flat, of rows of `stride`."""
    for column in range(0, stride, _COLUMNS):
        width = min(WIDTH, (stride - column) // LANES)
        for row in range(starts.size - 1):
            first, last = starts[row], starts[row + 1]
            _some_columns(places, values, first, last, dense, stride, column, width, out, row * stride + column)


@compiled(fastmath={"contract", "nsz"})
def turned_products(starts, places, values, dense, stride, base, out):
    """out[:, r] = base + sum over row r's list of value * dense[place]; dense is flat, of rows of `stride`."""
    rows, columns = starts.size - 1, base.size
    sums = np.empty(_TURNED * _COLUMNS, dtype=np.float32)
    for column in range(0, stride, _COLUMNS):
        width = min(WIDTH, (stride - column) // LANES)
        for start in range(0, rows, _TURNED):
            stop = min(start + _TURNED, rows)
            for row in range(start, stop):
                first, last = starts[row], starts[row + 1]
                at = (row - start) * _COLUMNS
                _some_columns(places, values, first, last, dense, stride, column, width, sums, at)
            turned_columns = 0
            if stop - start == _TURNED:
                while turned_columns < _COLUMNS and column + turned_columns + LANES <= columns:
                    here = column + turned_columns
                    _put_turned(sums, turned_columns, _COLUMNS, base, here, out, here * rows + start, rows)
                    turned_columns += LANES
            for c in range(turned_columns, min(_COLUMNS, columns - column)):
                here = (column + c) * rows + start
                for row in range(stop - start):
                    out[here + row] = base[column + c] + sums[row * _COLUMNS + c]


@compiled(fastmath={"contract", "nsz"})
def transposed_products(starts, places, values, dense, stride, out):
    """out[place] += value * dense[r] over row r's list; dense and out are flat, of rows of `stride`."""
    for row in range(starts.size - 1):
        more = dense[row * stride : (row + 1) * stride]
        for i in range(starts[row], starts[row + 1]):
            value, sums = values[i], out[places[i] * stride : (places[i] + 1) * stride]
            for column in range(stride):
                sums[column] += value * more[column]


@compiled
def turned_copy(dense, columns, zeros, out):
    """out[c, r] = dense[r, c]; both flat, and dense has `columns` of them."""
    rows = dense.size // columns
    for row in range(0, rows // LANES * LANES, LANES):
        for column in range(0, columns // LANES * LANES, LANES):
            _put_turned(dense, row * columns + column, columns, zeros, 0, out, column * rows + row, rows)
        for column in range(columns // LANES * LANES, columns):
            for other in range(row, row + LANES):
                out[column * rows + other] = dense[other * columns + column]
    for row in range(rows // LANES * LANES, rows):
        for column in range(columns):
            out[column * rows + row] = dense[row * columns + column]


@compiled
def _whole(places, values, count):
    """Fill a list up with zeros to whole chains; how long it is then."""
    while count % CHAINS:
        places[count], values[count] = 0, 0.0
        count += 1
    return count


@compiled
def list_values(dense, columns, background, starts, places, values):
    """Lists of what is not the background in each row of flat `dense`, less the background."""
    count, whole = 0, columns // LANES * LANES
    for row in range(starts.size - 1):
        starts[row], at = count, row * columns
        for column in range(0, whole, LANES):
            bits = _differ(dense, at + column, background)
            while bits:
                place = column + _lowest(bits)
                bits &= bits - 1
                places[count], values[count] = place, dense[at + place] - background
                count += 1
        for column in range(whole, columns):
            if dense[at + column] != background:
                places[count], values[count] = column, dense[at + column] - background
                count += 1
        count = _whole(places, values, count)
    starts[starts.size - 1] = count


@compiled
def list_kept(scores, columns, threshold, signs, starts, places, values):
    """Lists of the signs whose score reaches the threshold; both flat."""
    count, whole = 0, columns // LANES * LANES
    for row in range(starts.size - 1):
        starts[row], at = count, row * columns
        for column in range(0, whole, LANES):
            bits = _reach(scores, at + column, threshold)
            while bits:
                place = column + _lowest(bits)
                bits &= bits - 1
                places[count], values[count] = place, signs[at + place]
                count += 1
        for column in range(whole, columns):
            if scores[at + column] >= threshold:
                places[count], values[count] = column, signs[at + column]
                count += 1
        count = _whole(places, values, count)
    starts[starts.size - 1] = count
