"""Layers whose weights are masked by each image's own mask, straight from the packed bits.

Where an image has one value at each input, a masked product of vectors takes sixteen bits at a time. Where it has many
(the places of a convolution, the tokens of a sequence), the set bits of a neuron are listed, and each adds one weight
times a row of values. That work shrinks with the mask's density. Nothing depends on the images beside an image.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic

from maskstore.kernels.compile_cache import compiled
from maskstore.kernels.ir.vectors import FLAGS, FLOATS, INTS, ZEROS, data, load, offset, splat, store, times
from maskstore.kernels.layout import LANES

_GROUPS = 64 // LANES  # vectors a word
_CHAINS = 4  # sums that do not wait for one another
_FUSED = ("contract",)  # a multiplication and an addition may be one instruction where the processor has it


@intrinsic
def _masked_product(typing_context, words, count, weights, values):
    """float32 sum of weights[b] * values[b] over the set bits b of the first `count` words."""
    signature = types.float32(words, types.intp, weights, values)

    def codegen(context, builder, signature, arguments):
        word_data, weight_data, value_data = (
            data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 3)
        )
        totals = [cgutils.alloca_once_value(builder, ZEROS) for _ in range(_GROUPS)]
        with cgutils.for_range(builder, arguments[1]) as loop:
            word = builder.load(builder.gep(word_data, [loop.index]))
            first = times(builder, loop.index, 64)
            for group, total in enumerate(totals):
                place = offset(builder, first, group * LANES)
                weight = load(builder, weight_data, place, FLOATS)
                shifted = builder.lshr(word, ir.Constant(ir.IntType(64), group * LANES))
                flags = builder.bitcast(builder.trunc(shifted, ir.IntType(LANES)), FLAGS)
                product = builder.fmul(builder.select(flags, weight, ZEROS), load(builder, value_data, place), _FUSED)
                builder.store(builder.fadd(builder.load(total), product, _FUSED), total)
        a, b, c, d = (builder.load(total) for total in totals)
        sums = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        for half in (8, 4, 2, 1):  # lane i and lane i + half
            turned = ir.Constant(INTS, [(lane + half) % LANES for lane in range(LANES)])
            sums = builder.fadd(sums, builder.shuffle_vector(sums, sums, turned))
        return builder.extract_element(sums, ir.Constant(ir.IntType(32), 0))

    return signature, codegen


def _tap_sums_of(vectors: int) -> Any:
    chains = _CHAINS // vectors

    @intrinsic
    def tap_sums(typing_context, taps, count, weights, first, places, values, at, out, to):
        """out[to : to + n] = the sum of weights[first + t] * values[at + places[t] : ... + n] over `count` taps t.

        n is 16 `vectors`, `count` a multiple of four.
        """
        signature = types.void(taps, types.intp, weights, types.intp, places, values, types.intp, out, types.intp)

        def codegen(context, builder, signature, arguments):
            tap_data, weight_data, place_data, value_data, out_data = (
                data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 4, 5, 7)
            )
            _, count, _, first, _, _, at, _, to = arguments
            totals = [cgutils.alloca_once_value(builder, ZEROS) for _ in range(_CHAINS)]
            start, step = ir.Constant(at.type, 0), ir.Constant(at.type, chains)
            with cgutils.for_range_slice(builder, start, count, step) as (t, _):
                for chain in range(chains):
                    tap = builder.zext(builder.load(builder.gep(tap_data, [offset(builder, t, chain)])), at.type)
                    place = builder.add(at, builder.load(builder.gep(place_data, [tap])))
                    weight = splat(builder, builder.load(builder.gep(weight_data, [builder.add(first, tap)])))
                    for vector, total in enumerate(totals[vectors * chain : vectors * (chain + 1)]):
                        line = load(builder, value_data, offset(builder, place, LANES * vector))
                        product = builder.fmul(weight, line, _FUSED)
                        builder.store(builder.fadd(builder.load(total), product, _FUSED), total)
            for vector in range(vectors):
                result, *others = (builder.load(total) for total in totals[vector::vectors])
                for other in others:
                    result = builder.fadd(result, other)
                store(builder, result, out_data, offset(builder, to, LANES * vector))
            return context.get_dummy_value()

        return signature, codegen

    return tap_sums


_four_vectors, _two_vectors, _one_vector = _tap_sums_of(4), _tap_sums_of(2), _tap_sums_of(1)


@compiled
def masked_lines(rows, chosen, first_bit, weights, values, out, first, last):
    """out[b, o] = sum over j of M[o, j] weights[o, j] values[b, j], first <= b < last, M the mask of row chosen[b].

    M's bits start at `first_bit`, as many a neuron as `weights` `(o, size)` has. `values` `(B, n)` end in zeros, n a
    multiple of 64.
    """
    neurons, size = weights.shape
    words = values.shape[1] // 64
    aligned = np.empty(words, dtype=np.uint64)
    line = np.zeros(64 * words, dtype=np.float32)
    for neuron in range(neurons):
        line[:size] = weights[neuron]
        word, shift = (first_bit + neuron * size) >> 6, np.uint64((first_bit + neuron * size) & 63)
        back = np.uint64(64) - shift
        there = min(words, rows.shape[1] - word)
        both = min(words, rows.shape[1] - word - 1) if shift else 0  # words with a neighbour to take bits from
        for image in range(first, last):
            row = rows[chosen[image]]
            # what lies beyond the neuron's bits meets zeros
            for i in range(both):
                aligned[i] = row[word + i] >> shift | row[word + i + 1] << back
            for i in range(both, there):
                aligned[i] = row[word + i] >> shift
            for i in range(there, words):
                aligned[i] = np.uint64(0)
            out[image, neuron] = _masked_product(aligned, words, line, values[image])


@compiled
def masked_taps(rows, chosen, first_bit, weights, values, places, out, first, last):
    """out[b, o, f] = sum over j of M[o, j] weights[o, j] values[b, places[g, j] + f], first <= b < last.

    M is the mask of row chosen[b], its bits start at `first_bit`, `size` a neuron; g is the neuron's group. `weights`
    `(o, size + 1)` and `places` `(groups, size + 1)` end in a zero. The last dimension of `out` is a multiple of 16;
    `values` `(B, n)` reach as far as they are read.
    """
    neurons, size = weights.shape[0], weights.shape[1] - 1
    of_group = neurons // len(places)
    length = out.shape[2]
    taps = np.empty(size + _CHAINS, dtype=np.uint32)
    flat = weights.reshape(-1)
    for image in range(first, last):
        row = rows[chosen[image]]
        line = values[image]
        result = out[image].reshape(-1)
        for neuron in range(neurons):
            start = first_bit + neuron * size
            stop = start + size
            count = np.uint64(0)
            at = start
            while at < stop:
                shift = at & 63
                word = row[at >> 6] >> np.uint64(shift)
                taken = min(64 - shift, stop - at)
                if taken < 64:
                    word &= (np.uint64(1) << np.uint64(taken)) - np.uint64(1)
                base = np.uint64(at - start)
                while word:
                    taps[count] = base + np.uint64(trailing_zeros(word))
                    count += np.uint64(1)
                    word &= word - np.uint64(1)
                at += taken
            while count % np.uint64(_CHAINS):  # of weight zero
                taps[count] = size
                count += np.uint64(1)
            kept, weight, to = np.intp(count), neuron * (size + 1), neuron * length
            own = places[neuron // of_group]
            f = 0
            while f + 64 <= length:
                _four_vectors(taps, kept, flat, weight, own, line, f, result, to + f)
                f += 64
            if f + 32 <= length:
                _two_vectors(taps, kept, flat, weight, own, line, f, result, to + f)
                f += 32
            if f < length:
                _one_vector(taps, kept, flat, weight, own, line, f, result, to + f)
