"""Learning of one-bit couplings: bits of symmetric couplings that hold patterns as they are, not after rounding.

Each coupling has a hidden whole number u, and its bit is u > 0. Patterns are shown one after another, as cues of which
some ones were moved. Where the drive of a neuron that is to be on is not above that of the neurons that are to be off
by a margin, the hidden numbers between it and the neurons of the cue grow by one; where a neuron that is to be off is
too near to those that are on, they shrink. As many grow as shrink. So the couplings learn what they are used for.

Source: perceptron learning with hidden states (Baldassi, Braunstein, Brunel and Zecchina, "Efficient supervised
learning in networks with binary synapses", PNAS 2007), here with symmetric couplings and winners instead of thresholds.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

import numpy as np

from maskstore.kernels import compiled


@compiled
def random_below(state, limit):
    """A number below `limit`, and the next state of the generator (xorshift of 64 bits, Marsaglia 2003)."""
    state[0] ^= state[0] << np.uint64(13)
    state[0] ^= state[0] >> np.uint64(7)
    state[0] ^= state[0] << np.uint64(17)
    return np.int64((state[0] >> np.uint64(33)) % np.uint64(limit))


@compiled
def move_ones(ones, on, moved, cue, state):
    """Write to `cue` the neurons `ones` `(n,)` with `moved` of them replaced by neurons that are off in `on` `(d,)`."""
    n = len(ones)
    cue[:] = ones
    for a in range(moved):
        b = a + random_below(state, n - a)
        cue[a], cue[b] = cue[b], cue[a]
    for a in range(moved):
        while True:
            other = random_below(state, len(on))
            taken = on[other]
            for b in range(a):
                taken = taken or cue[b] == other
            if not taken:
                break
        cue[a] = other


@compiled
def show_all(bits, hidden, bias, ones, order, moved, margin, step, most, bias_step, state):
    """Show every pattern once, and learn from it; returns how many were right at once.

    `bits` uint8 and `hidden` int16 `(d, d)`, symmetric, zero diagonal; `bias` float32 `(d,)`; `ones` `(k, n)` int64,
    the neurons that are on in each pattern; `order` `(k,)`.
    """
    d, n = len(bits), ones.shape[1]
    counts = np.empty(d, dtype=np.int16)
    drive = np.empty(d, dtype=np.float32)
    on = np.zeros(d, dtype=np.bool_)
    cue = np.empty(n, dtype=np.int64)
    chosen = np.empty(d, dtype=np.int64)
    right = 0
    for pattern in order:
        on[:] = False
        for a in range(n):
            on[ones[pattern, a]] = True
        move_ones(ones[pattern], on, moved, cue, state)
        counts[:] = 0
        for a in range(n):
            row = bits[cue[a]]
            for i in range(d):
                counts[i] += row[i]
        for i in range(d):
            drive[i] = counts[i] - bias[i]
        for a in range(n):
            drive[cue[a]] += np.float32(0.5)
        lowest, highest = np.float32(1e9), np.float32(-1e9)
        for i in range(d):
            if on[i]:
                lowest = min(lowest, drive[i])
            else:
                highest = max(highest, drive[i])
        if lowest > highest:
            right += 1
            if lowest > highest + 2 * margin:
                continue
            middle = (lowest + highest) / 2
        else:
            middle = np.partition(drive, d - n)[d - n]
        grow = 0
        for a in range(n):
            if drive[ones[pattern, a]] < middle + margin:
                chosen[grow] = ones[pattern, a]
                grow += 1
        rivals = 0
        for i in range(d):
            if not on[i] and drive[i] > middle - margin:
                rivals += 1
        total, credit, share = grow, 0.0, grow / max(rivals, 1)
        for i in range(d):
            if not on[i] and drive[i] > middle - margin:
                credit += share
                if credit >= 1.0:
                    credit -= 1.0
                    chosen[total] = i
                    total += 1
        for c in range(total):
            i = chosen[c]
            up = step if c < grow else -step
            bias[i] -= bias_step if c < grow else -bias_step
            for a in range(n):
                j = cue[a]
                if i != j:
                    u = min(max(hidden[i, j] + up, -most), most)
                    hidden[i, j] = u
                    hidden[j, i] = u
                    bits[i, j] = u > 0
                    bits[j, i] = u > 0
    return right
