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
from maskstore.codecs.coders.mix_factors import FACTORS, ODDS_LIMIT, ROW_LIMIT
from maskstore.codecs.coders.range_coder import carry, choose, is_narrow, narrow, read_four, write_four
from maskstore.files import pieces
from maskstore.kernels import compiled
from maskstore.kernels.ir import eight

add, sub, mul, shift, both, least = eight.add, eight.sub, eight.mul, eight.shift, eight.both, eight.least
load, store, splat, look_up, turn, sums = eight.load, eight.store, eight.splat, eight.look_up, eight.turn, eight.sums
at, put, set_bit, bits_of, LANES = eight.at, eight.put, eight.set_bit, eight.bits_of, eight.LANES
_PIECE = 1 << 18  # eights that are coded at a time, a tenth of a second's work
_BUCKETS = 12  # of |lean|, one log-odds wide each
_COLUMN_BUCKETS = 20
_WEIGHT_LIMIT = 1 << 23
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
                out[((c >> 3) * FACTORS + j) * LANES + (c & 7)] = 3277 if state >> np.uint64(63) else -3277


@compiled
def _start(decoding, columns, rank, data):
    """What the loop carries from bit to bit: integers, the range coder's two words, and the tables of the model.

    Integers: the place in the data, the rates at which bits go against their lean in the layer and in the row, and the
    bits seen.
    """
    numbers = np.array([8 if decoding else 0, 8192, 0, 0, 0, 0], dtype=np.int64)
    coder = np.array([range_coder.first_code(data) if decoding else np.uint64(0), range_coder.WHOLE], dtype=np.uint64)
    stride = (columns + LANES - 1) // LANES * LANES
    column, variance = np.zeros(stride * FACTORS, dtype=np.int32), np.zeros(stride * FACTORS, dtype=np.int32)
    _start_columns(columns, rank, column)
    for j in range(rank):
        for start in range(0, stride * FACTORS, LANES * FACTORS):
            variance[start + j * LANES : start + (j + 1) * LANES] = _FIRST_VARIANCE
    row, row_variance = np.zeros(FACTORS, dtype=np.int32), np.zeros(FACTORS, dtype=np.int32)
    row_sum, row_spread = np.zeros(FACTORS, dtype=np.int64), np.full(FACTORS, _FIRST_SPREAD, dtype=np.int64)
    row_first = np.zeros(FACTORS, dtype=np.int64)
    if rank:
        row_sum[0] = 5 * 65536
    rates = np.zeros(stride, dtype=np.int32)  # at which the bits of each column go against their leans
    of_row = np.zeros(4 * stride, dtype=np.int32)  # of two rows: what is known about each bit, and the spreads
    bytes_of = np.zeros(stride >> 2, dtype=np.int32)  # of two rows: their bits, in eights
    context_odds = np.zeros(2 * _BUCKETS, dtype=np.int32)
    by_bucket = np.zeros(_BUCKETS * LANES, dtype=np.int32)
    by_column = np.zeros(_COLUMN_BUCKETS * LANES, dtype=np.int32)
    by_bucket[::LANES] = 1 << 19
    by_column[::LANES] = 1 << 19
    factors = (
        column,
        variance,
        row,
        row_variance,
        row_sum,
        row_spread,
        row_first,
        np.zeros(4 * FACTORS, dtype=np.int32),
    )
    return numbers, coder, factors, (rates, of_row, bytes_of, context_odds, by_bucket, by_column)


@njit(inline="always")
def _squashed(odds):
    """`_squash` of eight."""
    return look_up(SQUASH, shift(add(odds, splat(47104)), 4))


@njit(inline="always")
def _sum(vector, room):
    """Of eight lanes."""
    store(room, 0, vector)
    total = np.int64(0)
    for k in range(LANES):
        total += np.int64(at(room, k))
    return total


@njit(inline="always")
def _lean(known):
    """One and a half times the leans of eight bits, of what is known about them."""
    return shift(known, 8)


@njit(inline="always")
def _direction(known):
    return sub(both(shift(known, 5), splat(2)), splat(1))


@njit(inline="always")
def _weighed(k, x, bucket_of, lot_of, by_bucket, by_column):
    """The inputs of bit k of an eight times their weights."""
    weights = add(load(by_bucket, np.int64(at(bucket_of, k))), load(by_column, np.int64(at(lot_of, k))))
    weights = mix_factors.limited(weights, _WEIGHT_LIMIT)
    return shift(mul(shift(weights, 8), load(x, k * LANES)), 3)


