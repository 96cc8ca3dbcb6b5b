"""A binary range coder in Numba: one bit at a time, first in, first out, so that a model may learn between the bits.

Martin, "Range encoding", 1979; with a 64-bit interval, 16-bit probabilities and carries. The coded bytes are a binary
fraction, most significant byte first, in as few bytes as name a number inside the final interval; zero bytes at the end
are left out. `docs/format-codecs.md`, "The range coder", is normative.

The coder's state is handed around as plain integers (low end or code, width, bytes used), which stay in registers.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from maskstore.kernels import compiled

WHOLE = np.uint64(0xFFFFFFFFFFFFFFFF)
_NARROW = np.uint64(0x100000000)  # below this width four bytes are settled


@njit(inline="always")
def narrow(low, width, bit, ones):
    """The interval of a bit that is 1 with probability `ones` / 65536: (low, width, whether `low` passed 2**64).

    With `carry` and `write_four` this is `encode_bit` for loops that must not hand an array around for every bit.
    """
    bound = (width >> np.uint64(16)) * np.uint64(ones)
    zero = np.uint64(bit) - np.uint64(1)  # all ones for a 0
    step = bound & zero
    low += step
    return low, bound ^ ((bound ^ (width - bound)) & zero), low < step


@njit(inline="always")
def is_narrow(width):
    """Whether four bytes are settled, and are to be written or read."""
    return width < _NARROW


@njit(inline="always")
def encode_bit(low, width, at, out, bit, ones):
    """Code a bit (0 or 1) that is 1 with probability `ones` / 65536, 0 < ones < 65536: the new (low, width, at).

    `at` stays below `out.size` - 12; from there on it is negative and nothing more is written.
    """
    bound = (width >> np.uint64(16)) * np.uint64(ones)
    if bit:
        width = bound
    else:
        low += bound
        width -= bound
        if low < bound:  # the sum passed 2**64
            carry(out, at)
    if width < _NARROW:
        at = write_four(low, at, out)
        low <<= np.uint64(32)
        width <<= np.uint64(32)
    return low, width, at


@compiled
def carry(out, at):
    """Add 1 to the bytes before `at`."""
    i = at - 1
    while i >= 0 and out[i] == 255:
        out[i] = 0
        i -= 1
    if i >= 0:
        out[i] += np.uint8(1)


@compiled
def write_four(low, at, out):
    """Write the first four bytes of `low`; the place after them, or -1 where `out` is too small."""
    if at < 0 or at + 12 > out.size:  # these four bytes, and the last eight
        return np.int64(-1)
    for i in range(4):
        out[at + i] = np.uint8(low >> np.uint64(56 - 8 * i) & np.uint64(255))
    return at + 4


@compiled
def finish(low, width, at, out):
    """Write the last bytes; the number of bytes in all, or -1 if `out` was too small."""
    if at < 0 or at + 8 > out.size:
        return -1
    room = width - np.uint64(1)
    top = low + room
    if top < low:
        carry(out, at)
    rest = top
    for i in range(8):  # as many bytes of the interval's last number as keep it inside when the rest become zeros
        if rest <= room:
            break
        out[at] = np.uint8(top >> np.uint64(56 - 8 * i) & np.uint64(255))
        at += 1
        rest = top & (WHOLE >> np.uint64(8 * i + 8)) if i < 7 else np.uint64(0)
    while at > 0 and out[at - 1] == 0:
        at -= 1
    return at


@compiled
def first_code(data):
    """The first eight bytes, most significant first; bytes past the end are zeros."""
    return read_four(read_four(np.uint64(0), 0, data), 4, data)


@compiled
def read_four(code, at, data):
    """Shift four more bytes into a code; bytes past the end are zeros."""
    for i in range(at, at + 4):
        code = code << np.uint64(8) | (np.uint64(data[i]) if i < data.size else np.uint64(0))
    return code


@njit(inline="always")
def choose(code, width, ones):
    """A bit that is 1 with probability `ones` / 65536, and the interval that is left: (bit, code, width).

    With `read_four` this is `decode_bit` for loops that must not hand an array around for every bit.
    """
    bound = (width >> np.uint64(16)) * np.uint64(ones)
    bit = np.int64(code < bound)
    zero = np.uint64(bit) - np.uint64(1)  # all ones for a 0; no processor can guess a bit, so nothing branches on it
    return bit, code - (bound & zero), bound ^ ((bound ^ (width - bound)) & zero)


@njit(inline="always")
def decode_bit(code, width, at, data, ones):
    """A bit that is 1 with probability `ones` / 65536: (bit, code, width, at)."""
    bit, code, width = choose(code, width, ones)
    if width < _NARROW:
        code = read_four(code, at, data)
        width <<= np.uint64(32)
        at += 4
    return bit, code, width, at


@compiled
def ended_well(code, width, at, data):
    """Whether a decoder has met every byte of `data`, none of them a needless zero, and stayed inside the interval."""
    return code < width and data.size <= at and (data.size == 0 or data[-1] != 0)


def as_array(data: bytes) -> NDArray[np.uint8]:
    """Bytes as the array that the decoder reads."""
    return np.frombuffer(data, dtype=np.uint8)


def fewest_bytes(decisions: int) -> int:
    """The least number of bytes, less a few at the ends, that so many coded bits can have.

    The cheapest bit costs log2(65536 / 65535) bits, so a long claim cannot hide in few bytes.
    """
    return max(0, decisions // 45426 // 8 - 16)
