"""The work of the `gap` codec: runs of zeros between ones, digit by digit, through the range coder.

Among independent bits a gap g has a probability proportional to q**g, q being that of a zero: a product over the binary
digits of g, which are thus independent, digit j being 1 with probability q**(2**j) / (1 + q**(2**j)). So the digits'
probabilities start at what the density says, and each then follows what it sees, which catches gaps of other kinds.

In the loops, `odds` `(digits, 2)` are where the digits' probabilities start. The lowest `plain` digits, below a set
one, are coded as fair coins.
"""

from math import lgamma, log

import numpy as np
from numba import njit
from numpy.typing import NDArray

from maskstore.codecs.base import EncodedLayer, Plan
from maskstore.codecs.coders import range_coder
from maskstore.codecs.coders.range_coder import decode_bit, encode_bit
from maskstore.files import pieces, write_leb128
from maskstore.kernels import compiled
from maskstore.masks import bits
from maskstore.priors import Places

_PIECE = 1 << 16  # gaps that are decoded at a time, a hundredth of a second's work
_START = 32  # observations that the starting probability counts for
_MAX_DIGITS = 34
_LIMIT = 1024  # observations after which a probability forgets as fast as it learns
_SEQUENCE = np.uint64(0x03F79D71B4CB0A89)
_EXPONENTS = np.zeros(64, dtype=np.int64)
for _n in range(64):
    _EXPONENTS[((1 << _n) * int(_SEQUENCE) & (1 << 64) - 1) >> 58] = _n
