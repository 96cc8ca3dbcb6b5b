"""Bits of a layer in another order, without what is known to be empty: the arrangements of the `pattern` codec.

A layer is seen as lines of n places each. In order 0 a line is a row: one index of the first dimension. In order d + 1
a line runs along dimension d: with inner = the product of the later sizes, bit (line, place) is element
(line // inner) * n * inner + place * inner + line % inner. Only some lines and places may be kept, and where tiles of
h x w bits are each of one value, one bit stands for each. `docs/format-codecs.md`, "Codec pattern", is normative.
"""

from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskstore.files import pieces
from maskstore.kernels import compiled
from maskstore.masks import bits

_PIECE = 1 << 26  # bits at a time
_ALL = np.zeros(0, dtype=np.int64)


class Order(NamedTuple):
    """Lines of a layer: how many, how many places each has, and the stride between those."""

    lines: int
    places: int
    inner: int

    @classmethod
    def of(cls, shape: tuple[int, ...], number: int) -> "Order":
        """Order 0, rows; or d + 1, along dimension d, if there is such a dimension."""
        size = prod(shape)
        if number == 0:
            lines = shape[0] if len(shape) > 1 else 1
            return cls(lines, size // lines, 1)
        return cls(size // shape[number - 1], shape[number - 1], prod(shape[number:]))


class Arrangement(NamedTuple):
    """Which bits are coded, and in which order."""

    order: Order
    lines: NDArray[np.int64] | None = None
    """Indices of the lines that are kept; None for all."""
    places: NDArray[np.int64] | None = None
    tile: tuple[int, int] = (1, 1)
    """(lines, places) that one bit stands for."""

    @property
    def kept(self) -> tuple[int, int]:
        """(lines, places) that are kept."""
        lines = self.order.lines if self.lines is None else self.lines.size
        return lines, self.order.places if self.places is None else self.places.size

    @property
    def shape(self) -> tuple[int, int]:
        """(lines, places) that are coded."""
        return self.kept[0] // self.tile[0], self.kept[1] // self.tile[1]

    @property
    def _plain(self) -> bool:
        return self.lines is None and self.places is None and self.tile == (1, 1)

    def collect(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The coded bits as packed words; the words themselves where these are the same."""
        n, inner = self.order.places, self.order.inner
        if self._plain and inner == 1:
            return words
        lines, places = self.shape
        out = np.zeros((lines * places + 63) // 64, dtype=np.uint64)
        if self._plain and inner % 8 == n % 8 == 0:
            _turn_bytes(bits.as_bytes(words), n, inner, self.order.lines // inner, out.view(np.uint8))
            return out
        for first, stop in pieces(lines, _lines_in_a_piece(places)):
            _collect(words, n, inner, *self._kept_arrays(), *self.tile, first, stop, places, out)
        return out

    def spread(self, coded: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
        """Put coded bits where they belong in zeroed words."""
        n, inner = self.order.places, self.order.inner
        if self._plain and inner == 1:
            out[:] = coded
        elif self._plain and inner % 8 == n % 8 == 0:
            _turn_bytes(bits.as_bytes(coded), inner, n, self.order.lines // inner, out.view(np.uint8))
        else:
            lines, places = self.kept
            for first, stop in pieces(lines, _lines_in_a_piece(places)):
                _spread(coded, n, inner, *self._kept_arrays(), *self.tile, first, stop, places, out)

    def _kept_arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return _ALL if self.lines is None else self.lines, _ALL if self.places is None else self.places


def _lines_in_a_piece(places: int) -> int:
    return max(1, _PIECE // max(1, places))


@compiled
def _collect(words, n, inner, lines, places, tall, wide, first, stop, width, out):
    """Bits of the tiles' corners for coded lines `first` to `stop` - 1, of `width` tiles each, one after the other."""
    to = first * width
    word = out[to >> 6] if to & 63 else np.uint64(0)
    for number in range(first, stop):
        line = number * tall if lines.size == 0 else lines[number * tall]
        start = (line // inner) * n * inner + line % inner
        for k in range(width):
            place = k * wide if places.size == 0 else places[k * wide]
            i = start + place * inner
            word |= (words[i >> 6] >> np.uint64(i & 63) & np.uint64(1)) << np.uint64(to & 63)
            to += 1
            if to & 63 == 0:
                out[(to >> 6) - 1] = word
                word = np.uint64(0)
    if to & 63:
        out[to >> 6] = word


@compiled
def _spread(coded, n, inner, lines, places, tall, wide, first, stop, width, out):
    """Set bits of kept lines `first` to `stop` - 1, of `width` places each, as their tiles say."""
    tiles = width // wide
    for number in range(first, stop):
        line = number if lines.size == 0 else lines[number]
        start = (line // inner) * n * inner + line % inner
        at = (number // tall) * tiles
        for k in range(tiles):
            bit = coded[at >> 6] >> np.uint64(at & 63) & np.uint64(1)
            at += 1
            if bit:
                for place in range(k * wide, k * wide + wide):
                    i = start + (place if places.size == 0 else places[place]) * inner
                    out[i >> 6] |= np.uint64(1) << np.uint64(i & 63)


@compiled
def _turn_bytes(data, n, inner, outer, out):
    """Turn each of `outer` bit matrices of n x inner, whose sizes are multiples of 8, into inner x n."""
    rows, columns = n >> 3, inner >> 3  # of blocks of 8 x 8 bits
    for slab in range(outer):
        start = slab * n * columns
        for corner in range(0, columns, 8):  # eight bytes of a row lie in one line of the cache
            for row in range(rows):
                for column in range(corner, min(corner + 8, columns)):
                    x = np.uint64(0)
                    at = start + 8 * row * columns + column
                    for k in range(8):
                        x |= np.uint64(data[at + k * columns]) << np.uint64(8 * k)
                    # three rounds of exchanging bits, pairs and nibbles across the diagonal
                    y = (x ^ x >> np.uint64(7)) & np.uint64(0x00AA00AA00AA00AA)
                    x = x ^ y ^ y << np.uint64(7)
                    y = (x ^ x >> np.uint64(14)) & np.uint64(0x0000CCCC0000CCCC)
                    x = x ^ y ^ y << np.uint64(14)
                    y = (x ^ x >> np.uint64(28)) & np.uint64(0x00000000F0F0F0F0)
                    x = x ^ y ^ y << np.uint64(28)
                    to = start + 8 * column * rows + row
                    for k in range(8):
                        out[to + k * rows] = np.uint8(x >> np.uint64(8 * k) & np.uint64(255))


@compiled
def occupied(words, size, n, inner, of_lines, of_places):
    """Mark the lines and the places that have a set bit."""
    for w in range(words.size):
        word = words[w]
        i = w << 6
        while word:
            if word & np.uint64(1):
                slab, rest = i // (n * inner), i % (n * inner)
                of_places[rest // inner] = True
                of_lines[slab * inner + rest % inner] = True
            word >>= np.uint64(1)
            i += 1


@compiled
def ones_of_lines(words, lines, n):
    """Set bits in each of `lines` runs of n bits, `(lines,)` int64."""
    out = np.zeros(lines, dtype=np.int64)
    at = 0
    for line in range(lines):
        end = at + n
        total = np.int64(0)
        while at < end:
            step = min(64 - (at & 63), end - at)
            x = words[at >> 6] >> np.uint64(at & 63)
            if step < 64:
                x &= (np.uint64(1) << np.uint64(step)) - np.uint64(1)
            x -= (x >> np.uint64(1)) & np.uint64(0x5555555555555555)
            x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
            x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
            total += np.int64(x * np.uint64(0x0101010101010101) >> np.uint64(56))
            at += step
        out[line] = total
    return out
