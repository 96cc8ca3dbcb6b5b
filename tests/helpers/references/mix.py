"""The range coder and the mix codec of `docs/format-codecs.md` in Python integers: slow, obvious, the yardstick.

Nothing here wraps around: an integer is as long as it needs to be, and `>>` and `//` round towards minus infinity.
"""

WHOLE = 2**64 - 1


class Encoder:
    """The interval is exact here: `low` is one long integer of `settled` words and 64 bits; a carry needs no care."""

    def __init__(self) -> None:
        self.low, self.width, self.words = 0, WHOLE, 2

    def code(self, bit: int, ones: int) -> int:
        bound = (self.width >> 16) * ones
        if bit:
            self.width = bound
        else:
            self.low, self.width = self.low + bound, self.width - bound
        if self.width < 2**32:
            self.low, self.width, self.words = self.low << 32, self.width << 32, self.words + 1
        return bit

    def bytes(self) -> bytes:
        top = self.low + self.width - 1
        shift = 64
        while top >> shift << shift < self.low:
            shift -= 8
        return (top >> shift << shift).to_bytes(4 * self.words, "big").rstrip(b"\0")


class Decoder:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.width = data, 8, WHOLE
        self.value = int.from_bytes(data[:8].ljust(8, b"\0"), "big")

    def code(self, _: int, ones: int) -> int:
        bound = (self.width >> 16) * ones
        bit = int(self.value < bound)
        if bit:
            self.width = bound
        else:
            self.value, self.width = self.value - bound, self.width - bound
        if self.width < 2**32:
            word = int.from_bytes(self.data[self.at : self.at + 4].ljust(4, b"\0"), "big")
            self.value, self.width, self.at = self.value << 32 | word, self.width << 32, self.at + 4
        return bit


def clip(value: int, limit: int) -> int:
    return max(-limit, min(limit, value))


def inverse(t: int) -> int:
    return 32768 - (t * 27307 >> 15) + ((t * t >> 15) * 10923 >> 15)


