"""Vector primitives of `perceptron.py`, written as LLVM IR: a tile of a matrix product that stays in registers.

    out[r, v] = sum over t of scalars[r, t] * values[t, v]

for 12 rows by two vectors of sixteen v (or 4 rows, or one vector, for what is left over): 24 sums in registers, and for
each t two loads and twelve broadcasts. Any two strides say where a scalar is, so weights are read as they lie both for
W a and for W' delta. Each sum is one chain of fused multiply-adds in the order of t: what comes out depends neither on
the tile it was part of nor on the number of cores.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from maskstore.kernels import LANES
from maskstore.kernels.ir import ZEROS, vectors

ROWS = 12  # rows of a full tile
FEW_ROWS = 4  # rows of the tiles that are left over
WIDTH = 2 * LANES  # values a row of a full tile

# What becomes of a finished sum y; `other` is an array laid out like `out`.
KEEP = 0  # y
RELU = 1  # y, or 0 where y <= 0
GATE = 2  # y, or 0 where other <= 0: the gradient through a ReLU whose outputs are `other`
SCALE = 3  # y * other


@intrinsic
def tile(
    typing_context, scalars, at, row_stride, step_stride, used, values, values_at, values_stride, steps,
    out, out_at, out_stride, other, finish, resume, width, watch,
):  # fmt: skip
    """One tile: `used` rows, ROWS or at most FEW_ROWS, by the first `width` <= WIDTH values; nothing else is touched.

    With `resume` the sums go on from what `out` holds. `watch` has 16 values, of which one becomes NaN where a
    scaled sum (SCALE) is.
    """
    i = types.intp
    signature = types.void(scalars, i, i, i, i, values, i, i, i, out, i, i, other, i, i, i, watch)

    def codegen(context, builder, signature, arguments):
        used, width = arguments[4], arguments[15]
        full = builder.icmp_signed("==", used, ir.Constant(used.type, ROWS))
        wide = builder.icmp_signed(">", width, ir.Constant(width.type, LANES))
        with builder.if_else(full) as branches:
            for rows, of_rows in zip((ROWS, FEW_ROWS), branches, strict=True):
                with of_rows, builder.if_else(wide) as by_width:
                    for count, of_width in zip((2, 1), by_width, strict=True):
                        with of_width:
                            _write_tile(context, builder, signature.args, arguments, rows, count)
        return context.get_dummy_value()

    return signature, codegen


def _write_tile(context: Any, builder: Any, kinds: Any, arguments: Any, rows: int, count: int) -> None:
    """The instructions of `tile` for as many rows of as many vectors."""
    _, at, row_stride, step_stride, used, _, values_at, values_stride, steps = arguments[:9]
    _, out_at, out_stride, _, finish, resume, width, _ = arguments[9:]
    scalar_data, value_data, out_data, other_data, watch_data = (
        vectors.data(context, builder, kinds[k], arguments[k]) for k in (0, 5, 9, 12, 16)
    )
    index = at.type

    def constant(value: int) -> Any:
        return ir.Constant(index, value)

    # rows that are not used compute the last one again and store nothing
    last = builder.sub(used, constant(1))
    number = [constant(row) for row in range(rows)]
    if rows == FEW_ROWS:
        number = [builder.select(builder.icmp_signed("<", row, last), row, last) for row in number]
    starts = [builder.gep(scalar_data, [builder.add(at, builder.mul(row, row_stride))]) for row in number]
    places = [builder.add(out_at, builder.mul(row, out_stride)) for row in number]
    some = vectors.first_lanes(builder, builder.sub(width, constant(LANES * (count - 1))))
    sums = [[cgutils.alloca_once_value(builder, ZEROS) for _ in range(count)] for _ in range(rows)]

    def each() -> Any:
        """The tile's vectors: row, where its index in `out` is, and its sum."""
        for row in range(rows):
            for vector in range(count):
                yield row, builder.add(places[row], constant(LANES * vector)), sums[row][vector], vector

    def read(data: Any, place: Any, vector: int) -> Any:
        whole = vector < count - 1
        return vectors.load(builder, data, place) if whole else vectors.load_some(builder, data, place, some)

    with builder.if_then(cgutils.is_not_null(builder, resume)):
        for _, place, total, vector in each():
            builder.store(read(out_data, place, vector), total)
    with cgutils.for_range(builder, steps) as loop:
        step = builder.mul(loop.index, step_stride)
        where = builder.add(values_at, builder.mul(loop.index, values_stride))
        right = [
            vectors.load(builder, value_data, builder.add(where, constant(LANES * vector))) for vector in range(count)
        ]
        for row in range(rows):
            left = vectors.splat(builder, builder.load(builder.gep(starts[row], [step])))
            for vector in range(count):
                total = sums[row][vector]
                added = vectors.fused_multiply_add(builder, left, right[vector], builder.load(total))
                builder.store(added, total)

    def finished(kind: int, total: Any, place: Any, vector: int) -> Any:
        value = builder.load(total)
        if kind == KEEP:
            return value
        if kind == SCALE:
            return builder.fmul(value, read(other_data, place, vector))
        gate = value if kind == RELU else read(other_data, place, vector)
        # ordered: what is not a number passes, as in torch
        return builder.select(builder.fcmp_ordered("<=", gate, ZEROS), ZEROS, value)

    for kind in (KEEP, RELU, GATE, SCALE):
        with builder.if_then(builder.icmp_signed("==", finish, constant(kind))):
            if kind == SCALE:
                seen = cgutils.alloca_once_value(builder, vectors.load(builder, watch_data, constant(0)))
            for row, place, total, vector in each():
                with builder.if_then(builder.icmp_signed("<", constant(row), used)):
                    value = finished(kind, total, place, vector)
                    if vector < count - 1:
                        vectors.store(builder, value, out_data, place)
                    else:
                        vectors.store_some(builder, value, out_data, place, some)
                    if kind == SCALE:
                        bad = builder.fcmp_unordered("uno", value, value)
                        builder.store(builder.select(bad, value, builder.load(seen)), seen)
            if kind == SCALE:
                vectors.store(builder, builder.load(seen), watch_data, constant(0))


