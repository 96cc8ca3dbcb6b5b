"""Bits at chosen places: taken out and packed, and put back. Importing this module imports Numba.

A byte of places and a byte of bits give a byte of result by a table, so the loops take eight bits at a time.
"""

import numpy as np

from maskstore.kernels import compiled


def _tables():
    """(bits set, bits taken out, bits put back): `(256,)`, and twice `(256, 256)` by places and bits, all uint64."""
    places = np.arange(256)
    on = places[:, None] >> np.arange(8) & 1  # (256, 8)
    rank = np.cumsum(on, axis=1) - on  # which of the places each is
    taken, spread = np.zeros((256, 256), dtype=np.uint64), np.zeros((256, 256), dtype=np.uint64)
    for bit in range(8):
        set_here = on[:, bit, None]
        taken |= (set_here * (places >> bit & 1) << rank[:, bit, None]).astype(np.uint64)
        spread |= (set_here * (places >> rank[:, bit, None] & 1) << bit).astype(np.uint64)
    return on.sum(axis=1).astype(np.uint64), taken, spread


COUNTS, TAKEN, SPREAD = _tables()


@compiled
def take(words, kept, counts, taken, out):
    """The bits of `words` where `kept` is set, in order, into the words `out`, which are 0 and have room for them."""
    at, filled = 0, np.uint64(0)
    byte, full = np.uint64(255), np.uint64(64)
    for i in range(kept.size):
        places, bits = kept[i], words[i]
        for _ in range(8):
            here = places & byte
            found, count = taken[here, bits & byte], counts[here]
            if count:
                out[at] |= found << filled
                filled += count
                if filled >= full:
                    filled -= full
                    at += 1
                    if filled:
                        out[at] = found >> (count - filled)
            places >>= np.uint64(8)
            bits >>= np.uint64(8)


@compiled
def put(values, kept, counts, spread, out):
    """The reverse: the bits `values`, in order, to the places of `out` where `kept` is set; the others become 0."""
    at, used = 0, np.uint64(0)
    byte, full = np.uint64(255), np.uint64(64)
    for i in range(kept.size):
        places, word = kept[i], np.uint64(0)
        for j in range(8):
            here = places & byte
            count = counts[here]
            if count:
                found = values[at] >> used
                if used + count > full:
                    found |= values[at + 1] << (full - used)
                word |= spread[here, found & byte] << np.uint64(8 * j)
                used += count
                if used >= full:
                    used -= full
                    at += 1
            places >>= np.uint64(8)
        out[i] = word