class Model:
    """P(bit) of up to eight bits from what was known before them, then `update` with what they were.

    `row_start` comes before the first bit of a row, `row_done` after the last.
    """

    def __init__(self, columns: int, rank: int, squash: list[int], stretch: list[int]) -> None:
        self.squash_table, self.stretch = squash, stretch
        self.rank, self.row_sum, self.rows_done = rank, [0] * rank, 0
        self.row_spread = [437000] * rank
        self.column, state = [], 1
        for _ in range(columns):
            factors = []
            for j in range(rank):
                state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                factors.append(0 if j == 0 else 3277 if state >= 2**63 else -3277)
            self.column.append(factors)
        self.column_variance = [[1312500] * rank for _ in range(columns)]
        if rank:
            self.row_sum[0] = 5 * 65536
        self.against, self.seen = 8192, 0
        self.rate = [0] * columns
        self.context_odds = [0] * 24
        self.by_bucket = [[1 << 19, 0, 0, 0, 0, 0, 0] for _ in range(12)]
        self.by_column = [[1 << 19, 0, 0, 0, 0, 0, 0] for _ in range(20)]

    def squash(self, odds: int) -> int:
        return self.squash_table[odds + 47104 >> 4]

    def row_start(self) -> None:
        r = self.rows_done
        self.first = [clip(total // (r + 3), 2**18 - 1) for total in self.row_sum]
        self.row = list(self.first)
        self.row_variance = [min(total // (r + 1) >> 4, 2**18 - 1) for total in self.row_spread]
        self.row_against, self.pull, self.recent = self.against, 0, 0
        self.spreads: list[int] = []

    def odds(self, c: int, spread: int, lean: int, direction: int) -> int:
        """Log-odds under the lean and the factors."""
        mean = sum((v >> 4) * (u >> 5) for u, v in zip(self.row, self.column[c], strict=True)) >> 10
        s = min(spread >> 4, 16384)
        damp = 4096 - (s * 381 >> 12) + ((s * s >> 12) * 30 >> 12)
        return clip(clip((lean * 3 >> 1) + mean * direction, 2**18) * damp >> 12, 47103)

    def evidence(self, bit: int, odds: int, spread: int, direction: int) -> tuple[int, int]:
        p = self.squash(odds)
        certainty = (p >> 1) * (32768 - (p >> 1)) >> 15
        share = inverse(min(certainty * min(spread >> 4, 65535) >> 12, 32768))
        return (((bit << 16) - p >> 1) * share >> 18) * direction, certainty * share

    def predict(self, first: int, known: list[tuple[int, int]]) -> list[int]:
        """P(bit = 1) in units of 2**-16 for the columns from `first` on, whose leans and directions are `known`."""
        self.begin, self.known, self.inputs, found = first, known, [], []
        for c, (lean, direction) in enumerate(known, first):
            of_row = of_column = 0
            for u, v, du, dv in zip(self.row, self.column[c], self.row_variance, self.column_variance[c], strict=True):
                of_row += ((v >> 4) ** 2 >> 12) * (du >> 6)
                of_column += (dv >> 9) * ((u >> 6) ** 2 >> 10)
            spread = (of_row >> 4) + (of_column >> 5)
            self.spreads.append(spread)
            if self.rows_done == 0:
                self.rate[c] = self.against
            odds, sign = self.odds(c, spread, lean, direction), 1 if lean >= 0 else -1
            bucket, along = min(abs(lean) >> 12, 11), 1 if direction == sign else -1
            kind, lot = 2 * bucket + (along > 0), min(self.rate[c] >> 11, 19)
            x = [
                odds * sign,
                self.context_odds[kind],
                self.stretch[self.rate[c] >> 4],
                self.stretch[self.row_against >> 4],
                2048,
                clip(self.pull >> 6, 47103) * along,
                clip(self.recent >> 5, 47103) * along,
            ]
            weights = [clip(a + b, 1 << 23) for a, b in zip(self.by_bucket[bucket], self.by_column[lot], strict=True)]
            mixed = sum((w >> 8) * value >> 3 for w, value in zip(weights, x, strict=True)) >> 9
            expected = self.squash(clip(mixed, 47103))
            self.inputs.append((odds, sign, bucket, along, kind, lot, x, expected))
            found.append(expected if sign > 0 else 65536 - expected)
        return found

    def update(self, bits: list[int]) -> None:
        speed, r = 14 if self.seen < 65536 else 16, self.rows_done
        self.seen += len(bits)
        said = []
        missed = surprises = 0
        for k, (bit, (odds, sign, bucket, along, kind, lot, x, expected)) in enumerate(
            zip(bits, self.inputs, strict=True)
        ):
            c = self.begin + k
            right = bit if sign > 0 else 1 - bit
            error = (right << 16) - expected >> 2
            missed += 4 * error * along
            for weights in (self.by_bucket[bucket], self.by_column[lot]):
                for i, value in enumerate(x):
                    weights[i] += value * error + (1 << speed - 1) >> speed
            context = self.context_odds[kind]
            self.context_odds[kind] = clip(context + ((right << 16) - self.squash(context) >> 5), 47103)
            surprise = 65535 - 65535 * right
            self.rate[c] += (surprise - self.rate[c]) * (65536 // (min(r, 255) + 7)) >> 16
            surprises += surprise
            said.append((c, *self.evidence(bit, odds, self.spreads[c], self.known[k][1])))
        self.pull += missed
        self.recent += missed - (self.recent >> 2)
        moved = surprises - len(bits) * self.row_against
        self.row_against += moved * (65536 // (min(self.begin + 8, 255) + 7)) >> 16
        self.against += surprises - len(bits) * self.against >> 9
        for j in range(self.rank):
            g = clip(sum((self.column[c][j] >> 4) * push for c, push, _ in said) >> 11, 65535)
            h = sum(((self.column[c][j] >> 4) ** 2 >> 12) * (sure >> 16) for c, _, sure in said) >> 12
            variance = self.row_variance[j]
            t = min((variance >> 4) * min(h, 32768) >> 9, 32768)
            variance -= (variance >> 3) * (t * inverse(t) >> 15) >> 12
            self.row_variance[j] = variance
            self.row[j] = clip(self.row[j] + ((variance >> 4) * g >> 8), 2**18 - 1)

    def row_done(self, row: list[tuple[int, int, int]]) -> None:
        """The row as (bit, lean, direction) of each column."""
        for c, (bit, lean, direction) in enumerate(row):
            odds = self.odds(c, self.spreads[c], lean, direction)
            push, sure = self.evidence(bit, odds, self.spreads[c], direction)
            for j, u in enumerate(self.row):
                q = self.column_variance[c][j] * (u >> 8) >> 12
                self.column[c][j] = clip(self.column[c][j] + (q * push + 4096 >> 13), 2**17 - 1)
                lost = ((q >> 4) ** 2 >> 10) * (sure >> 18) >> 6
                self.column_variance[c][j] = max(self.column_variance[c][j] - lost, 1)
        for j, (u, first) in enumerate(zip(self.row, self.first, strict=True)):
            self.row_sum[j] += u
            self.row_spread[j] += ((u - first >> 4) ** 2 >> 4) + (self.row_variance[j] << 4)
        self.rows_done += 1


def run(
    coder: Encoder | Decoder,
    bits: list[int],
    leans: list[int],
    directions: list[int],
    shape: tuple[int, int],
    turned: bool,
    squash: list[int],
    stretch: list[int],
) -> list[int]:
    """Code `bits` (ignored by a decoder); `leans` and `directions` are those of each bit, in C order of `shape`."""
    rows, columns = shape[::-1] if turned else shape
    model = Model(columns, min(16, rows // 4, columns // 4), squash, stretch)
    out = [0] * (rows * columns)
    for r in range(rows):
        model.row_start()
        done = []
        for first in range(0, columns, 8):
            places = [c * rows + r if turned else r * columns + c for c in range(first, min(first + 8, columns))]
            chances = model.predict(first, [(leans[i], directions[i]) for i in places])
            for i, ones in zip(places, chances, strict=True):
                out[i] = coder.code(bits[i], ones)
            model.update([out[i] for i in places])
            done += [(out[i], leans[i], directions[i]) for i in places]
        model.row_done(done)
    return out
