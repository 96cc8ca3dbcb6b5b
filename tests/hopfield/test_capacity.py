"""Capacity: loads, theory, scans and their plots."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hopfield import DualMemory, Hebbian, HopfieldNetwork, PseudoInverse, Rule
from hopfield import patterns as pt
from hopfield.capacity import (
    BasinPoint,
    CapacityPoint,
    break_even_patterns,
    hebbian_bit_error,
    largest_reaching,
    load_factor,
    plot_basins,
    plot_capacity,
    scan_basins,
    scan_capacity,
)
from hopfield.errors import RuleError


def _make(rule: Rule):  # type: ignore[no-untyped-def]
    def make(patterns: torch.Tensor) -> HopfieldNetwork:
        network = HopfieldNetwork(patterns.shape[1], rule)
        network.store(patterns)
        return network

    return make


def test_scans_show_the_cliff_where_theory_has_it() -> None:
    points = scan_capacity(_make(Hebbian()), 128, (3, 8, 60), seeds=2)
    assert [p.patterns for p in points] == [3, 8, 60]
    assert points[0].exact == 1.0
    assert points[2].exact == 0.0
    assert 0.5 < points[2].bits < 0.9
    best = largest_reaching(points, exact=0.99)
    assert best is not None
    assert best.patterns < 60
    assert best.load == best.patterns / 128


def test_one_step_errors_of_the_hebb_rule_follow_the_formula() -> None:
    # 20 patterns on 100 neurons, where theory expects 1.3 % of wrong bits
    wrong = []
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        patterns = (torch.rand((20, 100), generator=generator) < 0.5).float() * 2 - 1
        network = _make_quietly(patterns)
        wrong.append(float((network.field(patterns) * patterns < 0).float().mean()))
    assert sum(wrong) / 10 == pytest.approx(hebbian_bit_error(0.2), rel=0.25)
    assert hebbian_bit_error(0.0) == 0.0


def _make_quietly(patterns: torch.Tensor) -> HopfieldNetwork:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _make(Hebbian())(patterns)


def test_basins_shrink_with_noise() -> None:
    points = scan_basins(_make(PseudoInverse()), 128, 30, (0.0, 0.1, 0.5), seeds=2)
    assert [p.noise for p in points] == [0.0, 0.1, 0.5]
    assert points[0].exact == points[1].exact == 1.0
    assert points[2].exact < 0.2


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1)), min_size=1, max_size=8))
def test_the_largest_load_has_no_failure_below_it(found: list[tuple[int, float]]) -> None:
    points = [CapacityPoint(count, 512, exact, 1.0) for count, exact in found]
    best = largest_reaching(points, exact=0.9)
    good = 0 if best is None else best.patterns
    assert all(p.exact >= 0.9 for p in points if p.patterns < good)
    if best is None:
        assert min(points, key=lambda p: p.patterns).exact < 0.9


def test_load_and_break_even() -> None:
    network = HopfieldNetwork(64)
    network.store(torch.ones(64))
    assert load_factor(network) == 1 / 64
    assert break_even_patterns(4 * 64 * 64, 64) == 32 * 64  # a whole float32 matrix: 32 d, as the arithmetic says


def test_plots_are_drawn(tmp_path: Path) -> None:
    capacity = {"Hebb": [CapacityPoint(5, 100, 1.0, 1.0), CapacityPoint(20, 100, 0.1, 0.9)]}
    plot_capacity(capacity, tmp_path / "capacity.svg", limits={"Hebb": 0.11})
    plot_basins({"Hebb": [BasinPoint(0.0, 1.0), BasinPoint(0.3, 0.2)]}, tmp_path / "basins.svg")
    assert "<svg" in (tmp_path / "capacity.svg").read_text()
    assert "<svg" in (tmp_path / "basins.svg").read_text()


def test_bad_input_is_named() -> None:
    with pytest.raises(RuleError):
        scan_capacity(_make(Hebbian()), 10, ())
    with pytest.raises(RuleError):
        scan_basins(_make(Hebbian()), 10, 2, (1.5,))


def test_scans_have_the_standard_error_of_their_seeds() -> None:
    def make(patterns: torch.Tensor) -> DualMemory:
        return DualMemory.of_patterns(patterns)

    exact = [scan_capacity(make, 64, (10,), seeds=n)[0] for n in (1, 3)]
    assert exact[0].exact_error == 0.0
    singles = []
    for seed in range(3):
        patterns = pt.random_patterns(10, 64, torch.Generator().manual_seed(seed))
        after = pt.signs_or(make(patterns).field(patterns), patterns)
        singles.append(float((after == patterns).all(1).float().mean()))
    assert exact[1].exact_error == pytest.approx(torch.tensor(singles).std().item() / 3**0.5)
    assert exact[1].exact_error > 0
    basins = scan_basins(make, 64, 10, (0.0, 0.1), seeds=3)
    assert basins[0].exact_error > 0
