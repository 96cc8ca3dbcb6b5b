"""The model of the `mix` codec and its Numba loop: integers alone, so that every platform decodes the same bits.

A layer is a matrix. What training changed in it has low rank: a score drifts by a sum over few factors of (something of
its row) x (something of its column), against or along the sign of its weight. The model learns these factors while it
codes: a Bayesian logistic factorisation by assumed-density filtering (Stern, Herbrich and Graepel, "Matchbox", WWW
2009) whose first-order form fits in integers. Each row starts from the mean of the rows so far and learns while its
bits pass; when it is complete, the columns learn from it. The prediction then goes, with the rates at which the row,
the column and the context went against expectation, through an online logistic mixer and an adaptive map (Mahoney,
"Adaptive weighing of context models for lossless data compression", 2005).

Numbers: log-odds in units of 2**-12; probabilities, factors and variances of log-odds in 2**-16; variances of factors
in 2**-24; weights and the gain in 2**-20. Shifts round towards minus infinity. `docs/format-codecs.md`, "Codec mix".
"""

from math import isqrt
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from maskstore.codecs.coders import range_coder
from maskstore.codecs.coders.range_coder import decode_bit, encode_bit
from maskstore.codecs.pieces import pieces
from maskstore.kernels import compiled

_PIECE = 1 << 17  # bits that are coded at a time, a fifth of a second's work
MAX_RANK = 24
ODDS_LIMIT = 47103  # 11.5: there a probability is within 2**-16 of 0 or 1
_BUCKETS = 12  # of |lean|, one log-odds wide each
_INPUTS = 5
_COLUMN_BUCKETS = 20
_FACTOR_LIMIT = 1 << 21  # 32

