"""The range coder and the mix codec of `docs/format-codecs.md` in Python integers: slow, obvious, the yardstick.

Nothing here wraps around: an integer is as long as it needs to be, and `>>` and `//` round towards minus infinity.
"""

from math import isqrt

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


class Model:
    """P(bit) before each bit, then `update` with what it was; `row_done` after the last bit of a row."""

    def __init__(self, columns: int, rank: int, squash: list[int], stretch: list[int]) -> None:
        self.squash_table, self.stretch = squash, stretch
        self.rank, self.row_sum, self.rows_done = rank, [0] * rank, 0
        self.column, state = [], 1
        for _ in range(columns):
            factors = []
            for j in range(rank):
                state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                factors.append(0 if j == 0 else 6554 if state >= 2**63 else -6554)
            self.column.append(factors)
        self.column_variance = [[30000000] * rank for _ in range(columns)]
        if rank:
            self.row_sum[0] = 5 * 65536
        self.gain, self.against, self.seen = 1600000, 8192, 0
        self.column_against = [0] * columns
        self.context_odds = [0] * 24
        self.by_bucket = [[1 << 19, 0, 0, 0, 0] for _ in range(12)]
        self.by_column = [[1 << 19, 0, 0, 0, 0] for _ in range(20)]
        self.refined = [[self.squash((k - 16) * 2048) for k in range(33)] for _ in range(24)]

    def squash(self, odds: int) -> int:
        i, part = divmod(odds + 47104, 256)
        return self.squash_table[i] + ((self.squash_table[i + 1] - self.squash_table[i]) * part >> 8)

    def row_start(self) -> None:
        self.row = [total // (self.rows_done + 3) for total in self.row_sum]
        self.row_variance = [10000000] * self.rank
        self.row_against, self.columns_seen = self.against, 0

    def drift(self, c: int, lean: int, direction: int) -> tuple[int, int, int]:
        """Log-odds, their probability and their variance under the factors."""
        mean = variance = 0
        for u, v, du, dv in zip(self.row, self.column[c], self.row_variance, self.column_variance[c], strict=True):
            mean += u * v
            variance += (du * v >> 20) * v + (dv * u >> 20) * u
        variance >>= 20
        damp = isqrt(2**48 // (65536 + 399 * min(variance >> 10, 1024)))
        odds = clip(((self.gain * lean >> 20) + (mean >> 20) * direction) * damp >> 16, 47103)
        return odds, self.squash(odds), variance

    def predict(self, c: int, lean: int, direction: int) -> int:
        """P(bit = 1) in units of 2**-16."""
        self.lean, self.direction, self.c = lean, direction, c
        odds, self.p, self.variance = self.drift(c, lean, direction)
        self.sign = 1 if lean >= 0 else -1
        self.bucket = min(abs(lean) >> 12, 11)
        self.kind = 2 * self.bucket + int(direction == self.sign)
        if self.rows_done == 0:
            self.column_against[c] = self.against
        self.x = [
            odds * self.sign,
            self.context_odds[self.kind],
            -self.stretch[self.column_against[c] >> 4] - 8192,
            -self.stretch[self.row_against >> 4] - 8192,
            2048,
        ]
        self.lot = min(self.column_against[c] >> 11, 19)
        weights = [a + b for a, b in zip(self.by_bucket[self.bucket], self.by_column[self.lot], strict=True)]
        mixed = clip(sum(w * x for w, x in zip(weights, self.x, strict=True)) >> 20, 47103)
        self.expected = self.squash(mixed)
        self.knot, self.part = divmod(clip(mixed, 32767) + 32768, 2048)
        curve = self.refined[self.kind]
        corrected = curve[self.knot] * (2048 - self.part) + curve[self.knot + 1] * self.part >> 11
        final = max(1, min(65535, self.expected + corrected >> 1))
        return final if self.sign > 0 else 65536 - final

    def update(self, bit: int) -> None:
        right = bit if self.sign > 0 else 1 - bit
        error, speed = (right << 16) - self.expected, 16 if self.seen < 65536 else 19
        for weights in (self.by_bucket[self.bucket], self.by_column[self.lot]):
            for k, x in enumerate(self.x):
                weights[k] = clip(weights[k] + (x * error + (1 << speed - 1) >> speed), 1 << 24)
        self.seen += 1
        curve, target = self.refined[self.kind], 65535 * right
        curve[self.knot] += (target - curve[self.knot]) * (2048 - self.part) + 32768 >> 16
        curve[self.knot + 1] += (target - curve[self.knot + 1]) * self.part + 32768 >> 16
        context = self.context_odds[self.kind]
        self.context_odds[self.kind] = clip(context + ((right << 16) - self.squash(context) + 16 >> 5), 47103)
        surprise, c = 65535 - target, self.c
        column_step, row_step = 65536 // (min(self.rows_done, 255) + 7), 65536 // (min(self.columns_seen, 255) + 7)
        self.column_against[c] += (surprise - self.column_against[c]) * column_step >> 16
        self.row_against += (surprise - self.row_against) * row_step >> 16
        self.against += surprise - self.against >> 9
        self.columns_seen += 1
        change = ((bit << 16) - self.p) * self.lean + (1 << 22) >> 23
        self.gain = max(1 << 18, min(1 << 24, self.gain + change))
        steps = [d * v >> 20 for d, v in zip(self.row_variance, self.column[c], strict=True)]
        self.learn(self.row, self.row_variance, steps, bit, self.p, self.variance, self.direction)

    def learn(
        self, factor: list[int], variances: list[int], steps: list[int], bit: int, p: int, variance: int, direction: int
    ) -> None:
        certainty = p * (65536 - p) >> 16
        share = 2**32 // (65536 + (certainty * variance >> 16))
        push = (((bit << 16) - p) * share >> 16) * direction
        shrink = certainty * share >> 16
        for j, s in enumerate(steps):
            factor[j] = clip(factor[j] + (s * push + (1 << 19) >> 20), 1 << 21)
            variances[j] = max(variances[j] - ((s * s >> 16) * shrink >> 16), 1)

    def row_done(self, row: list[tuple[int, int, int]]) -> None:
        """The row as (bit, lean, direction) of each column."""
        for c, (bit, lean, direction) in enumerate(row):
            _, p, variance = self.drift(c, lean, direction)
            steps = [d * u >> 20 for d, u in zip(self.column_variance[c], self.row, strict=True)]
            self.learn(self.column[c], self.column_variance[c], steps, bit, p, variance, direction)
        self.row_sum = [total + u for total, u in zip(self.row_sum, self.row, strict=True)]
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
    model = Model(columns, min(24, rows // 4, columns // 4), squash, stretch)
    out = [0] * (rows * columns)
    for r in range(rows):
        model.row_start()
        done = []
        for c in range(columns):
            i = c * rows + r if turned else r * columns + c
            out[i] = coder.code(bits[i], model.predict(c, leans[i], directions[i]))
            model.update(out[i])
            done.append((out[i], leans[i], directions[i]))
        model.row_done(done)
    return out
