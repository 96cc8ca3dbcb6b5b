"""The coder of the `pattern` codec: rANS over bytes of eight bits each, every byte under the table of its class.

Duda, "Asymmetric numeral systems", arXiv 1311.2540, with the states, words and lanes of the `ans` codec
(`maskstore.codecs.coders.rans`): a symbol of eight bits takes about the time of one bit there.

A table gives each of the 256 bytes a frequency; those of a table add up to 2**16. `classes[i >> shift]` is the class of
byte i: one for each byte with shift 0, one for all with shift 63.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from maskstore.codecs.coders.rans_lanes import LOW, first_states, push, put_state, refill, symbols
from maskstore.files import pieces
from maskstore.kernels import compiled

_PIECE = 1 << 22  # bytes that are decoded at a time, a tenth of a second's work
_MANY = 1 << 16  # bytes from which on four lanes are worth their 24 bytes


@compiled
def _encode(data, classes, shift, reciprocals, numbers, lanes, out):
    """Code bytes into `out` (uint32) from its end; the first index used, or -1 if `out` may be too small."""
    x0 = x1 = x2 = x3 = np.uint64(1) << np.uint64(32)  # in registers: each waits for itself only
    at, i = out.size, data.size - 1
    while i >= 0 and at >= 1 and (lanes == 1 or i & 3 != 3):
        symbol = np.int64(classes[i >> shift]) << 8 | np.int64(data[i])
        lane = i & (lanes - 1)
        if lane == 0:
            x0, at = push(x0, reciprocals[symbol], numbers[symbol], out, at)
        elif lane == 1:
            x1, at = push(x1, reciprocals[symbol], numbers[symbol], out, at)
        else:
            x2, at = push(x2, reciprocals[symbol], numbers[symbol], out, at)
        i -= 1
    while i >= 0 and at >= 4:
        symbol = np.int64(classes[i >> shift]) << 8 | np.int64(data[i])
        x3, at = push(x3, reciprocals[symbol], numbers[symbol], out, at)
        symbol = np.int64(classes[(i - 1) >> shift]) << 8 | np.int64(data[i - 1])
        x2, at = push(x2, reciprocals[symbol], numbers[symbol], out, at)
        symbol = np.int64(classes[(i - 2) >> shift]) << 8 | np.int64(data[i - 2])
        x1, at = push(x1, reciprocals[symbol], numbers[symbol], out, at)
        symbol = np.int64(classes[(i - 3) >> shift]) << 8 | np.int64(data[i - 3])
        x0, at = push(x0, reciprocals[symbol], numbers[symbol], out, at)
        i -= 4
    if i >= 0 or at < 2 * lanes:
        return -1
    if lanes == 4:
        at = put_state(x1, out, put_state(x2, out, put_state(x3, out, at)))
    return put_state(x0, out, at)


@njit(inline="always")
def _step(x, kind, slots, widths):
    """The byte that a state stands at, and the state before it."""
    slot = x & np.uint64(0xFFFF)
    symbol = slots[kind, slot]
    width = widths[kind, symbol]
    return np.uint64(width & np.uint32(0xFFFF)) * (x >> np.uint64(16)) + slot - np.uint64(
        width >> np.uint32(16)
    ), symbol


@compiled
def _decode(classes, shift, slots, widths, first, stop, states, at, stream, out):
    """Decode bytes `first` (a multiple of 4) to `stop` - 1; the place in the stream. `states` go on where they were."""
    lanes = states.size
    i = first
    if lanes == 4:
        # four independent chains in registers: the processor works on them side by side
        x0, x1, x2, x3 = states[0], states[1], states[2], states[3]
        while i + 4 <= stop:
            x0, out[i] = _step(x0, classes[i >> shift], slots, widths)
            x1, out[i + 1] = _step(x1, classes[(i + 1) >> shift], slots, widths)
            x2, out[i + 2] = _step(x2, classes[(i + 2) >> shift], slots, widths)
            x3, out[i + 3] = _step(x3, classes[(i + 3) >> shift], slots, widths)
            x0, at = refill(x0, stream, at)
            x1, at = refill(x1, stream, at)
            x2, at = refill(x2, stream, at)
            x3, at = refill(x3, stream, at)
            i += 4
        states[0], states[1], states[2], states[3] = x0, x1, x2, x3
    while i < stop:
        lane = i & (lanes - 1)
        x, out[i] = _step(states[lane], classes[i >> shift], slots, widths)
        states[lane], at = refill(x, stream, at)
        i += 1
    return at


def lanes_for(count: int) -> int:
    """How many lanes so many bytes are worth."""
    return 4 if count >= _MANY else 1


def encode(
    data: NDArray[np.uint8], classes: NDArray[np.uint8], frequencies: NDArray[np.int64], lanes: int, cost_bits: float
) -> bytes:
    """Bytes as the words of the coder.

    Args:
        data: The bytes, `(count,)`.
        classes: The table of each byte, `(count,)`, or `(1,)` for one table.
        frequencies: A table a row, `(tables, 256)`.
        lanes: 1 or 4.
        cost_bits: The ideal cost, for the output's size.
    """
    starts = np.cumsum(frequencies, axis=1) - frequencies
    tables = symbols(frequencies.reshape(-1), starts.reshape(-1))
    room = int(cost_bits / 32 * 1.01) + 2 * lanes + 64
    while True:
        out = np.empty(room, dtype="<u4")
        first = _encode(data, classes, _shift(classes), *tables, lanes, out)
        if first >= 0:
            return out[first:].tobytes()
        room *= 2


def decode(
    payload: bytes, classes: NDArray[np.uint8], frequencies: NDArray[np.int64], lanes: int, out: NDArray[np.uint8]
) -> bool:
    """Decode into `out`; whether all words were used and every lane ended where it began."""
    stream = np.frombuffer(payload, dtype="<u4").astype(np.uint32, copy=False)
    at, states = 2 * lanes, first_states(stream, lanes)
    if states is None:
        return False
    starts = np.cumsum(frequencies, axis=1) - frequencies
    widths = (frequencies | starts << 16).astype(np.uint32)
    symbols = np.arange(256, dtype=np.uint8)
    slots = np.stack([np.repeat(symbols, row) for row in frequencies])
    for first, stop in pieces(out.size, _PIECE):
        at = _decode(classes, _shift(classes), slots, widths, first, stop, states, at, stream, out)
    return bool(at == stream.size and (states == LOW).all())


def _shift(classes: NDArray[np.uint8]) -> np.int64:
    return np.int64(63 if classes.size == 1 else 0)


@compiled
def _histogram(data):
    """How often each byte stands; a run of one byte does not wait for itself."""
    out = np.zeros((4, 256), dtype=np.int64)
    whole = data.size & ~3
    for i in range(0, whole, 4):
        out[0, data[i]] += 1
        out[1, data[i + 1]] += 1
        out[2, data[i + 2]] += 1
        out[3, data[i + 3]] += 1
    for i in range(whole, data.size):
        out[0, data[i]] += 1
    return out


@compiled
def _count(data, classes, shift, out):
    for i in range(data.size):
        out[classes[i >> shift], data[i]] += 1


def count(data: NDArray[np.uint8], classes: NDArray[np.uint8], tables: int) -> NDArray[np.int64]:
    """How often each byte stands in each class, `(tables, 256)`."""
    if classes.size == 1:
        summed: NDArray[np.int64] = _histogram(data).sum(axis=0, keepdims=True)
        return summed
    out = np.zeros((tables, 256), dtype=np.int64)
    _count(data, classes, _shift(classes), out)
    return out
