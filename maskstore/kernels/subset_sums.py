"""Vector primitives of `lookup.py`, written as LLVM IR: sixteen masks side by side in registers of 512 bits.

A *chunk* is 32 neighbouring bits. Its 32 values of g are summed into tables, one for every 4 or 5 of them, of all
subset sums: 16 float32 fill one register, 32 fill two. With the chunk's bits of sixteen masks in another register, one
permutation (`vpermps` heeds the low 4 bits of each index, `vpermi2ps` on two registers the low 5) looks up all sixteen
masks' sums at once. Widths of 5, 5, 5, 5, 4, 4 and 4 bits take seven lookups and eleven registers, which leaves enough
of the 32 for the rest; eight tables of 4 bits were slower by a tenth.

Masks lie one after the other in memory and a lookup wants the same bits of all, so blocks of 16 x 512 bits are turned
in registers first. No reassociation: sums are added in the order that stands here.

Numba's cache of compiled kernels goes by the file of the kernel: after a change here, touch `lookup.py`.
"""

from itertools import accumulate
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # masks side by side
CHUNK = 32  # bits that one lane of an index vector holds
BLOCK_WORDS = 8  # 64-bit words of each of 16 masks that are turned in registers: 16 vectors of 512 bits
BLOCK_CHUNKS = BLOCK_WORDS * 64 // CHUNK
GROUPS = 4  # groups of 16 masks that share the loads of a chunk's tables
_WIDTHS = (5, 5, 5, 5, 4, 4, 4)  # bits of a chunk that each table stands for
_STARTS = tuple(accumulate(_WIDTHS[:-1], initial=0))
TABLES = sum(1 + (width == 5) for width in _WIDTHS)  # registers of tables a chunk
TABLE_FLOATS = TABLES * LANES

_I32 = ir.IntType(32)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(_I32, LANES)


def _data(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, array).data


def _vector_at(builder: Any, data: Any, index: Any, vector: Any) -> Any:
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _load(builder: Any, data: Any, index: Any, vector: Any) -> Any:
    value = builder.load(_vector_at(builder, data, index, vector))
    value.align = 4
    return value


def _store(builder: Any, value: Any, data: Any, index: Any) -> None:
    builder.store(value, _vector_at(builder, data, index, value.type)).align = 4


def _function(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    return builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def _prefetch(builder: Any, data: Any, index: Any) -> None:
    """Ask for a word that is needed soon: rows lie pages apart, where the processor foresees nothing."""
    byte_pointer = ir.IntType(8).as_pointer()
    prefetch = _function(builder, "llvm.prefetch.p0", ir.VoidType(), [byte_pointer, _I32, _I32, _I32])
    reading, keep, of_data = (ir.Constant(_I32, value) for value in (0, 3, 1))
    builder.call(prefetch, [builder.bitcast(builder.gep(data, [index]), byte_pointer), reading, keep, of_data])


def _offset(builder: Any, index: Any, by: int) -> Any:
    return builder.add(index, ir.Constant(index.type, by))


def _times(builder: Any, index: Any, by: int) -> Any:
    return builder.mul(index, ir.Constant(index.type, by))


def _splat(builder: Any, value: Any) -> Any:
    lanes = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(lanes, lanes, ir.Constant(_INTS, [0] * LANES))


def _tables(builder: Any, values: list[Any]) -> list[Any]:
    """The tables of 32 values: entry e is the sum of the values whose bit is set in e, ((v0 + v1) + (v2 + v3)) + v4."""
    zero = ir.Constant(_FLOATS, [0.0] * LANES)
    tables = []
    for start, width in zip(_STARTS, _WIDTHS, strict=True):
        spread = []
        for bit, value in enumerate(values[start : start + 4]):
            member = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [entry >> bit & 1 for entry in range(LANES)])
            spread.append(builder.select(member, _splat(builder, value), zero))
        tables.append(builder.fadd(builder.fadd(spread[0], spread[1]), builder.fadd(spread[2], spread[3])))
        if width == 5:
            tables.append(builder.fadd(tables[-1], _splat(builder, values[start + 4])))
    return tables


