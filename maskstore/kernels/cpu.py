"""The hot loops in Numba, with two vector primitives written as LLVM IR.

A masked vector add is one instruction where the processor has mask registers, but neither numpy nor Numba's own
vectoriser finds it. `_masked_sum` and `_masked_axpy` spell it out in portable vector IR: 16 bits of a packed word
become a `<16 x i1>` that selects between 16 floats and zero. LLVM turns this into AVX-512 mask registers, AVX2 blends
or NEON code. There is no reassociation, so a result depends on the code here alone, not on the processor.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from maskstore.kernels import lookup
from maskstore.kernels.sharing import CORES, pieces_for_cores, ranges, shared
from maskstore.kernels.subset_sums import BLOCK_WORDS, LANES

_GROUPS = 64 // LANES  # vectors a word
_DOT_BLOCK = 1024  # words whose float32 partial sums are then added in float64
_AXPY_BLOCK = 64  # words whose 4096 floats stay in the first-level cache while all rows pass over them
# the constants of Philox4x64 (Salmon et al. 2011)
PHILOX_M0, PHILOX_M1 = 0xD2E7470EE14C6C93, 0xCA5A826395121157
PHILOX_W0, PHILOX_W1 = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
_LOOKUP_GAIN = 8  # lookups take a word in less than an eighth of the time of masked adds
_DOT_ROWS = 1024  # masks that share tables of lookups: enough to make the tables' own cost small
_DOT_WORDS = 1 << 18  # words of a piece of lookups: a fifth of a millisecond or so


def _vector_pointer(builder: Any, data: Any, index: Any) -> Any:
    pointer = builder.gep(data, [index])
    return builder.bitcast(pointer, ir.VectorType(ir.FloatType(), LANES).as_pointer())


def _bit_mask(builder: Any, word: Any, group: int) -> Any:
    shifted = builder.lshr(word, ir.Constant(ir.IntType(64), group * LANES))
    return builder.bitcast(builder.trunc(shifted, ir.IntType(LANES)), ir.VectorType(ir.IntType(1), LANES))


@intrinsic
def _masked_sum(typing_context, words, g, start, stop):
    """float32 sum of g[64 w + b] over the set bits b of words[w], for start <= w < stop."""
    signature = types.float32(words, g, types.intp, types.intp)

    def codegen(context, builder, signature, arguments):
        word_data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        g_data = context.make_array(signature.args[1])(context, builder, arguments[1]).data
        vector = ir.VectorType(ir.FloatType(), LANES)
        zero = ir.Constant(vector, [0.0] * LANES)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(_GROUPS)]
        one = ir.Constant(arguments[2].type, 1)
        with cgutils.for_range_slice(builder, arguments[2], arguments[3], one) as (index, _):
            word = builder.load(builder.gep(word_data, [index]))
            first = builder.mul(index, ir.Constant(index.type, 64))
            for group in range(_GROUPS):
                at = builder.add(first, ir.Constant(index.type, group * LANES))
                values = builder.load(_vector_pointer(builder, g_data, at))
                values.align = 4
                chosen = builder.select(_bit_mask(builder, word, group), values, zero)
                builder.store(builder.fadd(builder.load(sums[group]), chosen), sums[group])
        a, b, c, d = (builder.load(total) for total in sums)
        total = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        result = ir.Constant(ir.FloatType(), 0.0)
        for lane in range(LANES):
            result = builder.fadd(result, builder.extract_element(total, ir.Constant(ir.IntType(32), lane)))
        return result

    return signature, codegen


@intrinsic
def _masked_axpy(typing_context, words, out, start, stop, alpha):
    """out[64 w + b] += alpha for the set bits b of words[w], for start <= w < stop."""
    signature = types.void(words, out, types.intp, types.intp, types.float32)

    def codegen(context, builder, signature, arguments):
        word_data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        out_data = context.make_array(signature.args[1])(context, builder, arguments[1]).data
        vector = ir.VectorType(ir.FloatType(), LANES)
        zero = ir.Constant(vector, [0.0] * LANES)
        splat = ir.Constant(vector, ir.Undefined)
        for lane in range(LANES):
            splat = builder.insert_element(splat, arguments[4], ir.Constant(ir.IntType(32), lane))
        one = ir.Constant(arguments[2].type, 1)
        with cgutils.for_range_slice(builder, arguments[2], arguments[3], one) as (index, _):
            word = builder.load(builder.gep(word_data, [index]))
            first = builder.mul(index, ir.Constant(index.type, 64))
            for group in range(_GROUPS):
                at = builder.add(first, ir.Constant(index.type, group * LANES))
                pointer = _vector_pointer(builder, out_data, at)
                values = builder.load(pointer)
                values.align = 4
                chosen = builder.select(_bit_mask(builder, word, group), splat, zero)
                store = builder.store(builder.fadd(values, chosen), pointer)
                store.align = 4
        return context.get_dummy_value()

    return signature, codegen


@njit(cache=True, nogil=True)
def _dot_rows(rows, g, out, skip, first, last):
    """Add to `out` (float64) what the words from `skip` on give."""
    words = rows.shape[1]
    for row in range(first, last):
        packed = rows[row]
        for start in range(skip, words, _DOT_BLOCK):
            out[row] += _masked_sum(packed, g, start, min(start + _DOT_BLOCK, words))


@njit(cache=True, nogil=True)
def _weighted_sum_words(rows, alpha, out, first, last):
    for start in range(first, last, _AXPY_BLOCK):
        stop = min(start + _AXPY_BLOCK, last)
        for row in range(rows.shape[0]):
            if alpha[row] != 0.0:
                _masked_axpy(rows[row], out, start, stop, alpha[row])


def dot(rows: NDArray[np.uint64], g: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `reference.dot`; float32 within blocks of at most 65 536 bits, float64 across them.

    By table lookup where the processor can and there are enough rows to share a table, by masked adds elsewhere.
    """
    rows, g = np.ascontiguousarray(rows), np.ascontiguousarray(g)
    out = np.zeros(rows.shape[0], dtype=np.float64)
    skip = 0
    if lookup.available() and rows.shape[0] >= LANES:
        skip = rows.shape[1] // BLOCK_WORDS * BLOCK_WORDS
        out += _dot_by_lookup(rows, g, skip // BLOCK_WORDS)
    if skip < rows.shape[1]:
        pieces = ranges(len(rows), pieces_for_cores(len(rows)))
        shared(_dot_rows, [(rows, g, out, skip, *piece) for piece in pieces], len(rows) * (rows.shape[1] - skip))
    return out.astype(np.float32)


def _dot_by_lookup(rows: NDArray[np.uint64], g: NDArray[np.float32], blocks: int) -> NDArray[np.float64]:
    """The first `blocks` blocks' part of the dot products. Pieces, and so the result, go by the shape alone."""
    # whole groups of masks, the rest of them to the last piece, which is never short of 16
    edges = [*range(0, len(rows) - _DOT_ROWS + 1, _DOT_ROWS)] or [0]
    row_pieces = list(pairwise([*edges, len(rows)]))
    column_pieces = ranges(blocks, blocks * 8 * min(len(rows), _DOT_ROWS) // _DOT_WORDS, lookup.TILE_BLOCKS)
    partial = np.zeros((len(column_pieces), len(rows)), dtype=np.float64)
    pieces = [
        (rows, g, part, *columns, *masks)
        for part, columns in zip(partial, column_pieces, strict=True)
        for masks in row_pieces
    ]
    shared(lookup.dot_block, pieces, rows.size // _LOOKUP_GAIN)
    total: NDArray[np.float64] = partial.sum(axis=0)
    return total


def outer_dots(
    rows: NDArray[np.uint64],
    first_bit: int,
    weights: NDArray[np.float32],
    left: NDArray[np.float32],
    right: NDArray[np.float32],
) -> NDArray[np.float32]:
    """As `reference.outer_dots`, in float32; what `left` has as zero costs nothing. Needs `lookup.available()`."""
    out = np.zeros((len(left), rows.shape[0]), dtype=np.float32)
    arrays = (np.ascontiguousarray(rows), first_bit, *map(np.ascontiguousarray, (weights, left, right)), out)
    # a piece a core: each turns all the masks' bits for itself
    pieces = [(*arrays, *piece) for piece in ranges(len(left), min(CORES, len(left)))]
    shared(lookup.outer_images, pieces, len(left) * rows.shape[0] * weights.size // 64)
    return out


@njit(cache=True, nogil=True)
def _outer_pairs(rows, first_bit, weights, left, right, chosen, out, first, last):
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
                out[image, place] += _masked_sum(aligned, values, 0, words)


def outer_pairs(
    rows: NDArray[np.uint64],
    first_bit: int,
    weights: NDArray[np.float32],
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    chosen: NDArray[np.int64],
) -> NDArray[np.float32]:
    """`reference.outer_dots` of each image with its own masks only: chosen `(B, n)` rows -> `(B, n)`, in float32."""
    out = np.zeros(chosen.shape, dtype=np.float32)
    arrays = (np.ascontiguousarray(rows), first_bit, *map(np.ascontiguousarray, (weights, left, right, chosen)), out)
    pieces = [(*arrays, *piece) for piece in ranges(len(left), pieces_for_cores(len(left)))]
    shared(_outer_pairs, pieces, chosen.size * weights.size // 64)
    return out


def weighted_sum(rows: NDArray[np.uint64], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `reference.weighted_sum`; float32 sums in row order."""
    out = np.zeros(rows.shape[1] * 64, dtype=np.float32)
    rows = np.ascontiguousarray(rows)
    pieces = ranges(rows.shape[1], pieces_for_cores(rows.shape[1]), _AXPY_BLOCK)
    shared(_weighted_sum_words, [(rows, alpha, out, *piece) for piece in pieces], rows.size)
    return out


@intrinsic
def _high_product(typing_context, a, b):
    """The upper 64 bits of a 64 x 64 bit product."""
    signature = types.uint64(types.uint64, types.uint64)

    def codegen(context, builder, signature, arguments):
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return signature, codegen


@njit(inline="always")
def _score_context(u, weight):
    positive = u >> np.uint32(31)
    # |2u + 1 - 2**32| grows with u above the middle and with ~u below it: fold both onto 31 bits
    magnitude = (u if positive else ~u) & np.uint32(0x7FFFFFFF)
    return (magnitude >> np.uint32(25)) << np.uint32(2) | positive << np.uint32(1) | np.uint32(weight)


@njit(cache=True, nogil=True)
def _score_contexts(key0, key1, signs, out):
    words = np.empty(4, dtype=np.uint64)
    for block in range((out.size + 7) // 8):
        c0, c1, c2, c3 = np.uint64(block + 1), np.uint64(0), np.uint64(0), np.uint64(0)
        k0, k1 = key0, key1
        for _ in range(10):
            high0, high1 = _high_product(c0, np.uint64(PHILOX_M0)), _high_product(c2, np.uint64(PHILOX_M1))
            low0, low1 = c0 * np.uint64(PHILOX_M0), c2 * np.uint64(PHILOX_M1)
            c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
            k0, k1 = k0 + np.uint64(PHILOX_W0), k1 + np.uint64(PHILOX_W1)
        words[0], words[1], words[2], words[3] = c0, c1, c2, c3
        first = 8 * block
        byte = signs[first >> 6] >> np.uint64(first & 63)
        for j in range(min(8, out.size - first)):
            u = np.uint32(words[j >> 1] >> np.uint64(32 * (j & 1)))
            out[first + j] = _score_context(u, (byte >> np.uint64(j)) & np.uint64(1))


def score_contexts(key: tuple[int, int], signs: NDArray[np.uint64], size: int) -> NDArray[np.uint8]:
    """As `reference.score_contexts`; the random words are made and used in registers, never stored."""
    out = np.empty(size, dtype=np.uint8)
    _score_contexts(np.uint64(key[0]), np.uint64(key[1]), signs, out)
    return out
