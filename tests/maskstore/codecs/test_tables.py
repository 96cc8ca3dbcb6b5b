"""The search for a probability table leaves out what cannot win, and finds what the whole search would."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstore.codecs.tables import curves
from maskstore.codecs.tables import table as tables


@dataclass
class Known:
    """What the search needs of contexts."""

    levels: int
    classes: int


def counts(levels, classes, bits, roughness, seed):
    """Zeros and ones of each context; log-odds follow a line in the levels as far as they are not rough."""
    rng = np.random.default_rng(seed)
    line = rng.uniform(-4, 4, classes) + rng.uniform(-6, 6, classes) * np.linspace(0, 1, levels)[:, None]
    ones = 1 / (1 + np.exp(-(line + roughness * rng.standard_normal((levels, classes)))))
    seen = rng.multinomial(bits, rng.dirichlet(np.ones(levels * classes)))
    set_bits = rng.binomial(seen, ones.reshape(-1))
    return np.stack([seen - set_bits, set_bits], axis=1).astype(np.int64)


def whole_search(seen, known):
    """All walks and curves, each with its bits, walks from the finest to the coarsest."""
    for shift in range(known.levels.bit_length()):
        merged = seen.reshape(known.levels >> shift, 1 << shift, known.classes, 2).sum(axis=1)
        points, bits = tables.fit(merged.transpose(1, 0, 2).reshape(-1, 2))
        yield shift, points, bits
    if known.levels >= 8:
        costs = (seen.astype(float) @ tables._point_costs()).reshape(known.levels, known.classes, -1)
        for form in (tables.CURVES, tables.MIRRORED_CURVES):
            if form == tables.CURVES or known.classes % 2 == 0:
                knots, bits = curves.fit(costs.transpose(1, 0, 2), mirrored=form == tables.MIRRORED_CURVES)
                yield form, knots, bits + 8 * knots.size


@given(
    st.integers(0, 6).map(lambda n: 1 << n),
    st.integers(1, 4),
    st.sampled_from([0, 1, 10, 300, 10_000, 10**6]),
    st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    st.integers(0, 99),
)
def test_nothing_that_could_win_is_left_out(levels, classes, bits, roughness, seed):
    seen, known = counts(levels, classes, bits, roughness, seed), Known(levels, classes)
    form, values, least = min(whole_search(seen, known), key=lambda found: found[2])
    table, found = tables.choose(seen, known)
    assert table.form == form
    assert np.array_equal(table.values, values)
    assert found == pytest.approx(least, abs=1e-6)


def test_a_walk_beyond_the_limit_is_given_up():
    seen = counts(64, 4, 10**5, 3.0, 0)
    points, bits = tables.fit(seen)
    again, same = tables.fit(seen, bits + 1e-6)
    assert np.array_equal(again, points)
    assert same == bits
    assert tables.fit(seen, bits - 1)[1] == np.inf


@pytest.mark.parametrize("levels", [2, 4, 64, 128])
def test_all_points_of_a_curve_are_those_found_one_by_one(levels):
    knots = np.random.default_rng(levels).integers(0, 64, (5, curves.KNOTS))
    one_by_one = [[curves.point_at(curve, level, levels) for level in range(levels)] for curve in knots]
    assert curves.points(knots, levels, 63, mirrored=False).tolist() == one_by_one
