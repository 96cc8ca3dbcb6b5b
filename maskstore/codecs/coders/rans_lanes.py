"""Lanes of the rANS coders: their states, and how these read and write the one stream of words that they share.

Duda, "Asymmetric numeral systems", arXiv 1311.2540; states in [2**32, 2**64), words of 32 bits, frequencies out of
2**16. The coders of `ans` (bits) and of `pattern` (bytes) differ in their symbols only.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

LOW = np.uint64(1 << 32)
"""The least state, which is also the first."""


@njit(inline="always")
def push(x, frequency, start, out, at):
    """The state after a symbol, and the place of the last word written; below zero where there was no room."""
    if x >= frequency << np.uint64(48):
        at -= 1
        if at >= 0:
            out[at] = np.uint32(x & np.uint64(0xFFFFFFFF))
        x >>= np.uint64(32)
    quotient = x // frequency
    return (quotient << np.uint64(16)) + (x - quotient * frequency) + start, at


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
