"""Patterns with few ones as one stream of bits: the gaps between ones, in Golomb-Rice codes, and products with them.

The k patterns of d neurons are one long row of k d bits, pattern after pattern. Of each one, the number of zeros since
the one before is written: its part above the lowest `low` bits as so many 0 and a 1, then those `low` bits, the lowest
first. `low` follows the gaps before (`adapted`), so that layers of a mask may have densities of their own. Bit i of the
stream is bit i % 64 of word i // 64. Every pattern has a one, so k and d bound no loop by themselves.

Source: Rice, "Some practical universal noiseless coding techniques", JPL 1979; that `low` follows a running mean is
from JPEG-LS (Weinberger, Seroussi and Sapiro, "The LOCO-I lossless image compression algorithm", 2000).
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

import numpy as np

from maskstore.kernels import compiled

FIRST = (132, 4, 3)  # as after four gaps of 16
_WINDOW = 64  # gaps after which what was before counts half


@compiled
def adapted(total, count, low, gap):
    """The state after a gap: the sum of 2 gap + 1 and the number of gaps, both fading, and the digits `low`.

    `low` is the least number with 2**low of at least half of the mean gap: the best for geometric gaps, nearly.
    """
    total += 2 * gap + 1
    count += 1
    if count == _WINDOW:
        total, count = total >> 1, count >> 1
    while count << (low + 2) < total:
        low += 1
    while low > 0 and count << (low + 1) >= total:
        low -= 1
    return total, count, low


@compiled
def stream_bits(places):
    """Bits of the stream for ones at these ascending places `(n,)` int64."""
    bits, last = 0, np.int64(-1)
    total, count, low = FIRST
    for place in places:
        gap = place - last - 1
        bits += (gap >> low) + 1 + low
        last = place
        total, count, low = adapted(total, count, low, gap)
    return bits


@compiled
def write(places, words):
    """Write the stream into `words` uint64, which are zero."""
    at, last = 0, np.int64(-1)
    total, count, low = FIRST
    for place in places:
        gap = place - last - 1
        last = place
        at += gap >> low
        words[at >> 6] |= np.uint64(1) << np.uint64(at & 63)
        at += 1
        for bit in range(low):
            words[at >> 6] |= np.uint64((gap >> bit) & 1) << np.uint64(at & 63)
            at += 1
        total, count, low = adapted(total, count, low, gap)


@compiled
def next_gap(words, at, low):
    """The gap that begins at a bit of the stream, and the bit after it; -1 if the stream ends before."""
    bits = 64 * len(words)
    high = 0
    while True:
        if at >= bits:
            return -1, at
        word = words[at >> 6] >> np.uint64(at & 63)
        if not word:  # the rest of a word at once
            high += 64 - (at & 63)
            at += 64 - (at & 63)
            continue
        while not word & np.uint64(1):
            word >>= np.uint64(1)
            high += 1
            at += 1
        break
    at += 1
    if low == 0:
        return high, at
    if at + low > bits:
        return -1, at
    shift = np.uint64(at & 63)
    rest = words[at >> 6] >> shift
    if (at & 63) + low > 64:
        rest |= words[(at >> 6) + 1] << (np.uint64(64) - shift)
    rest &= (np.uint64(1) << np.uint64(low)) - np.uint64(1)
    return (high << low) | np.int64(rest), at + low


@compiled
def read(words, ones, dim, patterns, places):
    """Write the places `(ones,)` int64 of all ones; False unless each of the patterns has one and the stream fits."""
    at, neuron, pattern, own = 0, np.int64(-1), 0, 0
    total, count, low = FIRST
    for one in range(ones):
        gap, at = next_gap(words, at, low)
        neuron += gap + 1
        if neuron >= dim and own:
            neuron -= dim
            pattern += 1
            own = 0
        own += 1
        if gap < 0 or neuron >= dim or pattern >= patterns:
            return False
        places[one] = pattern * dim + neuron
        total, count, low = adapted(total, count, low, gap)
    return pattern == patterns - 1 and at > 64 * (len(words) - 1)


@compiled
def add(words, ones, dim, source, out, to_neurons):
    """Add rows of `source` to rows of `out`, for each one of each pattern: float64 sums of `b` numbers side by side.

    To patterns, `out` is `(k, b)` and `source` `(d, b)`, a state in each column. To neurons, `out` is `(d, b)` and
    `source` `(k, b)`, a weight for each pattern.
    """
    at, neuron, pattern = 0, np.int64(-1), 0
    total, count, low = FIRST
    for _ in range(ones):
        gap, at = next_gap(words, at, low)
        total, count, low = adapted(total, count, low, gap)
        neuron += gap + 1
        if neuron >= dim:
            neuron -= dim
            pattern += 1
        target, origin = (neuron, pattern) if to_neurons else (pattern, neuron)
        row, values = out[target], source[origin]
        for b in range(len(row)):
            row[b] += values[b]