@intrinsic
def turn_square(typing_context, source, at, stride, rows, columns, target, target_at, target_stride):
    """target[target_at + target_stride * c + r] = source[at + stride * r + c] for 16 rows and columns.

    Of the source only the first `rows` and `columns` are read, 1 to 16 of each; in the target the others become copies
    of the last row, and zeros.
    """
    i = types.intp
    signature = types.void(source, i, i, i, i, target, i, i)

    def codegen(context, builder, signature, arguments):
        source_data = vectors.data(context, builder, signature.args[0], arguments[0])
        target_data = vectors.data(context, builder, signature.args[5], arguments[5])
        _, at, stride, rows, columns, _, target_at, target_stride = arguments
        some = vectors.first_lanes(builder, columns)
        last = builder.sub(rows, ir.Constant(rows.type, 1))
        read = []
        for lane in range(LANES):
            row = ir.Constant(rows.type, lane)
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            read.append(vectors.load_some(builder, source_data, builder.add(at, builder.mul(row, stride)), some))
        for lane, value in enumerate(vectors.turned(builder, read)):
            place = builder.add(target_at, builder.mul(ir.Constant(rows.type, lane), target_stride))
            vectors.store(builder, value, target_data, place)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def copy_vector(typing_context, source, at, lanes, target, target_at):
    """target[target_at : target_at + 16] = the first `lanes` values from source[at] on, then zeros."""
    signature = types.void(source, types.intp, types.intp, target, types.intp)

    def codegen(context, builder, signature, arguments):
        source_data = vectors.data(context, builder, signature.args[0], arguments[0])
        target_data = vectors.data(context, builder, signature.args[3], arguments[3])
        value = vectors.load_some(builder, source_data, arguments[1], vectors.first_lanes(builder, arguments[2]))
        vectors.store(builder, value, target_data, arguments[4])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def exponential_of_difference(typing_context, values, at, less, less_at, out, out_at):
    """out[out_at + i] = exp(values[at + i] - less[less_at + i]) for 16 i; their difference is at most 0, or NaN."""
    i = types.intp
    signature = types.void(values, i, less, i, out, i)

    def codegen(context, builder, signature, arguments):
        value_data, less_data, out_data = (
            vectors.data(context, builder, signature.args[k], arguments[k]) for k in (0, 2, 4)
        )
        value = vectors.load(builder, value_data, arguments[1])
        difference = builder.fsub(value, vectors.load(builder, less_data, arguments[3]))
        vectors.store(builder, vectors.exponential(builder, difference), out_data, arguments[5])
        return context.get_dummy_value()

    return signature, codegen