def _lookups(builder: Any, tables: list[Any], indices: Any) -> Any:
    """The sum of the entries that the 32 bits of each lane point at; added in pairs."""
    one = _function(builder, "llvm.x86.avx512.permvar.sf.512", _FLOATS, [_FLOATS, _INTS])
    two = _function(builder, "llvm.x86.avx512.vpermi2var.ps.512", _FLOATS, [_FLOATS, _INTS, _FLOATS])
    remaining, found = iter(tables), []
    for start, width in zip(_STARTS, _WIDTHS, strict=True):
        shifted = builder.lshr(indices, ir.Constant(_INTS, [start] * LANES)) if start else indices
        low = next(remaining)
        found.append(
            builder.call(two, [low, shifted, next(remaining)]) if width == 5 else builder.call(one, [low, shifted])
        )
    while len(found) > 1:
        pairs = [builder.fadd(a, b) for a, b in zip(found[::2], found[1::2], strict=False)]
        found = pairs + found[2 * len(pairs) :]
    return found[0]


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """16 vectors of 16 integers, turned: four rounds of interleaving halves."""
    for _ in range(4):
        low = ir.Constant(_INTS, [lane // 2 + 16 * (lane % 2) for lane in range(16)])
        high = ir.Constant(_INTS, [8 + lane // 2 + 16 * (lane % 2) for lane in range(16)])
        mixed = []
        for a, b in zip(rows[:8], rows[8:], strict=True):
            mixed += [builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)]
        rows = mixed
    return rows


def _values(builder: Any, data: Any, at: Any) -> list[Any]:
    return [builder.load(builder.gep(data, [_offset(builder, at, bit)])) for bit in range(CHUNK)]


@intrinsic
def make_tables(typing_context, values, at, tables, chunk):
    """tables[TABLE_FLOATS * chunk ...] = the tables of values[at : at + 32]."""
    signature = types.void(values, types.intp, tables, types.intp)

    def codegen(context, builder, signature, arguments):
        source = _data(context, builder, signature.args[0], arguments[0])
        target = _data(context, builder, signature.args[2], arguments[2])
        where = _times(builder, arguments[3], TABLE_FLOATS)
        for number, table in enumerate(_tables(builder, _values(builder, source, arguments[1]))):
            _store(builder, table, target, _offset(builder, where, LANES * number))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def turn_words(typing_context, words, at, stride, indices, index_at, width, ahead):
    """indices[index_at + width * c + i] = the c-th 32 bits from words[at + stride * i] on, for 16 masks and 8 words.

    What lies `ahead` words further is needed next.
    """
    signature = types.void(words, types.intp, types.intp, indices, types.intp, types.intp, types.intp)

    def codegen(context, builder, signature, arguments):
        word_data = _data(context, builder, signature.args[0], arguments[0])
        index_data = _data(context, builder, signature.args[3], arguments[3])
        _, at, stride, _, index_at, width, ahead = arguments
        rows = []
        for row in range(LANES):
            start = builder.add(at, _times(builder, stride, row))
            rows.append(_load(builder, word_data, start, _INTS))
            _prefetch(builder, word_data, builder.add(start, ahead))
        for chunk, turned in enumerate(_turned(builder, rows)):
            _store(builder, turned, index_data, builder.add(index_at, _times(builder, width, chunk)))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def turn_shifted(typing_context, words, at, stride, shift, indices, index_at, width):
    """As `turn_words` for bits that start `shift` < 64 bits into their first word; 9 words of each mask are read."""
    signature = types.void(words, types.intp, types.intp, types.uint64, indices, types.intp, types.intp)

    def codegen(context, builder, signature, arguments):
        word_data = _data(context, builder, signature.args[0], arguments[0])
        index_data = _data(context, builder, signature.args[4], arguments[4])
        _, at, stride, shift, _, index_at, width = arguments
        longs = ir.VectorType(ir.IntType(64), BLOCK_WORDS)
        lanes = ir.VectorType(_I32, BLOCK_WORDS)
        funnel = _function(builder, "llvm.fshr.v8i64", longs, [longs] * 3)
        first = builder.insert_element(ir.Constant(longs, ir.Undefined), shift, ir.Constant(_I32, 0))
        shifts = builder.shuffle_vector(first, first, ir.Constant(lanes, [0] * BLOCK_WORDS))
        rows = []
        for row in range(LANES):
            start = builder.add(at, _times(builder, stride, row))
            low, high = (_load(builder, word_data, _offset(builder, start, by), longs) for by in (0, 1))
            rows.append(builder.bitcast(builder.call(funnel, [high, low, shifts]), _INTS))
        for chunk, turned in enumerate(_turned(builder, rows)):
            _store(builder, turned, index_data, builder.add(index_at, _times(builder, width, chunk)))
        return context.get_dummy_value()

    return signature, codegen


def _add_block_of(groups: int) -> Any:
    @intrinsic
    def add_block(typing_context, tables, chunk, indices, sums):
        """sums[i] += the sums of 16 chunks for mask i, i < 16 * groups; tables from `chunk` on, indices as turned."""
        signature = types.void(tables, types.intp, indices, sums)

        def codegen(context, builder, signature, arguments):
            table_data = _data(context, builder, signature.args[0], arguments[0])
            index_data = _data(context, builder, signature.args[2], arguments[2])
            sum_data = _data(context, builder, signature.args[3], arguments[3])
            index = arguments[1].type
            places = [ir.Constant(index, LANES * group) for group in range(groups)]
            totals = [cgutils.alloca_once_value(builder, _load(builder, sum_data, at, _FLOATS)) for at in places]
            with cgutils.for_range(builder, ir.Constant(index, BLOCK_CHUNKS)) as loop:
                where = _times(builder, builder.add(arguments[1], loop.index), TABLE_FLOATS)
                tables = [
                    _load(builder, table_data, _offset(builder, where, LANES * number), _FLOATS)
                    for number in range(TABLES)
                ]
                row = _times(builder, loop.index, LANES * groups)
                for place, total in zip(places, totals, strict=True):
                    bits = _load(builder, index_data, builder.add(row, place), _INTS)
                    builder.store(builder.fadd(builder.load(total), _lookups(builder, tables, bits)), total)
            for place, total in zip(places, totals, strict=True):
                _store(builder, builder.load(total), sum_data, place)
            return context.get_dummy_value()

        return signature, codegen

    return add_block


add_block = _add_block_of(GROUPS)
add_block_of_one_group = _add_block_of(1)


@intrinsic
def add_chunk(typing_context, values, at, indices, index_at, groups, sums, sums_at):
    """sums[sums_at + m] += values[at : at + 32] over the set bits of indices[index_at + m], for m < 16 * groups.

    `indices` is flat uint32; the tables stay in registers.
    """
    signature = types.void(values, types.intp, indices, types.intp, types.intp, sums, types.intp)

    def codegen(context, builder, signature, arguments):
        source = _data(context, builder, signature.args[0], arguments[0])
        index_data = _data(context, builder, signature.args[2], arguments[2])
        sum_data = _data(context, builder, signature.args[5], arguments[5])
        tables = _tables(builder, _values(builder, source, arguments[1]))
        with cgutils.for_range(builder, arguments[4]) as loop:
            lane = _times(builder, loop.index, LANES)
            indices = _load(builder, index_data, builder.add(arguments[3], lane), _INTS)
            where = builder.add(arguments[6], lane)
            total = builder.fadd(_load(builder, sum_data, where, _FLOATS), _lookups(builder, tables, indices))
            _store(builder, total, sum_data, where)
        return context.get_dummy_value()

    return signature, codegen
