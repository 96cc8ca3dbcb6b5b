"""Lanes of the rANS coders: their states, and how these read and write the one stream of words that they share.

Duda, "Asymmetric numeral systems", arXiv 1311.2540; states in [2**32, 2**64), words of 32 bits, frequencies out of
2**16. The coders of `ans` (bits) and of `pattern` (bytes) differ in their symbols only.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from maskstore.kernels import compiled
from maskstore.kernels.ir import wide

_high_product = wide.high_product
LOW = np.uint64(1 << 32)
"""The least state, which is also the first."""


@compiled
def symbols(frequencies, starts):
    """What `push` needs of symbols: reciprocals, and frequency | start << 16 | shift << 32, each `(count,)` uint64.

    The reciprocal of f with 2**k <= f < 2**(k + 1) is 2**(64 + k) / f, rounded down.
    """
    count = frequencies.size
    reciprocals, numbers = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64)
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    for i in range(count):
        frequency = np.uint64(frequencies[i])
        if frequency == 0:
            continue
        digits = np.uint64(0)
        while frequency >> digits > np.uint64(1):
            digits += np.uint64(1)
        top = np.uint64(1) << half + digits
        high = top // frequency
        rest = ((top - high * frequency) << half) // frequency
        power = frequency == np.uint64(1) << digits  # of which the reciprocal has a bit too many
        reciprocals[i] = (low << half | low) if power else (high << half | rest)
        numbers[i] = frequency | np.uint64(starts[i]) << np.uint64(16) | digits << half
    return reciprocals, numbers


@njit(inline="always")
def push(x, reciprocal, numbers, out, at):
    """The state after a symbol, and the place of the last word written; `at` is at least 1.

    Nothing here is a jump, which a processor would guess wrong, nor a division, which it would wait for.
    """
    frequency = numbers & np.uint64(0xFFFF)
    out[at - 1] = np.uint32(x & np.uint64(0xFFFFFFFF))
    full = np.int64(x >= frequency << np.uint64(48))
    at -= full
    x >>= np.uint64(full << 5)
    quotient = _high_product(x, reciprocal) >> (numbers >> np.uint64(32))  # one too small at most
    rest = x - quotient * frequency
    more = np.uint64(rest >= frequency)
    quotient, rest = quotient + more, rest - more * frequency
    return (quotient << np.uint64(16)) + rest + (numbers >> np.uint64(16) & np.uint64(0xFFFF)), at


@njit(inline="always")
def put_state(x, out, at):
    """Write a last state before the words that follow; its place."""
    out[at - 2] = np.uint32(x & np.uint64(0xFFFFFFFF))
    out[at - 1] = np.uint32(x >> np.uint64(32))
    return at - 2


@njit(inline="always")
def refill(x, stream, at):
    """The state with another word where it wants one, and the place of the next."""
    if x < LOW:
        # past the end the decoder runs on zeros; the caller sees from `at` that the stream was too short
        word = np.uint64(stream[at]) if at < stream.size else np.uint64(0)
        return (x << np.uint64(32)) | word, at + 1
    return x, at


def first_states(stream: NDArray[np.uint32], lanes: int) -> NDArray[np.uint64] | None:
    """The states that a stream begins with, `(lanes,)`; None if they are none."""
    if stream.size < 2 * lanes:
        return None
    pairs = stream[: 2 * lanes].astype(np.uint64).reshape(lanes, 2)
    states: NDArray[np.uint64] = pairs[:, 0] | pairs[:, 1] << np.uint64(32)
    return None if (states < LOW).any() else states
