"""The Numba loops of the `gap` codec: runs of zeros between ones, digit by digit, through the range coder.

Among independent bits a gap g has a probability proportional to q**g, q being that of a zero: a product over the binary
digits of g, which are thus independent, digit j being 1 with probability q**(2**j) / (1 + q**(2**j)). So the digits'
probabilities start at what the density says, and each then follows what it sees, which catches gaps of other kinds.
"""

from math import lgamma, log

import numpy as np
from numba import njit
from numpy.typing import NDArray

from maskstore.codecs.coders import range_coder as rangecoder
from maskstore.codecs.coders.range_coder import decode_bit, encode_bit

MAX_DIGITS = 34
_START = 32  # observations that the starting probability counts for
_LIMIT = 1024  # observations after which a probability forgets as fast as it learns
_RATES = np.array([65536 // (_START + n) for n in range(_LIMIT - _START + 1)], dtype=np.int64)


@njit(cache=True, nogil=True)
def _positions(words, size, flipped, out):
    """Indices of the set bits (of the clear ones if `flipped`), ascending."""
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
    return n


@njit(inline="always")
def _log2(power):
    """Exponent of a power of two below 2**64."""
    n = 0
    for step in (32, 16, 8, 4, 2, 1):
        if power >> np.uint64(step):
            power >>= np.uint64(step)
            n += step
    return n


@njit(inline="always")
def _ones(odds, digit, above):
    return min(max(odds[digit, above] >> 12, 1), 65535)


@njit(inline="always")
def _adapt(odds, seen, digit, above, bit):
    n = seen[digit, above]
    odds[digit, above] += (((bit << 28) - odds[digit, above]) * _RATES[n]) >> 16
    seen[digit, above] = min(n + 1, _LIMIT - _START)


@njit(cache=True, nogil=True)
def _encode(positions, digits, plain, odds, out):
    low, width, at = np.uint64(0), rangecoder.WHOLE, np.int64(0)
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
    return rangecoder.finish(low, width, at, out)


@njit(cache=True, nogil=True)
def _decode(data, count, size, digits, plain, odds, words):
    code, width, at = rangecoder.first_code(data), rangecoder.WHOLE, np.int64(8)
    seen = np.zeros(odds.shape, dtype=np.int64)
    last = np.int64(-1)
    for _ in range(count):
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
        words[last >> 6] |= np.uint64(1) << np.uint64(last & 63)
    return rangecoder.ended_well(code, width, at, data)


@njit(cache=True, nogil=True)
def _count(positions, digits, plain, out):
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


def positions(words: NDArray[np.uint64], size: int, count: int, flipped: bool) -> NDArray[np.int64]:
    """Ascending indices of the `count` set bits of packed words, or of the clear ones, shape `(count,)`."""
    out = np.empty(count, dtype=np.int64)
    _positions(words, size, flipped, out)
    return out


def starting_odds(size: int, count: int, digits: int) -> NDArray[np.int64]:
    """P(digit = 1) in units of 2**-28 for gaps between `count` ones among `size` bits, `(digits, 2)`."""
    power = ((size - count) << 32) // size  # q**(2**j) in units of 2**-32
    odds = []
    for _ in range(digits):
        odds.append([(power << 28) // ((1 << 32) + power)] * 2)
        power = power * power >> 32
    return np.array(odds, dtype=np.int64).reshape(digits, 2)


def plain_digits(size: int, count: int) -> int:
    """How many of the lowest digits, below a set one, pass for fair coins (q**(2**j) > 15/16) and are coded as such."""
    power, digits = ((size - count) << 32) // size, 0
    while power > 15 << 28 and digits < MAX_DIGITS:
        power, digits = power * power >> 32, digits + 1
    return digits


def encode(where: NDArray[np.int64], size: int, digits: int) -> bytes:
    """Code ascending positions below `size`."""
    room = 64 + 2 * where.size
    while True:
        out = np.empty(room, dtype=np.uint8)
        used = _encode(where, digits, plain_digits(size, where.size), starting_odds(size, where.size, digits), out)
        if used >= 0:
            return out[:used].tobytes()
        room *= 2


def decode(payload: bytes, count: int, size: int, digits: int, words: NDArray[np.uint64]) -> bool:
    """Set `count` decoded positions in zeroed words; whether the bytes are such as `encode` writes."""
    data = rangecoder.as_array(payload)
    plain = plain_digits(size, count)
    return bool(_decode(data, count, size, digits, plain, starting_odds(size, count, digits), words))


def estimate_bits(where: NDArray[np.int64], size: int, digits: int) -> float:
    """Bits that `encode` would need, without coding.

    A probability that starts as 32 observations would and then counts along pays for a sequence what a beta prior
    says: log B(a, b) - log B(a + ones, b + zeros).
    """
    if not digits:
        return 0.0
    plain = plain_digits(size, where.size)
    seen = np.zeros((digits, 2, 2), dtype=np.int64)
    _count(where, digits, plain, seen)
    coins = sum(where.size - int(seen[digit, 0].sum()) for digit in range(min(plain, digits)))
    start = np.clip(starting_odds(size, where.size, digits)[..., None] / 2.0**28, 2.0**-16, 1 - 2.0**-16)
    prior = _START * np.concatenate([1 - start, start], axis=2).reshape(-1, 2)
    return coins + sum(_log2_beta(*a) - _log2_beta(*b) for a, b in zip(prior, prior + seen.reshape(-1, 2), strict=True))


def _log2_beta(a: float, b: float) -> float:
    return (lgamma(a) + lgamma(b) - lgamma(a + b)) / log(2)
