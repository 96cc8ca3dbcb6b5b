"""Sums over set bits by table lookup, for processors with AVX-512: four bits of sixteen masks in one instruction.

For four neighbouring values of g there are sixteen subset sums, and they fill one vector register. With 32 bits of
sixteen masks in another register, one permutation (`vpermps`, which heeds the low four bits of each index) looks up all
sixteen masks' sums at once: 64 bits an instruction, where a masked add takes sixteen. This is the "method of the four
Russians" (Arlazarov, Dinic, Kronrod and Faradzev, 1970) with tables that never leave the registers or the first cache.

`cpu.py` has the same functions for every processor and asks `available()`. No reassociation: a result depends on the
code here alone.
"""

from functools import cache
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic

LANES = 16  # masks side by side
BLOCK_WORDS = 8  # 64-bit words of each of 16 masks that are transposed in registers: 16 vectors of 512 bits
TILE_BLOCKS = 8  # blocks whose tables (8 KiB each) stay in the cache while all masks pass over them
MASK_TILE = 512  # masks whose bits for one neuron (64 bytes an input) stay in the second-level cache
_TABLE = 16  # float32 values a table
_CHUNK_TABLES = 8  # tables for the 32 bits that one lane of an index vector holds
_BLOCK_TABLES = BLOCK_WORDS * 64 // 4

_I32 = ir.IntType(32)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(_I32, LANES)


@cache
def available() -> bool:
    """Whether the processor has AVX-512, and Numba compiles for it rather than for another that was asked for."""
    if config.CPU_NAME or config.CPU_FEATURES:  # type: ignore[attr-defined]
        return False
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))


def _data(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, array).data


def _vector_at(builder: Any, data: Any, index: Any, vector: Any) -> Any:
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _load(builder: Any, data: Any, index: Any, vector: Any) -> Any:
    value = builder.load(_vector_at(builder, data, index, vector))
    value.align = 4
    return value


def _prefetch(builder: Any, data: Any, index: Any) -> None:
    """Ask for a word of the next sixteen masks: rows lie pages apart, where the processor foresees nothing."""
    byte_pointer = ir.IntType(8).as_pointer()
    prefetch = builder.module.globals.get("llvm.prefetch.p0") or ir.Function(
        builder.module, ir.FunctionType(ir.VoidType(), [byte_pointer, _I32, _I32, _I32]), "llvm.prefetch.p0"
    )
    reading, keep, of_data = (ir.Constant(_I32, value) for value in (0, 3, 1))
    builder.call(prefetch, [builder.bitcast(builder.gep(data, [index]), byte_pointer), reading, keep, of_data])


def _offset(builder: Any, index: Any, by: int) -> Any:
    return builder.add(index, ir.Constant(index.type, by))


