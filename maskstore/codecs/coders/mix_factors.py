"""The factors of the `mix` codec's model, eight columns at a time: what they predict, and how a row and columns learn.

Vectors of 32-bit integers (`maskstore.kernels.ir.eight`) that never leave their 32 bits. The factors of eight columns
lie together, those of factor j as eight neighbours. `docs/format-codecs.md`, "Codec mix", has the formulas and units.
"""

from numba import njit

from maskstore.kernels.ir import eight

add, sub, mul, shift, least, most = eight.add, eight.sub, eight.mul, eight.shift, eight.least, eight.most
load, store, splat, sums, at, LANES = eight.load, eight.store, eight.splat, eight.sums, eight.at, eight.LANES
FACTORS = 16
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
def mean_of(start, column, row_numbers):
    """Row . column for eight columns, log-odds in units of 2**-12; their factors are from `start` on."""
    mean = splat(0)
    for j in range(FACTORS):
        mean = add(mean, mul(shift(load(column, start + j * LANES), 4), splat(at(row_numbers, j))))
    return shift(mean, 10)


@njit(inline="always")
def mean_and_spread(start, column, variance, row_numbers, squares):
    """`mean_of`, and the variance of the product, in units of 2**-16; fills the squares of v, in 2**-10."""
    mean, of_rows, of_columns = splat(0), splat(0), splat(0)
    for j in range(FACTORS):
        v = shift(load(column, start + j * LANES), 4)
        mean = add(mean, mul(v, splat(at(row_numbers, j))))
        square = shift(mul(v, v), 12)
        store(squares, j * LANES, square)
        of_rows = add(of_rows, mul(square, splat(at(row_numbers, FACTORS + j))))
        variances = shift(load(variance, start + j * LANES), 9)
        of_columns = add(of_columns, mul(variances, splat(at(row_numbers, 2 * FACTORS + j))))
    return shift(mean, 10), add(shift(of_rows, 4), shift(of_columns, 5))


@njit(inline="always")
def ready_row(row, row_variance, row_numbers):
    """What eights need of a row: u in units of 2**-11, U in 2**-10, u squared in 2**-10, u in 2**-8."""
    for half in range(0, FACTORS, LANES):
        u = load(row, half)
        u10 = shift(u, 6)
        store(row_numbers, half, shift(u, 5))
        store(row_numbers, FACTORS + half, shift(load(row_variance, half), 6))
        store(row_numbers, 2 * FACTORS + half, shift(mul(u10, u10), 10))
        store(row_numbers, 3 * FACTORS + half, shift(u, 8))


@njit(inline="always")
def _pushed(start, j, column, pushed):
    return mul(shift(load(column, start + j * LANES), 4), pushed)


@njit(inline="always")
def _sure(j, squares, sure):
    return mul(load(squares, j * LANES), sure)


@njit(inline="always")
def row_learns(start, column, pushed, sure, row, row_variance, squares):
    """Move a row's factors by eight bits."""
    for half in range(0, FACTORS, LANES):
        g = sums(_pushed(start, half, column, pushed), _pushed(start, half + 1, column, pushed),
                 _pushed(start, half + 2, column, pushed), _pushed(start, half + 3, column, pushed),
                 _pushed(start, half + 4, column, pushed), _pushed(start, half + 5, column, pushed),
                 _pushed(start, half + 6, column, pushed), _pushed(start, half + 7, column, pushed))  # fmt: skip
        h = sums(_sure(half, squares, sure), _sure(half + 1, squares, sure),
                 _sure(half + 2, squares, sure), _sure(half + 3, squares, sure),
                 _sure(half + 4, squares, sure), _sure(half + 5, squares, sure),
                 _sure(half + 6, squares, sure), _sure(half + 7, squares, sure))  # fmt: skip
        g, h = limited(shift(g, 11), 65535), least(shift(h, 12), splat(32768))
        variance = load(row_variance, half)
        t = least(shift(mul(shift(variance, 4), h), 9), splat(32768))
        lost = shift(mul(shift(variance, 3), shift(mul(t, inverse(t)), 15)), 12)
        variance = sub(variance, lost)
        store(row_variance, half, variance)
        moved = add(load(row, half), shift(mul(shift(variance, 4), g), 8))
        store(row, half, limited(moved, ROW_LIMIT))


@njit(inline="always")
def column_learns(start, j, column, variance, pushed, sure, row_numbers):
    """Move factor j of eight columns by a bit of each."""
    place = start + j * LANES
    before = load(variance, place)
    q = shift(mul(before, splat(at(row_numbers, 3 * FACTORS + j))), 12)
    change = shift(add(mul(q, pushed), splat(4096)), 13)
    store(column, place, limited(add(load(column, place), change), FACTOR_LIMIT))
    q = shift(q, 4)
    lost = shift(mul(shift(mul(q, q), 10), sure), 6)
    store(variance, place, most(sub(before, lost), splat(1)))