_RATES = np.array([65536 // (_START + n) for n in range(_LIMIT - _START + 1)], dtype=np.int64)


@compiled
def positions(words, size, count, flipped):
    """Ascending indices of the `count` set bits of packed words (of the clear ones if `flipped`), `(count,)` int64."""
    out = np.empty(count, dtype=np.int64)
    n = 0
    for w in range(words.size):
        word = ~words[w] if flipped else words[w]
        if flipped and w == words.size - 1 and size % 64:
            word &= (np.uint64(1) << np.uint64(size % 64)) - np.uint64(1)
        while word:
            low = word & (~word + np.uint64(1))
            out[n] = 64 * w + _log2(low)
            n += 1
            word ^= low
    return out


@njit(inline="always")
def _log2(power):
    """Exponent of a power of two below 2**64: the six top bits of a product with a de Bruijn sequence tell them apart.

    Leiserson, Prokop and Randall, "Using de Bruijn sequences to index a 1 in a computer word", 1998.
    """
    return _EXPONENTS[(power * _SEQUENCE) >> np.uint64(58)]


@njit(inline="always")
def _ones(odds, digit, above):
    return min(max(odds[digit, above] >> 12, 1), 65535)


@njit(inline="always")
def _adapt(odds, seen, digit, above, bit):
    n = seen[digit, above]
    odds[digit, above] += (((bit << 28) - odds[digit, above]) * _RATES[n]) >> 16
    seen[digit, above] = min(n + 1, _LIMIT - _START)


@compiled
def encode(positions, digits, plain, odds, out):
    """Code ascending positions; bytes of `out` used, or -1 if it is too small."""
    low, width, at = np.uint64(0), range_coder.WHOLE, np.int64(0)
    seen = np.zeros(odds.shape, dtype=np.int64)
    last = np.int64(-1)
    for position in positions:
        gap = position - last - 1
        last = position
        above = 0
        for digit in range(digits - 1, -1, -1):
            bit = (gap >> digit) & 1
            if above and digit < plain:
                low, width, at = encode_bit(low, width, at, out, bit, 32768)
            else:
                low, width, at = encode_bit(low, width, at, out, bit, _ones(odds, digit, above))
                _adapt(odds, seen, digit, above, bit)
                above |= bit
    return range_coder.finish(low, width, at, out)


@compiled
def _decode(data, size, digits, plain, odds, seen, coder, out):
    """The next positions into `out`; False for one outside. `coder`: the range coder's state and the last position."""
    code, width, at, last = coder[0], coder[1], np.int64(coder[2]), np.int64(coder[3])
    for n in range(out.size):
        gap = np.int64(0)
        above = 0
        for digit in range(digits - 1, -1, -1):
            if above and digit < plain:
                bit, code, width, at = decode_bit(code, width, at, data, 32768)
            else:
                bit, code, width, at = decode_bit(code, width, at, data, _ones(odds, digit, above))
                _adapt(odds, seen, digit, above, bit)
                above |= bit
            gap |= bit << digit
        last += gap + 1
        if last >= size:
            return False
        out[n] = last
    coder[0], coder[1], coder[2], coder[3] = code, width, np.uint64(at), np.uint64(last)
    return True


@compiled
def _set(positions, places, words):
    """Set the bits at `places[positions]`, or at the positions themselves if there are no places.

    On its own, so that the processor waits for many of them at once.
    """
    if places.size:
        for position in positions:
            place = np.int64(places[position])
            words[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
    else:
        for position in positions:
            words[position >> 6] |= np.uint64(1) << np.uint64(position & 63)


def decode(
    data: NDArray[np.uint8],
    count: int,
    size: int,
    digits: int,
    plain: int,
    odds: NDArray[np.int64],
    places: Places,
    words: NDArray[np.uint64],
) -> bool:
    """Set the bits of `count` decoded positions in zeroed words; whether the bytes are such as `encode` writes.

    `places`: which bit each position stands for, below `size`; empty if each stands for itself.
    """
    seen = np.zeros(odds.shape, dtype=np.int64)
    coder = np.array([range_coder.first_code(data), range_coder.WHOLE, 8, (1 << 64) - 1], dtype=np.uint64)  # last: -1
    positions = np.empty(min(count, _PIECE), dtype=np.int64)
    for first, stop in pieces(count, _PIECE):
        found = positions[: stop - first]
        if not _decode(data, size, digits, plain, odds, seen, coder, found):
            return False
        _set(found, places, words)
    return bool(range_coder.ended_well(coder[0], coder[1], int(coder[2]), data))


@compiled
def count_digits(positions, digits, plain):
    """Zeros and ones seen of each digit, below a set one and elsewhere, of those not plain, `(digits, 2, 2)`."""
    out = np.zeros((digits, 2, 2), dtype=np.int64)
    last = np.int64(-1)
    for position in positions:
        gap = position - last - 1
        last = position
        above = 0
        for digit in range(digits - 1, -1, -1):
            if not (above and digit < plain):
                bit = (gap >> digit) & 1
                out[digit, above, bit] += 1
                above |= bit
    return out


def plan(words: NDArray[np.uint64], size: int) -> Plan:
    """How `Gap` codes a layer of at least one bit; its bits are within a few per cent of what it then takes."""
    where, flipped, digits = measure(words, size)
    head = 8 * len(write_leb128(2 * where.size + flipped))
    total = head + (_estimate_bits(where, size, digits) + 16 if where.size else 0)
    return Plan(float(total), lambda: code(size, where, flipped, digits))


def code(size: int, where: NDArray[np.int64], flipped: bool, digits: int) -> EncodedLayer:
    head = write_leb128(2 * where.size + flipped)
    if not where.size:
        return EncodedLayer(head, b"")
    plain, odds = model(size, where.size, digits)
    room = 64 + 2 * where.size
    while True:
        out = np.empty(room, dtype=np.uint8)
        used = encode(where, digits, plain, odds, out)
        if used >= 0:
            return EncodedLayer(head + bytes([digits]), out[:used].tobytes())
        room *= 2


def measure(words: NDArray[np.uint64], size: int) -> tuple[NDArray[np.int64], bool, int]:
    """(places of the rarer kind of bit, whether that kind is 0, binary digits of the longest gap)."""
    ones = bits.popcount(words)
    flipped = 2 * ones > size
    where = positions(words, size, size - ones if flipped else ones, flipped)
    longest = int(_longest_step(where)) - 1 if where.size else 0
    return where, flipped, longest.bit_length()


@compiled
def _longest_step(positions):
    """From before the first of some ascending places on."""
    longest, last = np.int64(0), np.int64(-1)
    for position in positions:
        longest, last = max(longest, position - last), position
    return longest


def model(size: int, count: int, digits: int) -> tuple[int, NDArray[np.int64]]:
    """(plain digits, starting odds) for gaps between `count` ones, at least one, among `size` bits.

    The lowest digits, below a set one, pass for fair coins while q**(2**j) > 15/16, and are coded as such. The odds,
    `(digits, 2)`, are P(digit = 1) in units of 2**-28.
    """
    odds = np.empty((digits, 2), dtype=np.int64)
    return int(_starting_odds(((size - count) << 32) // size, odds)), odds


@compiled
def _starting_odds(power, odds):
    """Fills in the odds for a probability of a zero in units of 2**-32, and gives the plain digits."""
    plain = 0
    for digit in range(max(odds.shape[0], _MAX_DIGITS)):
        if plain == digit and plain < _MAX_DIGITS and power > 15 << 28:
            plain += 1
        if digit < odds.shape[0]:
            odds[digit] = (power << 28) // ((1 << 32) + power)
        power = np.int64(np.uint64(power) * np.uint64(power) >> np.uint64(32))
    return plain


def _estimate_bits(where: NDArray[np.int64], size: int, digits: int) -> float:
    """Bits of the payload, without coding.

    A probability that starts as 32 observations would and then counts along pays for a sequence what a beta prior
    says: log B(a, b) - log B(a + ones, b + zeros).
    """
    if not digits:
        return 0.0
    plain, odds = model(size, where.size, digits)
    seen = count_digits(where, digits, plain)
    coins = sum(where.size - int(seen[digit, 0].sum()) for digit in range(min(plain, digits)))
    return coins + float(_learned_bits(odds, seen))


@compiled
def _learned_bits(odds, seen):
    """Of digits, by the odds that they start with and how often each was 0 and 1."""
    total = 0.0
    for digit in range(odds.shape[0]):
        for above in range(2):
            start = min(max(odds[digit, above] / 2.0**28, 2.0**-16), 1 - 2.0**-16)
            a, b = _START * (1 - start), _START * start
            zeros, ones = seen[digit, above, 0], seen[digit, above, 1]
            total += lgamma(a) + lgamma(b) - lgamma(a + b)
            total -= lgamma(a + zeros) + lgamma(b + ones) - lgamma(a + b + zeros + ones)
    return total / log(2)