@njit(inline="always")
def _evidence(start, columns, of_last, bytes_last, stride, of_row, bytes_of, column, numbers):
    """What the bits of the row before tell eight columns."""
    known, spread = load(of_row, of_last + start), load(of_row, of_last + stride + start)
    direction = _direction(known)
    mean = mix_factors.mean_of(start * FACTORS, column, numbers)
    p = _squashed(mix_factors.odds_of(mean, spread, _lean(known), direction))
    p = mul(p, bits_of((1 << min(LANES, columns - start)) - 1))
    certainty, share = mix_factors.certainty(p, spread)
    pushed = mix_factors.push_of(bits_of(np.int64(at(bytes_of, (bytes_last + start) >> 3))), p, share, direction)
    return pushed, shift(mul(certainty, share), 18)


@compiled
def _run(decoding, words, ids, kinds, rows, columns, row_step, column_step, rank, data, first, stop, state):
    """Code or decode eights `first` to `stop` - 1 of a layer, in the order of coding, from a state that `_start` made.

    Bit (r, c) has index r * row_step + c * column_step. `kinds`, a number a context: lean << 8, then bits: 6 is set
    where the direction is +1, 2 to 5 are the bucket, 1 is set where lean and direction have one sign, 0 where the lean
    is negative. While coding, `words` are read and `data` is filled; while decoding, `data` is read and `words`
    (zeroed) are filled.
    """
    numbers, coder, factors, tables = state
    column, variance, row, row_variance, row_sum, row_spread, row_first, last_numbers = factors
    rates, of_row, bytes_of, context_odds, by_bucket, by_column = tables
    used, against, row_against, seen = numbers[0], numbers[1], numbers[2], numbers[3]
    pull, recent = numbers[4], numbers[5]
    low, width = coder[0], coder[1]
    eights = (columns + LANES - 1) // LANES
    stride = eights * LANES
    x = np.zeros(LANES * LANES, dtype=np.int32)
    of_bits = np.zeros((7, LANES), dtype=np.int32)  # of each of the eight
    ones_of, error_of, right_of, lot_of, bucket_of, kind_of, room = (
        of_bits[0], of_bits[1], of_bits[2], of_bits[3], of_bits[4], of_bits[5], of_bits[6]
    )  # fmt: skip
    squares = np.zeros(FACTORS * LANES, dtype=np.int32)
    row_numbers = np.zeros(4 * FACTORS, dtype=np.int32)
    mix_factors.ready_row(row, row_variance, row_numbers)

    for number in range(first, stop):
        r = number // eights
        begin = (number - r * eights) * LANES
        count = min(LANES, columns - begin)
        here, last = (r & 1) * stride, (r & 1 ^ 1) * stride
        if begin == 0:
            for j in range(rank):
                row_first[j] = _clip(row_sum[j] // (r + 3), ROW_LIMIT)
                row[j] = row_first[j]
                row_variance[j] = min((row_spread[j] // (r + 1)) >> 4, ROW_LIMIT)
            mix_factors.ready_row(row, row_variance, row_numbers)
            row_against, pull, recent = against, 0, 0
            if rank and r:
                pushed, sure = _evidence(0, columns, 2 * last, last, stride, of_row, bytes_of, column, last_numbers)
                for j in range(FACTORS):
                    mix_factors.column_learns(0, j, column, variance, pushed, sure, last_numbers)
            for c in range(columns):
                put(of_row, 2 * here + c, np.int64(at(kinds, np.int64(at(ids, r * row_step + c * column_step)))))
        if r == 0:
            store(rates, begin, splat(against))
        # eight predictions
        known = load(of_row, 2 * here + begin)
        direction = _direction(known)
        mean, spread = mix_factors.mean_and_spread(begin * FACTORS, column, variance, row_numbers, squares)
        store(of_row, 2 * here + stride + begin, spread)
        odds = mix_factors.odds_of(mean, spread, _lean(known), direction)
        p = _squashed(odds)
        # from here on in terms of whether a bit is what its context expects
        negative, kind = both(known, splat(1)), both(shift(known, 1), splat(31))
        along = sub(both(known, splat(2)), splat(1))
        rate = load(rates, begin)
        store(x, 0, mul(odds, sub(splat(1), add(negative, negative))))
        store(x, LANES, look_up(context_odds, kind))
        store(x, 2 * LANES, look_up(STRETCH, shift(rate, 4)))
        store(x, 3 * LANES, splat(_stretch(row_against)))
        store(x, 4 * LANES, splat(2048))
        store(x, 5 * LANES, mul(splat(_clip(pull >> 6, ODDS_LIMIT)), along))
        store(x, 6 * LANES, mul(splat(_clip(recent >> 5, ODDS_LIMIT)), along))
        store(x, 7 * LANES, splat(0))
        turn(x, 0)
        store(kind_of, 0, kind)
        store(bucket_of, 0, mul(shift(kind, 1), splat(LANES)))
        store(lot_of, 0, mul(least(shift(rate, 11), splat(_COLUMN_BUCKETS - 1)), splat(LANES)))
        mixed = sums(_weighed(0, x, bucket_of, lot_of, by_bucket, by_column),
                     _weighed(1, x, bucket_of, lot_of, by_bucket, by_column),
                     _weighed(2, x, bucket_of, lot_of, by_bucket, by_column),
                     _weighed(3, x, bucket_of, lot_of, by_bucket, by_column),
                     _weighed(4, x, bucket_of, lot_of, by_bucket, by_column),
                     _weighed(5, x, bucket_of, lot_of, by_bucket, by_column),
                     _weighed(6, x, bucket_of, lot_of, by_bucket, by_column),
                     _weighed(7, x, bucket_of, lot_of, by_bucket, by_column))  # fmt: skip
        expected = _squashed(mix_factors.limited(shift(mixed, 9), ODDS_LIMIT))
        store(ones_of, 0, add(expected, mul(negative, sub(splat(65536), add(expected, expected)))))

        # beside the coder, which waits for itself, the next eight columns learn from the row before
        ahead = begin + LANES
        teach = rank > 0 and r > 0 and ahead < columns
        pushed, sure = splat(0), splat(0)
        if teach:
            pushed, sure = _evidence(ahead, columns, 2 * last, last, stride, of_row, bytes_of, column, last_numbers)
        byte = np.int64(0)
        i = r * row_step + begin * column_step
        for k in range(count):
            ones = np.int64(at(ones_of, k))
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
            byte |= bit << k
            i += column_step
            if teach:
                mix_factors.column_learns(ahead * FACTORS, 2 * k, column, variance, pushed, sure, last_numbers)
                mix_factors.column_learns(ahead * FACTORS, 2 * k + 1, column, variance, pushed, sure, last_numbers)

        # what they teach; what is beyond the row says nothing
        speed = 14 if seen < 65536 else 16
        half = splat(1 << (speed - 1))
        seen += count
        inside = bits_of((1 << count) - 1)
        bit = bits_of(byte)
        both_set = both(bit, negative)
        right = sub(add(bit, negative), add(both_set, both_set))
        surprise = mul(sub(splat(65535), mul(right, splat(65535))), inside)
        error = mul(shift(sub(mul(right, splat(65536)), expected), 2), inside)
        missed = _sum(mul(error, along), room) << 2
        pull += missed
        recent += missed - (recent >> 2)
        total = _sum(surprise, room)
        store(rates, begin, add(rate, shift(mul(sub(surprise, rate), splat(np.int64(at(RATES, min(r, 255))))), 16)))
        row_against += ((total - count * row_against) * np.int64(at(RATES, min(begin + 8, 255)))) >> 16
        against += (total - count * against) >> 9
        store(error_of, 0, error)
        store(right_of, 0, right)
        for k in range(count):
            kind = np.int64(at(kind_of, k))
            change = shift(add(mul(load(x, k * LANES), splat(np.int64(at(error_of, k)))), half), speed)
            b, lot = np.int64(at(bucket_of, k)), np.int64(at(lot_of, k))
            store(by_bucket, b, add(load(by_bucket, b), change))
            store(by_column, lot, add(load(by_column, lot), change))
            odds = np.int64(at(context_odds, kind))
            step = ((np.int64(at(right_of, k)) << 16) - _squash(odds)) >> 5
            put(context_odds, kind, _clip(odds + step, ODDS_LIMIT))
        put(bytes_of, (here + begin) >> 3, byte)
        if rank:
            p = mul(p, inside)
            certainty, share = mix_factors.certainty(p, spread)
            pushed = mix_factors.push_of(bit, p, share, direction)
            sure = shift(mul(certainty, share), 16)
            mix_factors.row_learns(begin * FACTORS, column, pushed, sure, row, row_variance, squares)
            mix_factors.ready_row(row, row_variance, row_numbers)

        if rank and ahead >= columns:
            for half in range(0, 4 * FACTORS, LANES):
                store(last_numbers, half, load(row_numbers, half))
            for j in range(rank):
                row_sum[j] += row[j]
                moved = (row[j] - row_first[j]) >> 4
                row_spread[j] += ((moved * moved) >> 4) + (np.int64(row_variance[j]) << 4)
    numbers[0], numbers[1], numbers[2], numbers[3] = used, against, row_against, seen
    numbers[4], numbers[5] = pull, recent
    coder[0], coder[1] = low, width


def rank_of(rows: int, columns: int) -> int:
    """Number of factors for a matrix: as many as it could teach, so that their tables stay smaller than the bits."""
    return min(FACTORS, rows // 4, columns // 4)


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
        kinds = (self.leans * 3 >> 1) * 256 + 64 * (self.directions > 0) + 2 * kind + (sign < 0)
        return self.ids, kinds.astype(np.int32), rows, columns, *steps, rank_of(rows, columns)


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