def _lookups(builder: Any, tables: list[Any], indices: Any) -> Any:
    """The sum over eight tables of the entries that the eight nibbles of each lane point at; added in pairs."""
    permute = builder.module.globals.get("llvm.x86.avx512.permvar.sf.512") or ir.Function(
        builder.module, ir.FunctionType(_FLOATS, [_FLOATS, _INTS]), "llvm.x86.avx512.permvar.sf.512"
    )
    found = []
    for nibble, table in enumerate(tables):
        shifted = builder.lshr(indices, ir.Constant(_INTS, [4 * nibble] * LANES)) if nibble else indices
        found.append(builder.call(permute, [table, shifted]))
    while len(found) > 1:
        found = [builder.fadd(a, b) for a, b in zip(found[::2], found[1::2], strict=True)]
    return found[0]


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """16 vectors of 16 integers, turned: four rounds of interleaving halves."""
    for _ in range(4):
        low = ir.Constant(_INTS, [lane // 2 + 16 * (lane % 2) for lane in range(16)])
        high = ir.Constant(_INTS, [8 + lane // 2 + 16 * (lane % 2) for lane in range(16)])
        mixed = []
        for a, b in zip(rows[:8], rows[8:], strict=True):
            mixed += [builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)]
        rows = mixed
    return rows


def _subset_sums(builder: Any, values: list[Any]) -> Any:
    """The table of four values: entry e is the sum of the values whose bit is set in e, (v0 + v1) + (v2 + v3)."""
    zero = ir.Constant(_FLOATS, [0.0] * LANES)
    spread = []
    for bit, value in enumerate(values):
        lanes = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(_I32, 0))
        splat = builder.shuffle_vector(lanes, lanes, ir.Constant(_INTS, [0] * LANES))
        member = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [entry >> bit & 1 for entry in range(LANES)])
        spread.append(builder.select(member, splat, zero))
    return builder.fadd(builder.fadd(spread[0], spread[1]), builder.fadd(spread[2], spread[3]))


@intrinsic
def _make_table(typing_context, values, at, tables, table):
    """tables[16 * table ...] = subset sums of values[at : at + 4]."""
    signature = types.void(values, types.intp, tables, types.intp)

    def codegen(context, builder, signature, arguments):
        source = _data(context, builder, signature.args[0], arguments[0])
        target = _data(context, builder, signature.args[2], arguments[2])
        four = [builder.load(builder.gep(source, [_offset(builder, arguments[1], bit)])) for bit in range(4)]
        where = builder.mul(arguments[3], ir.Constant(arguments[3].type, _TABLE))
        builder.store(_subset_sums(builder, four), _vector_at(builder, target, where, _FLOATS)).align = 4
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _add_block(typing_context, words, row_start, stride, tables, table, sums):
    """sums[i] += the tables' sums for 8 words of mask i, for 16 masks whose words are `stride` apart."""
    signature = types.void(words, types.intp, types.intp, tables, types.intp, sums)

    def codegen(context, builder, signature, arguments):
        words, start, stride, tables, table, sums = arguments
        word_data = _data(context, builder, signature.args[0], words)
        table_data = _data(context, builder, signature.args[3], tables)
        sum_data = _data(context, builder, signature.args[5], sums)
        rows = []
        for row in range(LANES):
            at = builder.add(start, builder.mul(stride, ir.Constant(stride.type, row)))
            rows.append(_load(builder, word_data, at, _INTS))
            _prefetch(builder, word_data, builder.add(at, builder.mul(stride, ir.Constant(stride.type, LANES))))
        zero = ir.Constant(table.type, 0)
        total = _load(builder, sum_data, zero, _FLOATS)
        for chunk, indices in enumerate(_transposed(builder, rows)):
            found = [
                _load(
                    builder,
                    table_data,
                    _offset(builder, builder.mul(table, ir.Constant(table.type, _TABLE)), _TABLE * number),
                    _FLOATS,
                )
                for number in range(_CHUNK_TABLES * chunk, _CHUNK_TABLES * (chunk + 1))
            ]
            total = builder.fadd(total, _lookups(builder, found, indices))
        builder.store(total, _vector_at(builder, sum_data, zero, _FLOATS)).align = 4
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _add_chunk(typing_context, values, at, indices, index_at, groups, sums, sums_at):
    """sums[sums_at + m] += values[at : at + 32] over the set bits of indices[index_at + m], for m < 16 * groups.

    `indices` is flat uint32; the eight tables stay in registers.
    """
    signature = types.void(values, types.intp, indices, types.intp, types.intp, sums, types.intp)

    def codegen(context, builder, signature, arguments):
        source = _data(context, builder, signature.args[0], arguments[0])
        index_data = _data(context, builder, signature.args[2], arguments[2])
        sum_data = _data(context, builder, signature.args[5], arguments[5])
        loaded = [builder.load(builder.gep(source, [_offset(builder, arguments[1], bit)])) for bit in range(32)]
        tables = [_subset_sums(builder, loaded[4 * table : 4 * table + 4]) for table in range(_CHUNK_TABLES)]
        with cgutils.for_range(builder, arguments[4]) as loop:
            lane = builder.mul(loop.index, ir.Constant(loop.index.type, LANES))
            indices = _load(builder, index_data, builder.add(arguments[3], lane), _INTS)
            where = builder.add(arguments[6], lane)
            total = builder.fadd(_load(builder, sum_data, where, _FLOATS), _lookups(builder, tables, indices))
            builder.store(total, _vector_at(builder, sum_data, where, _FLOATS)).align = 4
        return context.get_dummy_value()

    return signature, codegen


@njit(cache=True, nogil=True)
def dot_rows(rows, g, out, first, last):
    """out[i] = sum of g over the set bits of rows[i], first <= i < last, at least 16 of them; float64 `out`.

    The words beyond the last whole block of 8 are left to the caller. Float32 within tiles of 4096 bits.
    """
    words = rows.shape[1]
    flat = rows.reshape(-1)
    blocks = words // BLOCK_WORDS
    tables = np.empty(TILE_BLOCKS * _BLOCK_TABLES * _TABLE, dtype=np.float32)
    sums = np.empty(LANES, dtype=np.float32)
    out[first:last] = 0.0
    for tile in range(0, blocks, TILE_BLOCKS):
        here = min(TILE_BLOCKS, blocks - tile)
        for table in range(here * _BLOCK_TABLES):
            _make_table(g, tile * BLOCK_WORDS * 64 + 4 * table, tables, table)
        row = first
        while row < last:
            start = min(row, last - LANES)  # the last group overlaps the one before it
            sums[:] = 0.0
            for block in range(here):
                at = start * words + (tile + block) * BLOCK_WORDS
                _add_block(flat, at, words, tables, block * _BLOCK_TABLES, sums)
            for lane in range(row - start, LANES):
                out[start + lane] += sums[lane]
            row = start + LANES


@intrinsic
def _turn_block(typing_context, words, at, stride, shift, indices, index_at, width):
    """indices[index_at + width * c + i] = the c-th 32 bits of mask i, for 16 masks and 16 times 32 bits.

    Mask i's bits start `shift` < 64 bits into words[at + stride * i]; 9 words of it are read.
    """
    signature = types.void(words, types.intp, types.intp, types.uint64, indices, types.intp, types.intp)

    def codegen(context, builder, signature, arguments):
        word_data = _data(context, builder, signature.args[0], arguments[0])
        index_data = _data(context, builder, signature.args[4], arguments[4])
        _, at, stride, shift, _, index_at, width = arguments
        longs = ir.VectorType(ir.IntType(64), BLOCK_WORDS)
        lanes = ir.VectorType(_I32, BLOCK_WORDS)
        funnel = builder.module.globals.get("llvm.fshr.v8i64") or ir.Function(
            builder.module, ir.FunctionType(longs, [longs] * 3), "llvm.fshr.v8i64"
        )
        first = builder.insert_element(ir.Constant(longs, ir.Undefined), shift, ir.Constant(_I32, 0))
        shifts = builder.shuffle_vector(first, first, ir.Constant(lanes, [0] * BLOCK_WORDS))
        rows = []
        for row in range(LANES):
            start = builder.add(at, builder.mul(stride, ir.Constant(stride.type, row)))
            low, high = (_load(builder, word_data, _offset(builder, start, by), longs) for by in (0, 1))
            rows.append(builder.bitcast(builder.call(funnel, [high, low, shifts]), _INTS))
        for chunk, turned in enumerate(_transposed(builder, rows)):
            where = builder.add(index_at, builder.mul(width, ir.Constant(width.type, chunk)))
            builder.store(turned, _vector_at(builder, index_data, where, _INTS)).align = 4
        return context.get_dummy_value()

    return signature, codegen


@njit(cache=True, nogil=True)
def _bits_of_neuron(flat, words, first_row, count, first_bit, chunks, indices, width):
    """indices[width * c + i] = the 32 bits from first_bit + 32 c of row first_row + i, for i < count.

    What lies beyond the neuron's own bits is not cleared: it meets zeros. `indices` has room for whole blocks.
    """
    word, shift = first_bit >> 6, np.uint64(first_bit & 63)
    for start in range(0, count, LANES):
        for block in range(0, chunks, 2 * BLOCK_WORDS):
            at = (first_row + start) * words + word + block // 2
            if start + LANES <= count and at + (LANES - 1) * words + BLOCK_WORDS + 1 <= flat.size:
                _turn_block(flat, at, words, shift, indices, block * width + start, width)
                continue
            for i in range(start, min(start + LANES, count)):  # the last rows: nothing may be read beyond them
                for chunk in range(block, min(block + 2 * BLOCK_WORDS, chunks), 2):
                    place = (first_row + i) * words + word + chunk // 2
                    bits = flat[place] >> shift
                    if shift and place + 1 < flat.size:
                        bits |= flat[place + 1] << (np.uint64(64) - shift)
                    indices[width * chunk + i] = np.uint32(bits & np.uint64(0xFFFFFFFF))
                    indices[width * (chunk + 1) + i] = np.uint32(bits >> np.uint64(32))


@njit(cache=True, nogil=True)
def outer_images(rows, first_bit, weights, left, right, out, first, last):
    """out[b, i] += left[b] @ (weights * bits of mask i) @ right[b], for images first <= b < last.

    rows `(k, words)`; the bits of an `(o, n)` layer start at `first_bit`; weights `(o, n)`, left `(B, o)`, right
    `(B, n)`, out `(B, k)`, all float32. Where left is zero (a neuron that was off) nothing is computed.
    """
    neurons, size = weights.shape
    chunks = (size + 31) // 32
    values = np.zeros(32 * chunks, dtype=np.float32)
    room = -(-chunks // (2 * BLOCK_WORDS)) * 2 * BLOCK_WORDS
    flat = rows.reshape(-1)
    for first_row in range(0, rows.shape[0], MASK_TILE):
        here = min(MASK_TILE, rows.shape[0] - first_row)
        groups = (here + LANES - 1) // LANES
        width = groups * LANES
        indices = np.zeros(room * width, dtype=np.uint32)
        sums = np.zeros((last - first) * width, dtype=np.float32)
        for neuron in range(neurons):
            _bits_of_neuron(flat, rows.shape[1], first_row, here, first_bit + neuron * size, chunks, indices, width)
            for image in range(first, last):
                scale = left[image, neuron]
                if scale == 0.0:
                    continue
                for j in range(size):
                    values[j] = scale * weights[neuron, j] * right[image, j]
                at = (image - first) * width
                for chunk in range(chunks):
                    _add_chunk(values, 32 * chunk, indices, chunk * width, groups, sums, at)
        for image in range(first, last):
            for i in range(here):
                out[image, first_row + i] += sums[(image - first) * width + i]
