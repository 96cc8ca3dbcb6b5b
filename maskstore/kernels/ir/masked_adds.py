"""Sums over set bits by masked adds, on every processor: sixteen bits of one mask, or a bit of sixteen, at a time.

A masked vector add is one instruction where the processor has mask registers, but neither numpy nor Numba's own
vectoriser finds it, so it is spelled out in portable vector IR: a `<16 x i1>` selects between 16 floats and zero. LLVM
turns this into AVX-512 mask registers, AVX2 blends or NEON code. There is no reassociation, so a result depends on the
code here alone, not on the processor.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from maskstore.kernels.compile_cache import compiled
from maskstore.kernels.ir.vectors import FLAGS, FLOATS, INTS, ZEROS, data, load, offset, splat, store, times
from maskstore.kernels.layout import CHUNK, LANES

TILE_WORDS = 8  # words whose sums, a float for every bit and lane, stay in the first-level cache
_DOT_WORDS = 1024  # words whose float32 partial sums are then added in float64
_GROUPS = 64 // LANES  # vectors a word
_BLOCKS = 4  # blocks whose sums are loaded and stored once
_CHAINS = 4  # sums that do not wait for one another


def _bits_of_word(builder: Any, word: Any, group: int) -> Any:
    shifted = builder.lshr(word, ir.Constant(ir.IntType(64), group * LANES))
    return builder.bitcast(builder.trunc(shifted, ir.IntType(LANES)), FLAGS)


def lanes_with(builder: Any, chunks: Any, bit: int) -> Any:
    found = builder.and_(chunks, ir.Constant(INTS, [1 << bit] * LANES))
    return builder.icmp_unsigned("!=", found, ir.Constant(INTS, [0] * LANES))


def _sum_of(builder: Any, totals: list[Any]) -> Any:
    a, b, c, d = (builder.load(total) for total in totals)
    return builder.fadd(builder.fadd(a, b), builder.fadd(c, d))


@intrinsic
def masked_sum(typing_context, words, start, stop, g, g_at):
    """float32 sum of g[g_at + 64 (w - start) + b] over the set bits b of words[w], for start <= w < stop."""
    signature = types.float32(words, types.intp, types.intp, g, types.intp)

    def codegen(context, builder, signature, arguments):
        word_data, g_data = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 3))
        _, start, stop, _, g_at = arguments
        totals = [cgutils.alloca_once_value(builder, ZEROS) for _ in range(_GROUPS)]
        with cgutils.for_range_slice(builder, start, stop, ir.Constant(start.type, 1)) as (index, _):
            word = builder.load(builder.gep(word_data, [index]))
            first = builder.add(g_at, times(builder, builder.sub(index, start), 64))
            for group, total in enumerate(totals):
                values = load(builder, g_data, offset(builder, first, group * LANES), FLOATS)
                chosen = builder.select(_bits_of_word(builder, word, group), values, ZEROS)
                builder.store(builder.fadd(builder.load(total), chosen), total)
        sums = _sum_of(builder, totals)
        result = ir.Constant(ir.FloatType(), 0.0)
        for lane in range(LANES):
            result = builder.fadd(result, builder.extract_element(sums, ir.Constant(ir.IntType(32), lane)))
        return result

    return signature, codegen


@intrinsic
def _masked_axpy(typing_context, words, out, start, stop, alpha):
    """out[64 w + b] += alpha for the set bits b of words[w], for start <= w < stop."""
    signature = types.void(words, out, types.intp, types.intp, types.float32)

    def codegen(context, builder, signature, arguments):
        word_data, out_data = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 1))
        weight = splat(builder, arguments[4])
        one = ir.Constant(arguments[2].type, 1)
        with cgutils.for_range_slice(builder, arguments[2], arguments[3], one) as (index, _):
            word = builder.load(builder.gep(word_data, [index]))
            first = times(builder, index, 64)
            for group in range(_GROUPS):
                place = offset(builder, first, group * LANES)
                chosen = builder.select(_bits_of_word(builder, word, group), weight, ZEROS)
                store(builder, builder.fadd(load(builder, out_data, place, FLOATS), chosen), out_data, place)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _lane_sums(typing_context, bits, at, g, g_at, chunks, sums):
    """sums[l] += the sum of g[g_at : ...] over the set bits of lane l of some chunks of 16 masks from bits[at] on."""
    signature = types.void(bits, types.intp, g, types.intp, types.intp, sums)

    def codegen(context, builder, signature, arguments):
        bit_data, g_data, sum_data = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 5))
        _, at, _, g_at, chunks, _ = arguments
        totals = [cgutils.alloca_once_value(builder, ZEROS) for _ in range(_CHAINS)]
        with cgutils.for_range(builder, chunks) as loop:
            lanes = load(builder, bit_data, builder.add(at, times(builder, loop.index, LANES)), INTS)
            first = builder.add(g_at, times(builder, loop.index, CHUNK))
            for bit in range(CHUNK):
                value = splat(builder, builder.load(builder.gep(g_data, [offset(builder, first, bit)])))
                total = totals[bit % _CHAINS]
                chosen = builder.select(lanes_with(builder, lanes, bit), value, ZEROS)
                builder.store(builder.fadd(builder.load(total), chosen), total)
        start = ir.Constant(at.type, 0)
        before = load(builder, sum_data, start, FLOATS)
        store(builder, builder.fadd(before, _sum_of(builder, totals)), sum_data, start)
        return context.get_dummy_value()

    return signature, codegen


def _lane_axpy_of(groups: int) -> Any:
    @intrinsic
    def lane_axpy(typing_context, bits, at, stride, alpha, alpha_at, out, out_at):
        """out[out_at + 16 b + l] += alpha of lane l where its bit b is set, for a chunk of some blocks of 16 masks.

        Block i's chunk lies at bits[at + stride * i], its weights at alpha[alpha_at + 16 i], i < groups.
        """
        signature = types.void(bits, types.intp, types.intp, alpha, types.intp, out, types.intp)

        def codegen(context, builder, signature, arguments):
            bit_data, alpha_data, out_data = (
                data(context, builder, signature.args[i], arguments[i]) for i in (0, 3, 5)
            )
            _, at, stride, _, alpha_at, _, out_at = arguments
            chunks = [load(builder, bit_data, builder.add(at, times(builder, stride, i)), INTS) for i in range(groups)]
            weights = [load(builder, alpha_data, offset(builder, alpha_at, LANES * i), FLOATS) for i in range(groups)]
            for bit in range(CHUNK):
                place = offset(builder, out_at, LANES * bit)
                total = load(builder, out_data, place, FLOATS)
                for chunk, weight in zip(chunks, weights, strict=True):
                    chosen = builder.select(lanes_with(builder, chunk, bit), weight, ZEROS)
                    total = builder.fadd(total, chosen)
                store(builder, total, out_data, place)
            return context.get_dummy_value()

        return signature, codegen

    return lane_axpy


_lane_axpy = _lane_axpy_of(_BLOCKS)
_lane_axpy_of_one_block = _lane_axpy_of(1)


@compiled
def dot_rows(rows, g, layers, out, first, last):
    """out[i] = sum of g over the set bits of row i, for first <= i < last; `out` is float64.

    `layers`, a row each, say with which word a layer of the masks starts, with which value of g, and its size.
    """
    for row in range(first, last):
        packed = rows[row]
        total = 0.0
        for layer in range(len(layers)):
            word, flat, size = layers[layer, 0], layers[layer, 1], layers[layer, 2]
            whole = word + size // 64
            for start in range(word, whole, _DOT_WORDS):
                total += masked_sum(packed, start, min(start + _DOT_WORDS, whole), g, flat + 64 * (start - word))
            for bit in range(size % 64):
                if packed[whole] >> np.uint64(bit) & np.uint64(1):
                    total += g[flat + size - size % 64 + bit]
        out[row] = total


@compiled
def dot_blocks(blocks, g, layers, out, first, last):
    """out[16 b + l] = sum of g over the set bits of lane l of block b, for first <= b < last; `out` is float64.

    `layers` as in `dot_rows`.
    """
    sums = np.empty(LANES, dtype=np.float32)
    values = np.zeros(CHUNK, dtype=np.float32)
    out[LANES * first : LANES * last] = 0.0
    for block in range(first, last):
        bits = blocks[block].reshape(-1)
        for layer in range(len(layers)):
            word, flat, size = layers[layer, 0], layers[layer, 1], layers[layer, 2]
            whole = 2 * word + size // CHUNK
            for start in range(2 * word, whole, 2 * _DOT_WORDS):
                sums[:] = 0.0
                count = min(2 * _DOT_WORDS, whole - start)
                _lane_sums(bits, LANES * start, g, flat + CHUNK * (start - 2 * word), count, sums)
                for lane in range(LANES):
                    out[LANES * block + lane] += sums[lane]
            if size % CHUNK:
                values[:] = 0.0
                values[: size % CHUNK] = g[flat + size - size % CHUNK : flat + size]
                sums[:] = 0.0
                _lane_sums(bits, LANES * whole, values, 0, 1, sums)
                for lane in range(LANES):
                    out[LANES * block + lane] += sums[lane]


@compiled
def weighted_sum_words(blocks, tail, alpha, out, first, last):
    """out[64 w + i] = sum of the masks' alpha over those with bit i of word w, for first <= w < last."""
    masks = LANES * len(blocks)
    sums = np.empty(TILE_WORDS * 64 * LANES, dtype=np.float32)
    stride = LANES * blocks.shape[1]
    flat = blocks.reshape(-1)
    for start in range(first, last, TILE_WORDS):
        stop = min(start + TILE_WORDS, last)
        sums[:] = 0.0
        block = 0
        while block < len(blocks):
            together = _BLOCKS if block + _BLOCKS <= len(blocks) else 1
            if np.any(alpha[LANES * block : LANES * (block + together)]):
                for chunk in range(2 * start, 2 * stop):
                    at, to = stride * block + LANES * chunk, (chunk - 2 * start) * CHUNK * LANES
                    if together == _BLOCKS:
                        _lane_axpy(flat, at, stride, alpha, LANES * block, sums, to)
                    else:
                        _lane_axpy_of_one_block(flat, at, stride, alpha, LANES * block, sums, to)
            block += together
        for i in range(64 * (stop - start)):
            total = np.float32(0.0)
            for lane in range(LANES):
                total += sums[LANES * i + lane]
            out[64 * start + i] = total
        for row in range(len(tail)):
            if alpha[masks + row] != 0.0:
                _masked_axpy(tail[row], out, start, stop, alpha[masks + row])


