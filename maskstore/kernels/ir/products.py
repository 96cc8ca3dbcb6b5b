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
_NEURONS, _TAPS = 32, 4096  # neurons that go over the places together, and about how many taps they have
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
    def tap_sums(typing_context, taps, begin, end, weights, first, places, values, at, out, to):
        """out[to : to + n] = the sum of weights[first + t] * values[at + places[t] : ... + n], t in taps[begin : end].

        n is 16 `vectors`.
        """
        size = types.intp
        signature = types.void(taps, size, size, weights, size, places, values, size, out, size)

        def codegen(context, builder, signature, arguments):
            tap_data, weight_data, place_data, value_data, out_data = (
                data(context, builder, signature.args[i], arguments[i]) for i in (0, 3, 5, 6, 8)
            )
            _, begin, end, _, first, _, _, at, _, to = arguments
            totals = [cgutils.alloca_once_value(builder, ZEROS) for _ in range(_CHAINS)]

            def add(t, chain):
                tap = builder.zext(builder.load(builder.gep(tap_data, [offset(builder, t, chain)])), at.type)
                place = builder.add(at, builder.load(builder.gep(place_data, [tap])))
                weight = splat(builder, builder.load(builder.gep(weight_data, [builder.add(first, tap)])))
                for vector, total in enumerate(totals[vectors * chain : vectors * (chain + 1)]):
                    line = load(builder, value_data, offset(builder, place, LANES * vector))
                    product = builder.fmul(weight, line, flags=_FUSED)
                    builder.store(builder.fadd(builder.load(total), product, flags=_FUSED), total)

            rest = builder.sub(end, builder.urem(builder.sub(end, begin), ir.Constant(at.type, chains)))
            with cgutils.for_range_slice(builder, begin, rest, ir.Constant(at.type, chains)) as (t, _):
                for chain in range(chains):
                    add(t, chain)
            if chains > 1:
                with cgutils.for_range_slice(builder, rest, end, ir.Constant(at.type, 1)) as (t, _):
                    add(t, 0)
            for vector in range(vectors):
                result, *others = (builder.load(total) for total in totals[vector::vectors])
                for other in others:
                    result = builder.fadd(result, other)
                store(builder, result, out_data, offset(builder, to, LANES * vector))
            return context.get_dummy_value()

        return signature, codegen

    return tap_sums


_four_vectors, _two_vectors, _one_vector = _tap_sums_of(4), _tap_sums_of(2), _tap_sums_of(1)


@intrinsic
def _copy(typing_context, source, start, target, to, count):
    """target[to : to + count] = source[start : start + count], of float32."""
    signature = types.void(source, types.intp, target, types.intp, types.intp)

    def codegen(context, builder, signature, arguments):
        source, target = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 2))
        _, start, _, to, count = arguments
        cgutils.raw_memcpy(builder, builder.gep(target, [to]), builder.gep(source, [start]), count, 4)
        return context.get_dummy_value()

    return signature, codegen


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
def masked_taps(rows, chosen, first_bit, weights, values, places, laid, kept, length, out, first, last):
    """out[b, o, to + i] = the sum over j of M[o, j] weights[o, j] line[places[g, j] + start + i], first <= b < last.

    (start, to, n) are the runs `kept`, i < n. The line is zeros but for the runs (start, step, to, n) of `laid`:
    line[to + i] = values[b, start + step i]. M is the mask of row chosen[b], its bits start at `first_bit`, `size` a
    neuron; g is the neuron's group. `length` is a multiple of 16, beyond all runs that are kept.
    """
    neurons, size = weights.shape
    of_group = neurons // len(places)
    together = min(neurons, _NEURONS)
    taps = np.empty(_TAPS + size, dtype=np.uint32)
    ends = np.zeros(together + 1, dtype=np.int64)
    sums = np.empty((together, length), dtype=np.float32)
    flat, results = weights.reshape(-1), sums.reshape(-1)
    reach = places.max() + length
    for run in range(len(laid)):
        reach = max(reach, laid[run, 2] + laid[run, 3])
    line = np.zeros(reach, dtype=np.float32)
    for image in range(first, last):
        row = rows[chosen[image]]
        source = values[image]
        for run in range(len(laid)):
            start, step, to, n = laid[run, 0], laid[run, 1], laid[run, 2], laid[run, 3]
            if step == 1:
                _copy(source, start, line, to, n)
            else:
                for i in range(n):
                    line[np.uint64(to + i)] = source[np.uint64(start + step * i)]
        neuron = 0
        while neuron < neurons:
            listed, count = 0, np.uint64(0)  # unsigned: no index is looked at for a minus sign
            while listed < together and neuron + listed < neurons and count <= np.uint64(_TAPS):
                origin = np.uint64(first_bit + (neuron + listed) * size)
                stop = origin + np.uint64(size)
                at = origin
                while at < stop:
                    shift = at & np.uint64(63)
                    word = row[at >> np.uint64(6)] >> shift
                    taken = min(np.uint64(64) - shift, stop - at)
                    if taken < np.uint64(64):
                        word &= (np.uint64(1) << taken) - np.uint64(1)
                    base = at - origin
                    while word:
                        taps[count] = base + np.uint64(trailing_zeros(word))
                        count += np.uint64(1)
                        word &= word - np.uint64(1)
                    at += taken
                listed += 1
                ends[listed] = count
            f = 0
            while f < length:  # what these places read stays in the nearest cache from one neuron to the next
                left = length - f
                for i in range(listed):
                    own, weight = places[(neuron + i) // of_group], (neuron + i) * size
                    begin, end, to = ends[i], ends[i + 1], i * length + f
                    if left >= 64:
                        _four_vectors(taps, begin, end, flat, weight, own, line, f, results, to)
                    elif left >= 32:
                        _two_vectors(taps, begin, end, flat, weight, own, line, f, results, to)
                    else:
                        _one_vector(taps, begin, end, flat, weight, own, line, f, results, to)
                f += 64 if left >= 64 else 32 if left >= 32 else 16
            for i in range(listed):
                target, sum_ = out[image, neuron + i], sums[i]
                for run in range(len(kept)):
                    _copy(sum_, kept[run, 0], target, kept[run, 1], kept[run, 2])
            neuron += listed
