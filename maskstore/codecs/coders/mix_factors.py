"""The factors of the `mix` codec's model, eight columns at a time: what they predict, and how a row and columns learn.

Vectors of 32-bit integers (`maskstore.kernels.ir.eight`) that never leave their 32 bits. The factors of eight columns
lie together, those of factor j as eight neighbours. `docs/format-codecs.md`, "Codec mix", has the formulas and units.
"""

from numba import njit

from maskstore.kernels.ir import eight

add, sub, mul, shift, least, most = eight.add, eight.sub, eight.mul, eight.shift, eight.least, eight.most
load, store, splat, sums, at, LANES = eight.load, eight.store, eight.splat, eight.sums, eight.at, eight.LANES
MAX_RANK = 20
FACTORS = 24  # room for them in whole eights
ODDS_LIMIT = 47103  # 11.5: there a probability is within 2**-16 of 0 or 1
FACTOR_LIMIT = (1 << 17) - 1  # 4, of a column
ROW_LIMIT = (1 << 18) - 1  # 4


@njit(inline="always")
def inverse(t):
    """1 / (1 + t) for t from 0 to 1, both in units of 2**-15, nearly: 1 - 5/6 t + 1/3 t**2."""
    square = shift(mul(t, t), 15)
    return add(sub(splat(32768), shift(mul(t, splat(27307)), 15)), shift(mul(square, splat(10923)), 15))


@njit(inline="always")
def odds_of(mean, spread, lean, direction):
    """Log-odds of eight bits under their leans and the factors, which count less the less is known of them.

    1 / sqrt(1 + s / 5) (MacKay 1992) is nearly 1 - 0.093 s + 0.0073 s**2 for variances s up to 4.
    """
    s = least(shift(spread, 4), splat(16384))
    damp = sub(splat(4096), shift(mul(s, splat(381)), 12))
    damp = add(damp, shift(mul(shift(mul(s, s), 12), splat(30)), 12))
    drifted = limited(add(lean, mul(mean, direction)), 1 << 18)
    return limited(shift(mul(drifted, damp), 12), ODDS_LIMIT)


@njit(inline="always")
def certainty(p, spread):
    """p (1 - p), and what is left of a surprise where the factors are uncertain themselves, in units of 2**-15."""
    half = shift(p, 1)
    certainty = shift(mul(half, sub(splat(32768), half)), 15)
    t = least(shift(mul(certainty, least(shift(spread, 4), splat(65535))), 12), splat(32768))
    return certainty, inverse(t)


@njit(inline="always")
def push_of(bit, p, share, direction):
    """How far eight bits push the factors, in units of 2**-12."""
    missed = shift(sub(mul(bit, splat(65536)), p), 1)
    return mul(shift(mul(missed, share), 18), direction)


@njit(inline="always")
def limited(value, limit):
    return most(least(value, splat(limit)), splat(-limit))


@njit(inline="always")
def mean_of(start, rank, column, row_numbers):
    """Row . column for eight columns, log-odds in units of 2**-12; their factors are from `start` on."""
    mean = splat(0)
    for j in range(rank):
        mean = add(mean, shift(mul(load(column, start + j * LANES), splat(at(row_numbers, j))), 9))
    return shift(mean, 6)


@njit(inline="always")
def spread_of(start, rank, column, variance, row_numbers, squares):
    """The variance of row . column for eight columns, in units of 2**-16; fills the squares of v, in 2**-10."""
    spread = splat(0)
    for j in range(rank):
        v = shift(load(column, start + j * LANES), 6)
        square = shift(mul(v, v), 8)
        store(squares, j * LANES, square)
        of_column = mul(shift(load(variance, start + j * LANES), 6), splat(at(row_numbers, 2 * FACTORS + j)))
        of_row = mul(square, splat(at(row_numbers, FACTORS + j)))
        spread = add(spread, add(shift(of_row, 6), shift(of_column, 8)))
    return spread


@njit(inline="always")
def ready_row(row, row_variance, row_numbers):
    """What eights need of a row: u and U in units of 2**-12, u squared in 2**-10, u in 2**-8."""
    for half in range(0, FACTORS, LANES):
        u12 = shift(load(row, half), 4)
        u10 = shift(load(row, half), 6)
        store(row_numbers, half, u12)
        store(row_numbers, FACTORS + half, shift(load(row_variance, half), 4))
        store(row_numbers, 2 * FACTORS + half, shift(mul(u10, u10), 10))
        store(row_numbers, 3 * FACTORS + half, shift(u12, 4))


@njit(inline="always")
def row_learns(start, rank, column, pushed, sure, row, row_variance, squares, products):
    """Move a row's factors by eight bits."""
    for j in range(rank):
        store(products, LANES * j, shift(mul(load(column, start + j * LANES), pushed), 3))
        store(products, LANES * (FACTORS + j), mul(load(squares, j * LANES), sure))
    for half in range(0, rank, LANES):
        g = limited(shift(sums(products, LANES * half), 12), 65535)
        h = least(shift(sums(products, LANES * (FACTORS + half)), 12), splat(32768))
        variance = load(row_variance, half)
        t = least(shift(mul(shift(variance, 4), h), 9), splat(32768))
        lost = shift(mul(shift(variance, 3), shift(mul(t, inverse(t)), 15)), 12)
        variance = most(sub(variance, lost), splat(1))
        store(row_variance, half, variance)
        moved = add(load(row, half), shift(mul(shift(variance, 4), g), 8))
        store(row, half, limited(moved, ROW_LIMIT))


@njit(inline="always")
def columns_learn(start, rank, column, variance, pushed, sure, row_numbers):
    """Move the factors of eight columns by a bit of each."""
    for j in range(rank):
        place = start + j * LANES
        before = load(variance, place)
        q = shift(mul(before, splat(at(row_numbers, 3 * FACTORS + j))), 12)
        change = shift(add(mul(q, pushed), splat(4096)), 13)
        store(column, place, limited(add(load(column, place), change), FACTOR_LIMIT))
        q = shift(q, 4)
        lost = shift(mul(shift(mul(q, q), 10), sure), 6)
        store(variance, place, most(sub(before, lost), splat(1)))
