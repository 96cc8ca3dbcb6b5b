"""The model of the `mix` codec and its Numba loop: integers alone, so that every platform decodes the same bits.

A layer is a matrix. What training changed in it has low rank: a score drifts by a sum over few factors of (something of
its row) x (something of its column), against or along the sign of its weight. The model learns these factors while it
codes: a Bayesian logistic factorisation by assumed-density filtering (Stern, Herbrich and Graepel, "Matchbox", WWW
2009) whose first-order form fits in integers. Each row starts from the mean of the rows so far and learns while its
bits pass; when it is complete, the columns learn from it. The prediction then goes, with the rates at which the row,
the column and the context went against expectation, through an online logistic mixer (Mahoney, "Adaptive weighing of
context models for lossless data compression", 2005).

Bits are coded by eights: eight neighbours are predicted from what was known before the first of them, so the processor
works on them side by side. `docs/format-codecs.md`, "Codec mix", is normative, and has the units of all numbers.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from maskstore.codecs.coders import mix_factors, range_coder
from maskstore.codecs.coders.mix_factors import FACTORS, MAX_RANK, ODDS_LIMIT, ROW_LIMIT
from maskstore.codecs.coders.range_coder import carry, choose, is_narrow, narrow, read_four, write_four
from maskstore.codecs.pieces import pieces
from maskstore.kernels import compiled
from maskstore.kernels.ir import eight

add, mul, shift, load, store, splat = eight.add, eight.mul, eight.shift, eight.load, eight.store, eight.splat
at, put, set_bit, LANES = eight.at, eight.put, eight.set_bit, eight.LANES
_PIECE = 1 << 18  # eights that are coded at a time, a tenth of a second's work
_BUCKETS = 12  # of |lean|, one log-odds wide each
_COLUMN_BUCKETS = 20
_WEIGHT_LIMIT = 1 << 24
_FIRST_SPREAD = 437000  # 0.42, of a row's factors
_FIRST_VARIANCE = 1312500  # 1.25, of a column's

# 1 / (1 + exp(-x)) at x = -11.498, -11.494, ..., the middles of steps of 1/256, in units of 2**-16
SQUASH = np.clip(np.rint(65536 / (1 + np.exp((47096 - 16 * np.arange(5888)) / 4096))), 1, 65535).astype(np.uint16)
# -2 - log(p / (1 - p)) at p = (i + 1/2) / 4096, in units of 2**-12
STRETCH = np.rint(-8192 - 4096 * np.log((2 * np.arange(4096) + 1) / (8191 - 2 * np.arange(4096)))).astype(np.int32)
# the step of a running rate after n observations
RATES = np.array([65536 // (n + 7) for n in range(256)], dtype=np.int32)


@njit(inline="always")
def _squash(odds):
    """P(1) in units of 2**-16 of log-odds within the limit."""
    return np.int64(at(SQUASH, (odds + 47104) >> 4))


@njit(inline="always")
def _stretch(rate):
    return np.int64(at(STRETCH, rate >> 4))


@njit(inline="always")
def _clip(value, limit):
    return min(max(value, -limit), limit)


@compiled
def _start_columns(columns, rank, out):
    """Columns' factors: ±0.1 from a 64-bit linear congruential generator's top bit (Knuth's MMIX), the first one 0."""
    state = np.uint64(1)
    for c in range(columns):
        for j in range(rank):
            state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
            if j:
                out[((c >> 3) * rank + j) * LANES + (c & 7)] = 3277 if state >> np.uint64(63) else -3277


@compiled
def _start(decoding, columns, rank, data):
    """What the loop carries from bit to bit: integers, the range coder's two words, and the tables of the model.

    Integers: the place in the data, the rates at which bits go against their lean in the layer and in the row, and the
    bits seen.
    """
    numbers = np.array([8 if decoding else 0, 8192, 0, 0, 0, 0], dtype=np.int64)
    coder = np.array([range_coder.first_code(data) if decoding else np.uint64(0), range_coder.WHOLE], dtype=np.uint64)
    stride = (columns + LANES - 1) // LANES * LANES
    column = np.zeros(stride * rank, dtype=np.int32)
    _start_columns(columns, rank, column)
    variance = np.full(stride * rank, _FIRST_VARIANCE, dtype=np.int32)
    row, row_variance = np.zeros(FACTORS, dtype=np.int32), np.zeros(FACTORS, dtype=np.int32)
    row_sum, row_spread = np.zeros(FACTORS, dtype=np.int64), np.full(FACTORS, _FIRST_SPREAD, dtype=np.int64)
    row_first = np.zeros(FACTORS, dtype=np.int64)
    if rank:
        row_sum[0] = 5 * 65536
    rates = np.zeros(stride, dtype=np.int32)  # at which the bits of each column go against their leans
    of_row = np.zeros(5 * stride, dtype=np.int32)  # lean, direction, kind, spread and bit of each column
    context_odds = np.zeros(2 * _BUCKETS, dtype=np.int32)
    by_bucket = np.zeros(_BUCKETS * LANES, dtype=np.int32)
    by_column = np.zeros(_COLUMN_BUCKETS * LANES, dtype=np.int32)
    by_bucket[::LANES] = 1 << 19
    by_column[::LANES] = 1 << 19
    factors = (column, variance, row, row_variance, row_sum, row_spread, row_first)
    return numbers, coder, factors, (rates, of_row, context_odds, by_bucket, by_column)


@njit(inline="always")
def _fill_row(ids, kinds, first, step, columns, of_row, stride):
    """Lean, direction and kind of each bit of a row."""
    for c in range(columns):
        context = 3 * np.int64(at(ids, first + c * step))
        put(of_row, c, np.int64(at(kinds, context)))
        put(of_row, stride + c, np.int64(at(kinds, context + 1)))
        put(of_row, 2 * stride + c, np.int64(at(kinds, context + 2)))


@compiled
def _run(decoding, words, ids, kinds, rows, columns, row_step, column_step, rank, data, first, stop, state):
    """Code or decode eights `first` to `stop` - 1 of a layer, in the order of coding, from a state that `_start` made.

    Bit (r, c) has index r * row_step + c * column_step. `kinds`, three numbers a context: lean, direction, and
    2 * kind + (lean < 0). While coding, `words` are read and `data` is filled; while decoding, `data` is read and
    `words` (zeroed) are filled.
    """
    numbers, coder, factors, tables = state
    column, variance, row, row_variance, row_sum, row_spread, row_first = factors
    rates, of_row, context_odds, by_bucket, by_column = tables
    used, against, row_against, seen = numbers[0], numbers[1], numbers[2], numbers[3]
    pull, recent = numbers[4], numbers[5]
    low, width = coder[0], coder[1]
    eights = (columns + LANES - 1) // LANES
    stride = eights * LANES
    odds_of, p_of = np.zeros(LANES, dtype=np.int32), np.zeros(LANES, dtype=np.int32)
    x = np.zeros(LANES * LANES, dtype=np.int32)
    error_of, lot_of = np.zeros(LANES, dtype=np.int32), np.zeros(LANES, dtype=np.int32)
    products = np.zeros(2 * FACTORS * LANES, dtype=np.int32)
    squares = np.zeros(FACTORS * LANES, dtype=np.int32)
    row_numbers = np.zeros(4 * FACTORS, dtype=np.int32)
    mix_factors.ready_row(row, row_variance, row_numbers)

    for number in range(first, stop):
        r = number // eights
        begin = (number - r * eights) * LANES
        count = min(LANES, columns - begin)
        if begin == 0:
            for j in range(rank):
                row_first[j] = _clip(row_sum[j] // (r + 3), ROW_LIMIT)
                row[j] = row_first[j]
                row_variance[j] = min((row_spread[j] // (r + 1)) >> 4, ROW_LIMIT)
            mix_factors.ready_row(row, row_variance, row_numbers)
            row_against, pull, recent = against, 0, 0
            _fill_row(ids, kinds, r * row_step, column_step, columns, of_row, stride)
        if r == 0:
            for k in range(count):
                put(rates, begin + k, against)
        mean = mix_factors.mean_of(begin * rank, rank, column, row_numbers)
        spread = mix_factors.spread_of(begin * rank, rank, column, variance, row_numbers, squares)
        direction = load(of_row, stride + begin)
        store(odds_of, 0, mix_factors.odds_of(mean, spread, load(of_row, begin), direction))
        store(of_row, 3 * stride + begin, spread)
        row_odds = _stretch(row_against)
        long_pull, short_pull = _clip(pull >> 6, ODDS_LIMIT), _clip(recent >> 5, ODDS_LIMIT)

        for k in range(count):
            c = begin + k
            kind = np.int64(at(of_row, 2 * stride + c))
            negative, kind = kind & 1, kind >> 1
            odds = np.int64(at(odds_of, k))
            put(p_of, k, _squash(odds))
            # from here on in terms of whether the bit is what its context expects
            rate = np.int64(at(rates, c))
            x0, x1, x2 = odds * (1 - 2 * negative), np.int64(at(context_odds, kind)), _stretch(rate)
            b, lot = (kind >> 1) * LANES, min(rate >> 11, _COLUMN_BUCKETS - 1) * LANES
            mixed = (np.int64(at(by_bucket, b)) + at(by_column, lot)) * x0
            mixed += (np.int64(at(by_bucket, b + 1)) + at(by_column, lot + 1)) * x1
            mixed += (np.int64(at(by_bucket, b + 2)) + at(by_column, lot + 2)) * x2
            mixed += (np.int64(at(by_bucket, b + 3)) + at(by_column, lot + 3)) * row_odds
            mixed += (np.int64(at(by_bucket, b + 4)) + at(by_column, lot + 4)) * 2048
            along = 2 * (kind & 1) - 1
            x5, x6 = long_pull * along, short_pull * along
            mixed += (np.int64(at(by_bucket, b + 5)) + at(by_column, lot + 5)) * x5
            mixed += (np.int64(at(by_bucket, b + 6)) + at(by_column, lot + 6)) * x6
            expected = _squash(_clip(mixed >> 20, ODDS_LIMIT))
            ones = expected + negative * (65536 - 2 * expected)
            i = r * row_step + c * column_step
            if decoding:
                bit, low, width = choose(low, width, ones)
                if is_narrow(width):
                    low, width, used = read_four(low, used, data), width << np.uint64(32), used + 4
                set_bit(words, i, bit)
            else:
                bit = np.int64(at(words, i >> 6) >> np.uint64(i & 63) & np.uint64(1))
                low, width, carried = narrow(low, width, bit, ones)
                if carried:
                    carry(data, used)
                if is_narrow(width):
                    used = write_four(low, used, data)
                    low, width = low << np.uint64(32), width << np.uint64(32)
            put(of_row, 4 * stride + c, bit)
            put(lot_of, k, lot)
            put(error_of, k, (((bit ^ negative) << 16) - expected) >> 2)
            j = k * LANES
            put(x, j, x0)
            put(x, j + 1, x1)
            put(x, j + 2, x2)
            put(x, j + 3, row_odds)
            put(x, j + 4, 2048)
            put(x, j + 5, x5)
            put(x, j + 6, x6)

        speed = 14 if seen < 65536 else 16
        half = splat(1 << (speed - 1))
        seen += count
        for k in range(count):
            c = begin + k
            kind = np.int64(at(of_row, 2 * stride + c))
            right, kind = np.int64(at(of_row, 4 * stride + c)) ^ (kind & 1), kind >> 1
            error = np.int64(at(error_of, k))
            missed = 4 * error * (2 * (kind & 1) - 1)
            pull += missed
            recent += missed - (recent >> 5)
            change = shift(add(mul(load(x, k * LANES), splat(error)), half), speed)
            b, lot = (kind >> 1) * LANES, np.int64(at(lot_of, k))
            store(by_bucket, b, mix_factors.limited(add(load(by_bucket, b), change), _WEIGHT_LIMIT))
            store(by_column, lot, mix_factors.limited(add(load(by_column, lot), change), _WEIGHT_LIMIT))
            odds = np.int64(at(context_odds, kind))
            put(context_odds, kind, _clip(odds + (((right << 16) - _squash(odds)) >> 5), ODDS_LIMIT))
            surprise = 65535 - 65535 * right
            rate = np.int64(at(rates, c))
            put(rates, c, rate + (((surprise - rate) * at(RATES, min(r, 255))) >> 16))
            row_against += ((surprise - row_against) * at(RATES, min(c, 255))) >> 16
            against += (surprise - against) >> 9
        if rank:
            for k in range(count, LANES):  # what is beyond the row says nothing
                put(p_of, k, 0)
            p = load(p_of, 0)
            certainty, share = mix_factors.certainty(p, spread)
            pushed = mix_factors.push_of(load(of_row, 4 * stride + begin), p, share, direction)
            sure = shift(mul(certainty, share), 16)
            mix_factors.row_learns(begin * rank, rank, column, pushed, sure, row, row_variance, squares, products)
            mix_factors.ready_row(row, row_variance, row_numbers)

        if rank and begin + LANES >= columns:  # now that the row is complete, the columns learn from it
            for start in range(0, stride, LANES):
                direction, spread = load(of_row, stride + start), load(of_row, 3 * stride + start)
                mean = mix_factors.mean_of(start * rank, rank, column, row_numbers)
                store(odds_of, 0, mix_factors.odds_of(mean, spread, load(of_row, start), direction))
                for k in range(LANES):
                    put(p_of, k, _squash(np.int64(at(odds_of, k))))
                for k in range(columns - start, LANES):
                    put(p_of, k, 0)
                p = load(p_of, 0)
                certainty, share = mix_factors.certainty(p, spread)
                pushed = mix_factors.push_of(load(of_row, 4 * stride + start), p, share, direction)
                sure = shift(mul(certainty, share), 18)
                mix_factors.columns_learn(start * rank, rank, column, variance, pushed, sure, row_numbers)
            for j in range(rank):
                row_sum[j] += row[j]
                moved = (row[j] - row_first[j]) >> 4
                row_spread[j] += ((moved * moved) >> 4) + (np.int64(row_variance[j]) << 4)
    numbers[0], numbers[1], numbers[2], numbers[3] = used, against, row_against, seen
    numbers[4], numbers[5] = pull, recent
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
        sign = np.where(self.leans >= 0, 1, -1)
        kind = 2 * np.minimum(self.leans * sign >> 12, _BUCKETS - 1) + (self.directions == sign)
        kinds = np.stack([self.leans * 3 >> 1, self.directions, 2 * kind + (sign < 0)], axis=1).astype(np.int32)
        return self.ids, kinds.reshape(-1), rows, columns, *steps, rank_of(rows, columns)


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
    rows, columns, rank = arguments[2], arguments[3], arguments[6]
    state = _start(decoding, columns, rank, data)
    for first, stop in pieces(rows * ((columns + LANES - 1) // LANES), _PIECE):
        _run(decoding, words, *arguments, data, first, stop, state)
    numbers, coder = state[:2]
    return coder, int(numbers[0])
