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
from maskstore.kernels.ir import lookup
from maskstore.kernels.ir.vectors import FLAGS, FLOATS, INTS, ZEROS, data, load, offset, splat, store, times
from maskstore.kernels.layout import LANES

_GROUPS = 64 // LANES  # vectors a word
_CHAINS = 4  # sums that do not wait for one another
_IMAGES = 6  # their values stay in the nearest cache from one neuron to the next
_FUSED = ("contract",)  # a multiplication and an addition may be one instruction where the processor has it


@intrinsic
def _masked_product(typing_context, words, count, weights, at, values):
    """float32 sum of weights[at + b] * values[b] over the set bits b of the first `count` words."""
    signature = types.float32(words, types.intp, weights, types.intp, values)

    def codegen(context, builder, signature, arguments):
        word_data, weight_data, value_data = (
            data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 4)
        )
        totals = [cgutils.alloca_once_value(builder, ZEROS) for _ in range(_GROUPS)]
        wide = lookup.available()  # AVX-512 takes sixteen bits as they are
        with cgutils.for_range(builder, arguments[1]) as loop:
            word = builder.load(builder.gep(word_data, [loop.index]))
            first = times(builder, loop.index, 64)
            own = builder.add(arguments[3], first)
            for group, total in enumerate(totals):
                weight = load(builder, weight_data, offset(builder, own, group * LANES), FLOATS)
                value = load(builder, value_data, offset(builder, first, group * LANES))
                if group % 2 == 0 and not wide:
                    half = builder.trunc(builder.lshr(word, ir.Constant(word.type, group * LANES)), ir.IntType(32))
                    bits = splat(builder, half)
                if wide:
                    shifted = builder.lshr(word, ir.Constant(word.type, group * LANES))
                    flags = builder.bitcast(builder.trunc(shifted, ir.IntType(LANES)), FLAGS)
                else:  # each lane's own bit at its top
                    by = ir.Constant(INTS, [31 - lane - LANES * (group % 2) for lane in range(LANES)])
                    flags = builder.icmp_signed("<", builder.shl(bits, by), ir.Constant(INTS, [0] * LANES))
                product = builder.fmul(builder.select(flags, weight, ZEROS), value, flags=_FUSED)
                builder.store(builder.fadd(builder.load(total), product, flags=_FUSED), total)
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
                        product = builder.fmul(weight, line, flags=_FUSED)
                        builder.store(builder.fadd(builder.load(total), product, flags=_FUSED), total)
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
    words = np.uint64(values.shape[1] // 64)  # unsigned, so that no index is looked at for a minus sign
    one = np.uint64(1)
    last_bits = (one << np.uint64(size & 63)) - one if size & 63 else ~np.uint64(0)
    aligned = np.empty(np.intp(words), dtype=np.uint64)
    flat = weights.reshape(-1)
    line = np.zeros(values.shape[1], dtype=np.float32)  # the last neurons', which do not reach as far as they are read
    for start in range(first, last, _IMAGES):
        stop = min(last, start + _IMAGES)
        for neuron in range(neurons):
            at, source = neuron * size, flat
            if at + len(line) > len(flat):
                for i in range(size):
                    line[i] = flat[at + i]
                at, source = 0, line
            place = np.uint64(first_bit + neuron * size)
            word, shift = place >> np.uint64(6), place & np.uint64(63)
            back = np.uint64(64) - shift
            # words with a neighbour to take bits from
            both = min(words, np.uint64(rows.shape[1]) - word - one) if shift else np.uint64(0)
            for image in range(start, stop):
                row = rows[chosen[image]]
                for i in range(both):
                    aligned[i] = row[word + i] >> shift | row[word + i + one] << back
                for i in range(both, words):
                    aligned[i] = row[word + i] >> shift
                aligned[words - one] &= last_bits
                out[image, neuron] = _masked_product(aligned, np.intp(words), source, at, values[image])


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
            start = np.uint64(first_bit + neuron * size)  # unsigned: no index is looked at for a minus sign
            stop = start + np.uint64(size)
            count = np.uint64(0)
            at = start
            while at < stop:
                shift = at & np.uint64(63)
                word = row[at >> np.uint64(6)] >> shift
                taken = min(np.uint64(64) - shift, stop - at)
                if taken < np.uint64(64):
                    word &= (np.uint64(1) << taken) - np.uint64(1)
                base = at - start
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
