"""Sums over some chunks of masks: what tells which masks are worth a look at all of their bits.

Chunks lie at `bits[block * stride + place * step + lane]`, so the loops read a `MaskMatrix` (a block after the other)
as well as a file that has a chunk of all masks after the other. The processor foresees none of these reads, so they
are asked for early.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from maskstore.kernels.compile_cache import compiled
from maskstore.kernels.ir.masked_adds import lanes_with, masked_sum
from maskstore.kernels.ir.vectors import FLOATS, INTS, ZEROS, data, load, offset, prefetch, splat, store, times
from maskstore.kernels.layout import CHUNK, LANES

_AHEAD = 12  # chunks from which on memory is asked for early
_CHAINS = 4  # sums that do not wait for one another
_PART = 512  # chunks whose float32 partial sums are then added in float64


@intrinsic
def _add_chosen(typing_context, bits, at, step, places, first, last, values, sums):
    """sums[l] += the sum of values[32 i + j] over the set bits j of lane l of bits[at + step * places[i]], first <= i <
    last.

    What is read _AHEAD steps later is asked for; `places` has so many more.
    """
    signature = types.void(bits, types.intp, types.intp, places, types.intp, types.intp, values, sums)

    def codegen(context, builder, signature, arguments):
        bit_data, place_data, value_data, sum_data = (
            data(context, builder, signature.args[i], arguments[i]) for i in (0, 3, 6, 7)
        )
        _, at, step, _, first, last, _, _ = arguments
        totals = [cgutils.alloca_once_value(builder, ZEROS) for _ in range(_CHAINS)]
        with cgutils.for_range_slice(builder, first, last, ir.Constant(at.type, 1)) as (index, _):
            here, later = (
                builder.add(at, builder.mul(step, builder.load(builder.gep(place_data, [offset(builder, index, by)]))))
                for by in (0, _AHEAD)
            )
            prefetch(builder, bit_data, later)
            lanes = load(builder, bit_data, here, INTS)
            values_at = times(builder, index, CHUNK)
            for bit in range(CHUNK):
                value = splat(builder, builder.load(builder.gep(value_data, [offset(builder, values_at, bit)])))
                total = totals[bit % _CHAINS]
                chosen = builder.select(lanes_with(builder, lanes, bit), value, ZEROS)
                builder.store(builder.fadd(builder.load(total), chosen), total)
        a, b, c, d = (builder.load(total) for total in totals)
        start = ir.Constant(at.type, 0)
        before = load(builder, sum_data, start, FLOATS)
        together = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        store(builder, builder.fadd(before, together), sum_data, start)
        return context.get_dummy_value()

    return signature, codegen


@compiled(fastmath={"reassoc", "contract", "nsz", "nnan"})
def chunk_facts(g, mean, starts, sizes, out, first, last):
    """out[:, c] = sums over the values of chunk c, as `interface.Kernels` says, for first <= c < last."""
    zero, one = np.float32(0.0), np.float32(1.0)
    for chunk in range(first, last):
        start = starts[chunk]
        size, root_size, spread, steep, x, y = zero, zero, zero, zero, zero, zero
        for i in range(start, start + sizes[chunk]):
            value, p = g[i], mean[i]
            large = abs(value)
            root = np.sqrt(large)
            part = large * p * (one - p)
            size += large
            root_size += root
            spread += part
            steep += part * root
            x += value * p
            y += (root if value > zero else -root) * p
        out[0, chunk], out[1, chunk], out[2, chunk] = size, root_size, spread
        out[3, chunk], out[4, chunk], out[5, chunk] = steep, x, y


@compiled
def dot_chosen_chunks(bits, stride, step, places, values, out, first, last):
    """out[16 b + l] = sum of values[32 i + j] over the set bits j of chunk places[i] of lane l of block b.

    For first <= b < last; `out` is float64.
    """
    sums = np.empty(LANES, dtype=np.float32)
    count = len(places)
    ahead = np.zeros(count + _AHEAD, dtype=np.int64)
    ahead[:count] = places
    out[LANES * first : LANES * last] = 0.0
    for block in range(first, last):
        for start in range(0, count, _PART):
            sums[:] = 0.0
            _add_chosen(bits, block * stride, step, ahead, start, min(start + _PART, count), values, sums)
            for lane in range(LANES):
                out[LANES * block + lane] += sums[lane]


@compiled
def dot_chosen_masks(bits, stride, step, chosen, places, values, out, first, last):
    """As `dot_chosen_chunks`, out[n] being of the mask chosen[n] alone, for first <= n < last."""
    words = np.empty(_PART // 2, dtype=np.uint64)
    for n in range(first, last):
        at = chosen[n] // LANES * stride + chosen[n] % LANES
        out[n] = 0.0
        for start in range(0, len(places), _PART):
            count = min(_PART, len(places) - start)
            words[: (count + 1) // 2] = 0
            for i in range(count):
                words[i >> 1] |= np.uint64(bits[at + places[start + i] * step]) << np.uint64(CHUNK * (i & 1))
            whole = count // 2
            out[n] += masked_sum(words, 0, whole, values, CHUNK * start)
            if count % 2:
                for bit in range(CHUNK):
                    if words[whole] >> np.uint64(bit) & np.uint64(1):
                        out[n] += values[CHUNK * (start + count - 1) + bit]
