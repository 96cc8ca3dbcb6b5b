"""The work of the `ans` codec: a binary rANS coder in Numba, integer arithmetic with probabilities by context.

Duda, "Asymmetric numeral systems", arXiv 1311.2540; the range variant with 64-bit states in [2**32, 2**64), 32-bit
renormalisation and 16-bit probabilities. Bit i goes through lane i mod `lanes`; all lanes share one stream of words, in
the order in which the decoder needs them. The tests' reference says the same with Python integers.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from maskstore.codecs import tables
from maskstore.codecs.base import EncodedLayer, Plan
from maskstore.codecs.coders.rans_lanes import LOW, first_states, push, put_state, refill, symbols
from maskstore.files import pieces
from maskstore.kernels import compiled
from maskstore.masks import bits
from maskstore.priors import Contexts

_PIECE = 1 << 24  # bits that are decoded at a time, a tenth of a second's work
_MANY_BITS = 1 << 19  # from here on four lanes are worth their 24 bytes


@njit(inline="always")
def _push(x, context, bit, reciprocals, numbers, out, at):
    symbol = np.int64(context) << 1 | np.int64(bit)
    return push(x, reciprocals[symbol], numbers[symbol], out, at)


@compiled
def _encode(ids, words, reciprocals, numbers, lanes, out):
    x0 = x1 = x2 = x3 = np.uint64(1) << np.uint64(32)  # in registers: each waits for itself only
    one, at, i = np.uint64(1), out.size, ids.size - 1
    if lanes == 1:
        while i >= 0 and at >= 1:
            x0, at = _push(x0, ids[i], words[i >> 6] >> np.uint64(i & 63) & one, reciprocals, numbers, out, at)
            i -= 1
    while i >= 0 and at >= 1 and i & 3 != 3:
        bit = words[i >> 6] >> np.uint64(i & 63) & one
        lane = i & 3
        if lane == 0:
            x0, at = _push(x0, ids[i], bit, reciprocals, numbers, out, at)
        elif lane == 1:
            x1, at = _push(x1, ids[i], bit, reciprocals, numbers, out, at)
        else:
            x2, at = _push(x2, ids[i], bit, reciprocals, numbers, out, at)
        i -= 1
    while i >= 0 and at >= 4:
        word = words[i >> 6] >> np.uint64(i - 3 & 63)
        x3, at = _push(x3, ids[i], word >> np.uint64(3) & one, reciprocals, numbers, out, at)
        x2, at = _push(x2, ids[i - 1], word >> np.uint64(2) & one, reciprocals, numbers, out, at)
        x1, at = _push(x1, ids[i - 2], word >> one & one, reciprocals, numbers, out, at)
        x0, at = _push(x0, ids[i - 3], word & one, reciprocals, numbers, out, at)
        i -= 4
    if i >= 0 or at < 2 * lanes:
        return -1
    if lanes == 4:
        at = put_state(x1, out, put_state(x2, out, put_state(x3, out, at)))
    return put_state(x0, out, at)


def encode(
    ids: NDArray[np.uint8], words: NDArray[np.uint64], p1: NDArray[np.uint32], lanes: int, out: NDArray[np.uint32]
) -> int:
    """Code the bits `words`, P(1) = p1[ids] / 2**16, into `out` from its end; there are 1 or 4 lanes.

    Returns the first index used, or -1 if `out` may be too small.
    """
    ones = p1.astype(np.int64)
    frequencies, starts = np.stack([65536 - ones, ones], axis=1), np.stack([ones, 0 * ones], axis=1)
    return int(_encode(ids, words, *symbols(frequencies.reshape(-1), starts.reshape(-1)), lanes, out))


@njit(inline="always")
def _step(x, ones):
    low = x & np.uint64(0xFFFF)
    bit = low < ones
    frequency = ones if bit else np.uint64(65536) - ones
    start = np.uint64(0) if bit else ones
    return frequency * (x >> np.uint64(16)) + low - start, np.uint64(bit)


@compiled
def _decode(ids, p1, first, stop, states, at, stream, out):
    """Decode bits `first` (a multiple of 64) to `stop` - 1; the place in the stream. `states` go on where they were."""
    lanes = states.size
    i = first
    if lanes == 4:
        # four independent chains in registers: the processor works on them side by side
        x0, x1, x2, x3 = states[0], states[1], states[2], states[3]
        while i + 64 <= stop:
            word = np.uint64(0)
            for step in range(0, 64, 4):
                k = np.uint64(i + step)  # unsigned, so that no index is looked at for a sign
                x0, b0 = _step(x0, np.uint64(p1[ids[k]]))
                x1, b1 = _step(x1, np.uint64(p1[ids[k + np.uint64(1)]]))
                x2, b2 = _step(x2, np.uint64(p1[ids[k + np.uint64(2)]]))
                x3, b3 = _step(x3, np.uint64(p1[ids[k + np.uint64(3)]]))
                if min(min(x0, x1), min(x2, x3)) < LOW:
                    x0, at = refill(x0, stream, at)
                    x1, at = refill(x1, stream, at)
                    x2, at = refill(x2, stream, at)
                    x3, at = refill(x3, stream, at)
                nibble = b0 | b1 << np.uint64(1) | b2 << np.uint64(2) | b3 << np.uint64(3)
                word |= nibble << np.uint64(step)
            out[i >> 6] = word
            i += 64
        states[0], states[1], states[2], states[3] = x0, x1, x2, x3
    elif lanes == 1:
        x = states[0]
        while i + 64 <= stop:
            word = np.uint64(0)
            for step in range(64):
                x, bit = _step(x, np.uint64(p1[ids[np.uint64(i + step)]]))
                x, at = refill(x, stream, at)
                word |= bit << np.uint64(step)
            out[i >> 6] = word
            i += 64
        states[0] = x
    while i < stop:
        lane = i % lanes
        x, bit = _step(states[lane], np.uint64(p1[ids[i]]))
        states[lane], at = refill(x, stream, at)
        out[i >> 6] |= bit << np.uint64(i & 63)
        i += 1
    return at


def decode(
    ids: NDArray[np.uint8], p1: NDArray[np.uint32], lanes: int, stream: NDArray[np.uint32], out: NDArray[np.uint64]
) -> bool:
    """Decode into packed words (zeroed); whether all of the stream was used and every lane ended where it began."""
    at, states = 2 * lanes, first_states(stream, lanes)
    if states is None:
        return False
    for first, stop in pieces(ids.size, _PIECE):
        at = _decode(ids, p1, first, stop, states, at, stream, out)
    return bool(at == stream.size and (states == LOW).all())


@compiled
def _count(ids, words, out):
    """Adds to `out` `(4, 2 * contexts)`; neighbours do not wait for each other."""
    whole = ids.size & ~3
    for i in range(0, whole, 4):
        four = np.int64(words[i >> 6] >> np.uint64(i & 63) & np.uint64(15))
        out[0, np.int64(ids[i]) << 1 | four & 1] += 1
        out[1, np.int64(ids[i + 1]) << 1 | four >> 1 & 1] += 1
        out[2, np.int64(ids[i + 2]) << 1 | four >> 2 & 1] += 1
        out[3, np.int64(ids[i + 3]) << 1 | four >> 3] += 1
    for i in range(whole, ids.size):
        out[0, np.int64(ids[i]) << 1 | np.int64(words[i >> 6] >> np.uint64(i & 63) & np.uint64(1))] += 1


def count(ids: NDArray[np.uint8], words: NDArray[np.uint64], contexts: int) -> NDArray[np.int64]:
    """Zeros and ones seen in each context, `(contexts, 2)` int64."""
    out = np.zeros((4, 2 * contexts), dtype=np.int64)
    _count(ids, words, out)
    found: NDArray[np.int64] = out.sum(axis=0).reshape(contexts, 2)
    return found


def plan(words: NDArray[np.uint64], known: Contexts) -> Plan:
    """How `Ans` codes a layer of at least one bit; its bits are within a few bytes of what it then takes."""
    contexts = known.levels * known.classes
    if contexts == 1:
        ones = bits.popcount(words)
        counts = np.array([[known.ids.size - ones, ones]], dtype=np.int64)
    else:
        counts = count(known.ids, words, contexts)
    table, total = tables.choose(counts, known)
    lanes = 4 if known.ids.size >= _MANY_BITS else 1

    def encode_layer() -> EncodedLayer:
        payload = coded_words(known.ids, words, table.probabilities(known), lanes, total)
        return EncodedLayer(bytes([(lanes.bit_length() - 1) << 4 | table.form]) + table.write(), payload)

    return Plan(total + 8 + 32 * (7 if lanes == 4 else 2), encode_layer)


def coded_words(
    ids: NDArray[np.uint8], words: NDArray[np.uint64], p1: NDArray[np.uint32], lanes: int, cost_bits: float
) -> bytes:
    """The bits `words` with P(1) = p1[ids] / 2**16; `cost_bits` is their ideal cost, for the output's size."""
    room = int(cost_bits / 32 * 1.01) + 2 * lanes + 64
    while True:
        out = np.empty(room, dtype="<u4")
        first = encode(ids, words, p1, lanes, out)
        if first >= 0:
            return out[first:].tobytes()
        room *= 2
