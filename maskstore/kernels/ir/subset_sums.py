"""Vector primitives of `lookup.py`, written as LLVM IR: sixteen masks side by side in registers of 512 bits.

A *chunk* is 32 neighbouring bits. Its 32 values of g are summed into tables, one for every 4 or 5 of them, of all
subset sums: 16 float32 fill one register, 32 fill two. With the chunk's bits of sixteen masks in another register, one
permutation (`vpermps` heeds the low 4 bits of each index, `vpermi2ps` on two registers the low 5) looks up all sixteen
masks' sums at once. Widths of 5, 5, 5, 5, 4, 4 and 4 bits take seven lookups and eleven registers, which leaves enough
of the 32 for the rest; eight tables of 4 bits were slower by a tenth.

Masks lie side by side in memory for this (`maskstore.masks.interleave`). No reassociation: sums are added in the order
that stands here.
"""

from itertools import accumulate
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from maskstore.kernels.ir.vectors import FLOATS, INTS, data, function, load, offset, prefetch, splat, store, times
from maskstore.kernels.layout import CHUNK, LANES

GROUPS = 4  # blocks of 16 masks that share the loads of a chunk's tables
_AHEAD = 16  # chunks from which on a block is asked for early: a kilobyte, about what two cores can wait for at once
_WIDTHS = (5, 5, 5, 5, 4, 4, 4)  # bits of a chunk that each table stands for
_STARTS = tuple(accumulate(_WIDTHS[:-1], initial=0))
TABLES = sum(1 + (width == 5) for width in _WIDTHS)  # registers of tables a chunk
TABLE_FLOATS = TABLES * LANES


def _tables(builder: Any, values: list[Any]) -> list[Any]:
    """The tables of 32 values: entry e is the sum of the values whose bit is set in e, ((v0 + v1) + (v2 + v3)) + v4."""
    zero = ir.Constant(FLOATS, [0.0] * LANES)
    tables = []
    for start, width in zip(_STARTS, _WIDTHS, strict=True):
        spread = []
        for bit, value in enumerate(values[start : start + 4]):
            member = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [entry >> bit & 1 for entry in range(LANES)])
            spread.append(builder.select(member, splat(builder, value), zero))
        tables.append(builder.fadd(builder.fadd(spread[0], spread[1]), builder.fadd(spread[2], spread[3])))
        if width == 5:
            tables.append(builder.fadd(tables[-1], splat(builder, values[start + 4])))
    return tables


def _lookups(builder: Any, tables: list[Any], indices: Any) -> Any:
    """The sum of the entries that the 32 bits of each lane point at; added in pairs."""
    one = function(builder, "llvm.x86.avx512.permvar.sf.512", FLOATS, [FLOATS, INTS])
    two = function(builder, "llvm.x86.avx512.vpermi2var.ps.512", FLOATS, [FLOATS, INTS, FLOATS])
    remaining, found = iter(tables), []
    for start, width in zip(_STARTS, _WIDTHS, strict=True):
        shifted = builder.lshr(indices, ir.Constant(INTS, [start] * LANES)) if start else indices
        low = next(remaining)
        found.append(
            builder.call(two, [low, shifted, next(remaining)]) if width == 5 else builder.call(one, [low, shifted])
        )
    while len(found) > 1:
        pairs = [builder.fadd(a, b) for a, b in zip(found[::2], found[1::2], strict=False)]
        found = pairs + found[2 * len(pairs) :]
    return found[0]


def _values(builder: Any, values: Any, at: Any) -> list[Any]:
    return [builder.load(builder.gep(values, [offset(builder, at, bit)])) for bit in range(CHUNK)]


@intrinsic
def make_tables(typing_context, values, at, tables, chunk):
    """tables[TABLE_FLOATS * chunk ...] = the tables of values[at : at + 32]."""
    signature = types.void(values, types.intp, tables, types.intp)

    def codegen(context, builder, signature, arguments):
        source = data(context, builder, signature.args[0], arguments[0])
        target = data(context, builder, signature.args[2], arguments[2])
        where = times(builder, arguments[3], TABLE_FLOATS)
        for number, table in enumerate(_tables(builder, _values(builder, source, arguments[1]))):
            store(builder, table, target, offset(builder, where, LANES * number))
        return context.get_dummy_value()

    return signature, codegen


def _add_chunks_of(groups: int) -> Any:
    @intrinsic
    def add_chunks(typing_context, tables, bits, at, stride, count, sums):
        """sums[16 i + l] += the sums of `count` chunks for lane l of the i-th of some blocks, i < groups.

        The chunks of block i start at bits[at + stride * i], and tables[0] belongs to the first of them.
        """
        signature = types.void(tables, bits, types.intp, types.intp, types.intp, sums)

        def codegen(context, builder, signature, arguments):
            table_data = data(context, builder, signature.args[0], arguments[0])
            bit_data = data(context, builder, signature.args[1], arguments[1])
            sum_data = data(context, builder, signature.args[5], arguments[5])
            _, _, at, stride, count, _ = arguments
            places = [ir.Constant(at.type, LANES * group) for group in range(groups)]
            totals = [cgutils.alloca_once_value(builder, load(builder, sum_data, place, FLOATS)) for place in places]
            with cgutils.for_range(builder, count) as loop:
                where = times(builder, loop.index, TABLE_FLOATS)
                tables = [
                    load(builder, table_data, offset(builder, where, LANES * number), FLOATS)
                    for number in range(TABLES)
                ]
                chunk = builder.add(at, times(builder, loop.index, LANES))
                for group, total in enumerate(totals):
                    here = builder.add(chunk, times(builder, stride, group))
                    bits = load(builder, bit_data, here, INTS)
                    prefetch(builder, bit_data, offset(builder, here, _AHEAD * LANES))
                    builder.store(builder.fadd(builder.load(total), _lookups(builder, tables, bits)), total)
            for place, total in zip(places, totals, strict=True):
                store(builder, builder.load(total), sum_data, place)
            return context.get_dummy_value()

        return signature, codegen

    return add_chunks


add_chunks = _add_chunks_of(GROUPS)
add_chunks_of_one_block = _add_chunks_of(1)


@intrinsic
def add_chunk(typing_context, values, at, indices, index_at, groups, sums, sums_at):
    """sums[sums_at + m] += values[at : at + 32] over the set bits of indices[index_at + m], for m < 16 * groups.

    `indices` is flat uint32; the tables stay in registers.
    """
    signature = types.void(values, types.intp, indices, types.intp, types.intp, sums, types.intp)

    def codegen(context, builder, signature, arguments):
        source = data(context, builder, signature.args[0], arguments[0])
        index_data = data(context, builder, signature.args[2], arguments[2])
        sum_data = data(context, builder, signature.args[5], arguments[5])
        tables = _tables(builder, _values(builder, source, arguments[1]))
        with cgutils.for_range(builder, arguments[4]) as loop:
            lane = times(builder, loop.index, LANES)
            indices = load(builder, index_data, builder.add(arguments[3], lane), INTS)
            where = builder.add(arguments[6], lane)
            total = builder.fadd(load(builder, sum_data, where, FLOATS), _lookups(builder, tables, indices))
            store(builder, total, sum_data, where)
        return context.get_dummy_value()

    return signature, codegen
