"""A coder with the contexts of JBIG2: each bit given its neighbours above and to the left, as in a scanned page.

The templates are those of generic regions (ITU-T T.88, 6.2.5.3) with their usual adaptive pixels. The arithmetic coder
is a plain carry-less range coder with counts for each context, not the standard's MQ coder: what is compared is the
contexts. Each layer is coded by each template, and the shortest is kept; a byte says which.
"""

import numba
import numpy as np
from numpy.typing import NDArray

TEMPLATES = (
    ((0, -1), (0, -2), (0, -3), (0, -4), (-1, -3), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (-1, 3),
     (-2, -2), (-2, -1), (-2, 0), (-2, 1), (-2, 2)),
    ((0, -1), (0, -2), (0, -3), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (-1, 3), (-2, -1), (-2, 0), (-2, 1),
     (-2, 2)),
    ((0, -1), (0, -2), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (-2, -1), (-2, 0), (-2, 1)),
    ((0, -1), (0, -2), (0, -3), (0, -4), (-1, -3), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2)),
)  # fmt: skip
"""Templates 0 to 3: (row, column) of each neighbour, relative to the bit."""
_TOP, _BOTTOM = 1 << 24, 1 << 16
_MOST = 255  # seen in a context before both counts are halved


@numba.njit(cache=False)
def _context(padded, row, column, template):
    found = 0
    for i in range(template.shape[0]):
        found = found << 1 | padded[row + 2 + template[i, 0], column + 4 + template[i, 1]]
    return found


@numba.njit(cache=False)
def _split(counts, context, width):
    """The part of a range that stands for a 1."""
    zeros, ones = counts[context, 0], counts[context, 1]
    part = width * (2 * ones + 1) // (2 * (zeros + ones) + 2)
    return max(1, min(part, width - 1))


@numba.njit(cache=False)
def _learn(counts, context, bit):
    counts[context, bit] += 1
    if counts[context, 0] + counts[context, 1] > _MOST:
        counts[context, 0] = (counts[context, 0] + 1) >> 1
        counts[context, 1] = (counts[context, 1] + 1) >> 1


@numba.njit(cache=False)
def _encode(bits, template, out):
    """The bytes written to `out`."""
    rows, columns = bits.shape
    padded = np.zeros((rows + 2, columns + 8), dtype=np.int64)
    counts = np.zeros((1 << template.shape[0], 2), dtype=np.int64)
    low, width, at = 0, 0xFFFFFFFF, 0
    for row in range(rows):
        for column in range(columns):
            context, bit = _context(padded, row, column, template), int(bits[row, column])
            part = _split(counts, context, width)
            if bit:
                width = part
            else:
                low, width = low + part, width - part
            while True:
                if (low ^ (low + width)) >= _TOP:  # the first byte is not settled
                    if width >= _BOTTOM:
                        break
                    width = (0x100000000 - low) & (_BOTTOM - 1)
                out[at] = low >> 24 & 255
                at += 1
                low, width = low << 8 & 0xFFFFFFFF, width << 8
            _learn(counts, context, bit)
            padded[row + 2, column + 4] = bit
    for _ in range(4):
        out[at] = low >> 24 & 255
        at += 1
        low = low << 8 & 0xFFFFFFFF
    return at


@numba.njit(cache=False)
def _decode(data, template, bits):
    rows, columns = bits.shape
    padded = np.zeros((rows + 2, columns + 8), dtype=np.int64)
    counts = np.zeros((1 << template.shape[0], 2), dtype=np.int64)
    low, width, at, code = 0, 0xFFFFFFFF, 4, 0
    for i in range(4):
        code = code << 8 | data[i]
    for row in range(rows):
        for column in range(columns):
            context = _context(padded, row, column, template)
            part = _split(counts, context, width)
            bit = int(code - low < part)
            if bit:
                width = part
            else:
                low, width = low + part, width - part
            while True:
                if (low ^ (low + width)) >= _TOP:
                    if width >= _BOTTOM:
                        break
                    width = (0x100000000 - low) & (_BOTTOM - 1)
                code = (code << 8 | data[at]) & 0xFFFFFFFF
                at += 1
                low, width = low << 8 & 0xFFFFFFFF, width << 8
            _learn(counts, context, bit)
            padded[row + 2, column + 4] = bit
            bits[row, column] = bit


def encode(bits: NDArray[np.bool_]) -> bytes:
    """A matrix of bits: the number of the template, then the coder's bytes."""
    found = []
    for number, template in enumerate(TEMPLATES):
        out = np.zeros(bits.size // 2 + 64, dtype=np.uint8)
        used = _encode(bits, np.array(template), out)
        found.append(bytes([number]) + out[:used].tobytes())
    return min(found, key=len)


def decode(data: bytes, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """What `encode` was given."""
    bits = np.zeros(shape, dtype=bool)
    _decode(np.frombuffer(data[1:], dtype=np.uint8).astype(np.int64), np.array(TEMPLATES[data[0]]), bits)
    return bits
