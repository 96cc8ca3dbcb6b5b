"""Samples of a layer for the `pattern` codec, and what can be seen in them."""

from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.coders.lines import Order
from maskstore.kernels import compiled

SAMPLE_LINES = 64


class Sample(NamedTuple):
    """Neighbouring lines from the middle, of long lines the first places."""

    start: int
    """The first line."""
    bits: NDArray[np.uint8]
    """`(lines, places)`, 0 and 1."""
    histogram: NDArray[np.int64]
    """Of the bytes that these are, end to end, `(256,)`."""
    ones: NDArray[np.int64]
    """Of each line."""
    used: int
    """How many places have a set bit."""

    @classmethod
    def of(cls, words: NDArray[np.uint64], order: Order, most_bits: int) -> "Sample":
        """About so many bits of a layer."""
        places = min(order.places, most_bits // SAMPLE_LINES)
        count = min(order.lines, max(1, most_bits // max(1, places)))
        start = (order.lines - count) // 2 // 8 * 8
        dense = _dense(words, order.places, order.inner, start, count, places)
        return cls(start, dense, *_counted(dense))

    @property
    def has_empty(self) -> bool:
        """Whether more lines or places are empty than chance makes."""
        count, places = self.bits.shape
        ones = int(self.ones.sum())
        density = ones / self.bits.size if self.bits.size else 0.0
        with_ones = np.count_nonzero(self.ones), self.used
        for seen, of, length in ((with_ones[0], count, places), (with_ones[1], places, count)):
            if of and 1 - seen / of > 2 * (1 - density) ** length + 0.01:
                return True
        return False

    def tile(self, whole: tuple[int, int]) -> tuple[int, int]:
        """The largest tiles that it and so many lines and places can be made of."""
        return tile_of(self.bits, self.start, whole)


def tile_of(sample: NDArray[np.uint8], start: int, kept: tuple[int, int]) -> tuple[int, int]:
    """The largest tiles that a sample, `(lines, places)` from line `start` on, and the whole can be made of."""
    tall, wide = (int(found) for found in _runs(sample, start))
    return gcd(tall or start + sample.shape[0], kept[0]), gcd(wide or sample.shape[1], kept[1])


@compiled
def _dense(words, n, inner, start, count, places):
    """The first `places` places of `count` lines from line `start` on, `(count, places)` uint8 of 0 and 1."""
    out = np.empty((count, places), dtype=np.uint8)
    one = np.uint64(1)
    if inner == 1:
        for k in range(count):
            i = (start + k) * n
            for place in range(places):
                out[k, place] = np.uint8(words[i >> 6] >> np.uint64(i & 63) & one)
                i += 1
        return out
    firsts = np.empty(count, dtype=np.int64)
    for k in range(count):
        firsts[k] = ((start + k) // inner) * n * inner + (start + k) % inner
    for place in range(places):  # neighbouring lines have neighbouring bits
        for k in range(count):
            i = firsts[k] + place * inner
            out[k, place] = np.uint8(words[i >> 6] >> np.uint64(i & 63) & one)
    return out


@compiled
def _counted(sample):
    """Of bits `(lines, places)`: a histogram of the bytes that they make, the ones of each line, and the used places.

    `(256,)` and `(lines,)` int64, and how many places have a set bit.
    """
    histogram, ones = np.zeros(256, dtype=np.int64), np.zeros(sample.shape[0], dtype=np.int64)
    used = np.zeros(sample.shape[1], dtype=np.uint8)
    byte, at = 0, 0
    for line in range(sample.shape[0]):
        total = 0
        for place in range(sample.shape[1]):
            bit = sample[line, place]
            total += bit
            used[place] |= bit
            byte |= np.int64(bit) << at
            at += 1
            if at == 8:
                histogram[byte] += 1
                byte, at = 0, 0
        ones[line] = total
    if at:
        histogram[byte] += 1
    return histogram, ones, np.int64(used.sum())


@compiled
def _runs(bits, start):
    """The greatest common divisors of the lines and of the places where a bit differs from the one before it.

    The first line of `bits` is line `start`.
    """
    lines, places = bits.shape
    tall, wide = 0, 0
    for line in range(lines):
        for place in range(places):
            if line and bits[line, place] != bits[line - 1, place]:
                tall = _divisor(start + line, tall)
            if place and bits[line, place] != bits[line, place - 1]:
                wide = _divisor(place, wide)
        if tall == 1 and wide == 1:
            break
    return tall, wide


@compiled
def _divisor(a, b):
    while b:
        a, b = b, a % b
    return a