# 1 / (1 + exp(-x)) at x = -11.5, -11.4375, ... 11.5625, in units of 2**-16
SQUASH = np.clip(np.rint(65536 / (1 + np.exp((47104 - 256 * np.arange(370)) / 4096))), 1, 65535).astype(np.int64)
# log(p / (1 - p)) at p = (i + 1/2) / 4096, in units of 2**-12
STRETCH = np.rint(4096 * np.log((2 * np.arange(4096) + 1) / (8191 - 2 * np.arange(4096)))).astype(np.int64)
# 1 / sqrt(1 + 0.39 * i / 64), the effect of a variance i / 64 on log-odds (MacKay 1992), in units of 2**-16
DAMP = np.array([isqrt((1 << 48) // (65536 + 399 * i)) for i in range(1025)], dtype=np.int64)
# the step of a running rate after n observations
RATES = np.array([65536 // (n + 7) for n in range(256)], dtype=np.int64)


@njit(inline="always")
def _squash(odds):
    """P(1) in units of 2**-16 of log-odds within the limit, by linear interpolation."""
    i = (odds + 47104) >> 8
    return SQUASH[i] + (((SQUASH[i + 1] - SQUASH[i]) * ((odds + 47104) & 255)) >> 8)


@njit(inline="always")
def _clip(value, limit):
    return min(max(value, -limit), limit)


@njit(inline="always")
def _product(row, row_variance, column, column_variance, row_step, column_step):
    """Mean (2**-12) and variance (2**-16) of row . column; fills what each factor moves by for a unit of evidence."""
    mean, variance = np.int64(0), np.int64(0)
    for j in range(row.size):
        r, c = np.int64(row[j]), np.int64(column[j])
        row_step[j] = (np.int64(row_variance[j]) * c) >> 20
        column_step[j] = (np.int64(column_variance[j]) * r) >> 20
        mean += r * c
        variance += np.int64(row_step[j]) * c + np.int64(column_step[j]) * r
    return mean >> 20, variance >> 20


@njit(inline="always")
def _learn(factor, variance, step, bit, p, spread, direction):
    """Move a factor by one observed bit that had probability `p` under log-odds of variance `spread`."""
    certainty = (p * (65536 - p)) >> 16
    share = (np.int64(1) << 32) // (65536 + ((certainty * spread) >> 16))
    push = ((((bit << 16) - p) * share) >> 16) * direction
    shrink = (certainty * share) >> 16
    for j in range(factor.size):
        s = np.int64(step[j])
        factor[j] = _clip(np.int64(factor[j]) + ((s * push + (1 << 19)) >> 20), _FACTOR_LIMIT)
        variance[j] = max(np.int64(variance[j]) - ((((s * s) >> 16) * shrink) >> 16), 1)


@compiled
def _start_columns(columns, rank):
    """Columns' factors: ±0.1 from a 64-bit linear congruential generator's top bit (Knuth's MMIX), the first one 0."""
    factors = np.zeros((columns, rank), dtype=np.int32)
    state = np.uint64(1)
    for c in range(columns):
        for j in range(rank):
            state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
            if j:
                factors[c, j] = 6554 if state >> np.uint64(63) else -6554
    return factors


@compiled
def _start(decoding, columns, rank, data):
    """What the loop carries from bit to bit: integers, the range coder's two words, and the tables of the model.

    Integers: the place in the data, the gain, the rates at which bits go against their lean in the layer and in the
    row, and the bits seen.
    """
    numbers = np.array([8 if decoding else 0, 1600000, 8192, 0, 0], dtype=np.int64)
    coder = np.array([range_coder.first_code(data) if decoding else np.uint64(0), range_coder.WHOLE], dtype=np.uint64)
    column = _start_columns(columns, rank)
    column_variance = np.full((columns, rank), 30000000, dtype=np.int32)
    row = np.zeros(rank, dtype=np.int32)
    row_variance = np.zeros(rank, dtype=np.int32)
    row_sum = np.zeros(rank, dtype=np.int64)
    if rank:
        row_sum[0] = 5 * 65536
    column_against = np.zeros(columns, dtype=np.int32)
    context_odds = np.zeros(2 * _BUCKETS, dtype=np.int64)
    by_bucket = np.zeros((_BUCKETS, _INPUTS), dtype=np.int64)
    by_column = np.zeros((_COLUMN_BUCKETS, _INPUTS), dtype=np.int64)
    by_bucket[:, 0] = 1 << 19
    by_column[:, 0] = 1 << 19
    refined = np.zeros((2 * _BUCKETS, 33), dtype=np.int64)
    for k in range(33):
        refined[:, k] = _squash((k - 16) * 2048)
    factors = (column, column_variance, row, row_variance, row_sum)
    return numbers, coder, factors, (column_against, context_odds, by_bucket, by_column, refined)


@compiled
def _run(decoding, words, ids, leans, directions, rows, columns, row_step, column_step, rank, data, first, stop, state):
    """Code or decode bits `first` to `stop` - 1 of a layer, in the order of coding, from a state that `_start` made.

    Bit (r, c) has index r * row_step + c * column_step. `leans` and `directions` are those of each context. While
    coding, `words` are read and `data` is filled; while decoding, `data` is read and `words` (zeroed) are filled.
    """
    numbers, coder, factors, tables = state
    column, column_variance, row, row_variance, row_sum = factors
    column_against, context_odds, by_bucket, by_column, refined = tables
    at, gain, against, row_against, seen = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    low, width = coder[0], coder[1]
    moves, other_moves = np.zeros(rank, dtype=np.int32), np.zeros(rank, dtype=np.int32)
    x = np.zeros(_INPUTS, dtype=np.int64)

    while first < stop:
        r = first // columns
        begin = first - r * columns
        end = min(columns, begin + stop - first)
        first += end - begin
        if begin == 0:
            for j in range(rank):
                row[j] = row_sum[j] // (r + 3)
                row_variance[j] = 10000000
            row_against = against
        for c in range(begin, end):
            i = r * row_step + c * column_step
            context = ids[i]
            lean, direction = leans[context], directions[context]
            drift, spread = _product(row, row_variance, column[c], column_variance[c], moves, other_moves)
            damp = DAMP[min(spread >> 10, 1024)]
            odds = _clip(((((gain * lean) >> 20) + drift * direction) * damp) >> 16, ODDS_LIMIT)
            p = _squash(odds)

            # from here on in terms of whether the bit is what its context expects
            sign = 1 if lean >= 0 else -1
            bucket = min((lean * sign) >> 12, _BUCKETS - 1)
            kind = 2 * bucket + (1 if direction == sign else 0)
            if r == 0:
                column_against[c] = against
            x[0] = odds * sign
            x[1] = context_odds[kind]
            x[2] = -STRETCH[column_against[c] >> 4] - 8192
            x[3] = -STRETCH[row_against >> 4] - 8192
            x[4] = 2048
            lot = min(column_against[c] >> 11, _COLUMN_BUCKETS - 1)
            mixed = np.int64(0)
            for k in range(_INPUTS):
                mixed += (by_bucket[bucket, k] + by_column[lot, k]) * x[k]
            mixed = _clip(mixed >> 20, ODDS_LIMIT)
            expected = _squash(mixed)
            place = _clip(mixed, 32767) + 32768
            knot, part = place >> 11, place & 2047
            corrected = (refined[kind, knot] * (2048 - part) + refined[kind, knot + 1] * part) >> 11
            final = min(max((expected + corrected) >> 1, 1), 65535)

            ones = final if sign > 0 else 65536 - final
            if decoding:
                bit, low, width, at = decode_bit(low, width, at, data, ones)
                words[i >> 6] |= np.uint64(bit) << np.uint64(i & 63)
            else:
                bit = np.int64(words[i >> 6] >> np.uint64(i & 63) & np.uint64(1))
                low, width, at = encode_bit(low, width, at, data, bit, ones)

            right = bit if sign > 0 else 1 - bit
            error = (right << 16) - expected
            speed = 16 if seen < 65536 else 19
            for k in range(_INPUTS):
                change = (x[k] * error + (1 << (speed - 1))) >> speed
                by_bucket[bucket, k] = _clip(by_bucket[bucket, k] + change, 1 << 24)
                by_column[lot, k] = _clip(by_column[lot, k] + change, 1 << 24)
            seen += 1
            target = 65535 * right
            refined[kind, knot] += ((target - refined[kind, knot]) * (2048 - part) + 32768) >> 16
            refined[kind, knot + 1] += ((target - refined[kind, knot + 1]) * part + 32768) >> 16
            context_odds[kind] = _clip(
                context_odds[kind] + (((right << 16) - _squash(context_odds[kind]) + 16) >> 5), ODDS_LIMIT
            )
            surprise = 65535 - target
            column_against[c] += ((surprise - column_against[c]) * RATES[min(r, 255)]) >> 16
            row_against += ((surprise - row_against) * RATES[min(c, 255)]) >> 16
            against += (surprise - against) >> 9
            gain = min(max(gain + ((((bit << 16) - p) * lean + (1 << 22)) >> 23), 1 << 18), 1 << 24)
            _learn(row, row_variance, moves, bit, p, spread, direction)

        if rank and end == columns:  # now that the row is complete, the columns learn from it
            for c in range(columns):
                i = r * row_step + c * column_step
                lean, direction = leans[ids[i]], directions[ids[i]]
                bit = np.int64(words[i >> 6] >> np.uint64(i & 63) & np.uint64(1))
                drift, spread = _product(row, row_variance, column[c], column_variance[c], other_moves, moves)
                damp = DAMP[min(spread >> 10, 1024)]
                p = _squash(_clip(((((gain * lean) >> 20) + drift * direction) * damp) >> 16, ODDS_LIMIT))
                _learn(column[c], column_variance[c], moves, bit, p, spread, direction)
            for j in range(rank):
                row_sum[j] += row[j]
    numbers[0], numbers[1], numbers[2], numbers[3], numbers[4] = at, gain, against, row_against, seen
    coder[0], coder[1] = low, width


def rank_of(rows: int, columns: int) -> int:
    """Number of factors for a matrix: as many as it could teach, so that their tables stay smaller than the bits."""
    return min(MAX_RANK, rows // 4, columns // 4)


class Known(NamedTuple):
    """What encoder and decoder know about a layer."""

    ids: NDArray[np.uint8]
    """The context of each bit."""
    leans: NDArray[np.int64]
    """Log-odds of a 1 in each context, in units of 2**-12."""
    directions: NDArray[np.int64]
    """+1 or -1 for each context."""
    shape: tuple[int, int]
    """(rows, columns)."""

    def arguments(self, turned: bool) -> tuple[Any, ...]:
        """What the loop takes between the words and the data; `turned` is column by column."""
        rows, columns = self.shape[::-1] if turned else self.shape
        steps = (1, rows) if turned else (columns, 1)
        return self.ids, self.leans, self.directions, rows, columns, *steps, rank_of(rows, columns)


def encode(words: NDArray[np.uint64], known: Known, turned: bool) -> bytes:
    """Code a layer row by row, or column by column if `turned`."""
    room = 64 + words.size * 8
    words = words.copy()  # one compiled loop serves both ways; it wants arrays that may be written to
    while True:
        out = np.empty(room, dtype=np.uint8)
        (low, width), at = _all_bits(False, words, known, turned, out)
        used = range_coder.finish(low, width, at, out)
        if used >= 0:
            return out[:used].tobytes()
        room *= 2


def decode(payload: bytes, known: Known, turned: bool, words: NDArray[np.uint64]) -> bool:
    """Decode into zeroed words; whether the bytes are such as `encode` writes."""
    data = range_coder.as_array(payload).copy()
    (code, width), at = _all_bits(True, words, known, turned, data)
    return bool(range_coder.ended_well(code, width, at, data))


def _all_bits(
    decoding: bool, words: NDArray[np.uint64], known: Known, turned: bool, data: NDArray[np.uint8]
) -> tuple[NDArray[np.uint64], int]:
    """Code or decode all bits; the range coder's two words and its place."""
    arguments = known.arguments(turned)
    rows, columns, rank = arguments[3], arguments[4], arguments[7]
    state = _start(decoding, columns, rank, data)
    for first, stop in pieces(rows * columns, _PIECE):
        _run(decoding, words, *arguments, data, first, stop, state)
    numbers, coder = state[:2]
    return coder, int(numbers[0])
