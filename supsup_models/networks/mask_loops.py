"""Weights times a mask's packed bits, in one pass over both. Importing this module imports Numba."""

import numpy as np

from maskstore.kernels import compiled


@compiled
def times_bits(words, values, out):
    """`out[i] = values[i] * bit i of words`, all float32 of one length, for as many words as have those bits."""
    whole = values.size >> 6
    for at in range(whole):
        word, first = words[at], at << 6
        for bit in range(64):
            out[first + bit] = values[first + bit] * np.float32(word >> np.uint64(bit) & np.uint64(1))
    for place in range(whole << 6, values.size):
        out[place] = values[place] * np.float32(words[whole] >> np.uint64(place & 63) & np.uint64(1))