@compiled
def outer_pairs(rows, first_bit, weights, left, right, chosen, out, first, last):
    """As `lookup.outer_images` of each image with its own rows only, `chosen` `(B, n)`, `out` `(B, n)`."""
    neurons, size = weights.shape
    words = (size + 63) // 64
    values = np.zeros(64 * words, dtype=np.float32)
    aligned = np.empty(words, dtype=np.uint64)
    for image in range(first, last):
        for neuron in range(neurons):
            scale = left[image, neuron]
            if scale == 0.0:
                continue
            for j in range(size):
                values[j] = scale * weights[neuron, j] * right[image, j]
            word, shift = (first_bit + neuron * size) >> 6, np.uint64((first_bit + neuron * size) & 63)
            back = np.uint64(64) - shift
            both = min(words, rows.shape[1] - word - 1) if shift else 0  # words with a neighbour to take bits from
            for place in range(chosen.shape[1]):
                row = chosen[image, place]
                # what lies beyond the neuron's bits meets zeros in `values`
                for i in range(both):
                    aligned[i] = rows[row, word + i] >> shift | rows[row, word + i + 1] << back
                for i in range(both, words):
                    aligned[i] = rows[row, word + i] >> shift
                out[image, place] += masked_sum(aligned, 0, words, values, 0)
