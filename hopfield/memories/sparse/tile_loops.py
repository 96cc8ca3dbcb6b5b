"""The loop over tiles of bits that counts, for every neuron, the neurons that are on and have a bit with it."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

import numpy as np

from maskstore.kernels import compiled

SIDE = 64


@compiled
def count_common(tiles, words, out, first, last):
    """Write the counts of states `first` to `last` to `out` `(b, 64 B)` int32.

    `tiles` `(B (B + 1) / 2, 64)` uint64 are those of the upper block triangle, row of blocks by row of blocks; bit c of
    `tiles[t, r]` is column c of row r. `words` `(b, B)` uint64 are the states.
    """
    blocks = words.shape[1]
    groups = (blocks + 6) // 7
    rows = np.zeros((7 * groups, 64), dtype=np.uint64)
    state = np.zeros(7 * groups, dtype=np.uint64)
    bytewise = np.zeros(64, dtype=np.uint64)
    for i in range(blocks):
        for j in range(i):
            _transpose(tiles[j * blocks - j * (j - 1) // 2 + i - j], rows[j])
        start = i * blocks - i * (i - 1) // 2
        rows[i:blocks] = tiles[start : start + blocks - i]
        for s in range(first, last):
            state[:blocks] = words[s]
            counts = out[s, 64 * i : 64 * i + 64]
            counts[:] = 0
            for g in range(groups):
                _add_counts(rows[7 * g : 7 * g + 7], state[7 * g : 7 * g + 7], bytewise)
                if g % 4 == 3 or g == groups - 1:  # a byte counts to 255: four times seven words of eight bits
                    for r in range(64):
                        counts[r] += np.int32(_sum_of_bytes(bytewise[r]))
                    bytewise[:] = 0


@compiled
def _add_counts(rows, state, bytewise):
    """Seven words at once: carry-save adders leave three words of weights 1, 2 and 4 to be counted (Warren, 5-1)."""
    w0, w1, w2, w3, w4, w5, w6 = state[0], state[1], state[2], state[3], state[4], state[5], state[6]
    for r in range(64):
        a, b, c = rows[0, r] & w0, rows[1, r] & w1, rows[2, r] & w2
        d, e, f, g = rows[3, r] & w3, rows[4, r] & w4, rows[5, r] & w5, rows[6, r] & w6
        x, y = a ^ b, d ^ e
        first_sum, first_carry = x ^ c, (a & b) | (x & c)
        second_sum, second_carry = y ^ f, (d & e) | (y & f)
        z = first_sum ^ second_sum
        ones, third_carry = z ^ g, (first_sum & second_sum) | (z & g)
        v = first_carry ^ second_carry
        twos, fours = v ^ third_carry, (first_carry & second_carry) | (v & third_carry)
        bytewise[r] += _bits_of_bytes(ones) + np.uint64(2) * _bits_of_bytes(twos) + np.uint64(4) * _bits_of_bytes(fours)


@compiled
def _bits_of_bytes(x):
    """How many bits are set in each byte, in that byte."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    return (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)


@compiled
def _sum_of_bytes(x):
    x = (x & np.uint64(0x00FF00FF00FF00FF)) + ((x >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF))
    return (x * np.uint64(0x0001000100010001)) >> np.uint64(48)


@compiled
def _transpose(rows, turned):
    """64 x 64 bits, transposed (Warren, "Hacker's Delight", section 7-3)."""
    turned[:] = rows
    width, mask = 32, np.uint64(0x00000000FFFFFFFF)
    while width:
        shift, row = np.uint64(width), 0
        while row < 64:
            change = ((turned[row] >> shift) ^ turned[row + width]) & mask
            turned[row] ^= change << shift
            turned[row + width] ^= change
            row = (row + width + 1) & ~width
        width >>= 1
        mask ^= mask << np.uint64(width)


def count_common_plainly(tiles: np.ndarray, words: np.ndarray, out: np.ndarray) -> None:
    """The same for all states, in numpy: the twin of the loop."""
    rows, columns = np.triu_indices(words.shape[1])
    for tile, i, j in zip(tiles, rows.tolist(), columns.tolist(), strict=True):
        out[:, SIDE * i : SIDE * (i + 1)] += np.bitwise_count(tile & words[:, j, None])
        if i != j:
            bits = np.unpackbits(tile.astype("<u8").view(np.uint8).reshape(SIDE, 8), axis=1, bitorder="little")
            turned = np.ascontiguousarray(np.packbits(bits.T, axis=1, bitorder="little")).view("<u8")[:, 0]
            out[:, SIDE * j : SIDE * (j + 1)] += np.bitwise_count(turned & words[:, i, None])
