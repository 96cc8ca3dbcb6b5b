"""Dynamics: energies that never rise, cycles that are reported, soft states."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hopfield import HopfieldNetwork, Storkey, theory
from hopfield import patterns as pt
from hopfield.dynamics import glauber, mean_field, relax
from hopfield.errors import CapacityWarning, RuleError
from tests.helpers.patterns import random_patterns
from tests.helpers.profiles import FAST

seeds = st.integers(0, 2**31)


def _network(count: int, dim: int, seed: int) -> HopfieldNetwork:
    network = HopfieldNetwork(dim, Storkey("local-field") if seed % 2 else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CapacityWarning)
        network.store(random_patterns(count, dim, seed))
    return network


@FAST
@given(st.integers(1, 30), st.integers(3, 60), seeds)
def test_energy_never_rises_under_asynchronous_updates(count: int, dim: int, seed: int) -> None:
    network = _network(count, dim, seed)
    state = random_patterns(4, dim, seed + 1)
    energy = network.energy(state)
    for sweep in range(8):
        state = relax(network, state, update="asynchronous", max_sweeps=1, seed=sweep).states
        after = network.energy(state)
        assert bool((after <= energy + 1e-4 * dim).all())
        energy = after


@FAST
@given(st.integers(1, 30), st.integers(3, 60), seeds)
def test_asynchronous_updates_end_in_fixed_points(count: int, dim: int, seed: int) -> None:
    network = _network(count, dim, seed)
    cues = random_patterns(3, dim, seed + 1)
    rest = relax(network, cues, update="asynchronous", max_sweeps=500)
    assert bool(rest.converged.all())
    assert not bool(rest.cycles.any())
    field = network.field(rest.states)
    assert bool((field * rest.states >= -1e-4).all())


@FAST
@given(st.integers(1, 30), st.integers(3, 60), seeds)
def test_synchronous_updates_end_in_fixed_points_or_reported_two_cycles(count: int, dim: int, seed: int) -> None:
    network = _network(count, dim, seed)
    cues = random_patterns(5, dim, seed + 1)
    rest = relax(network, cues, max_sweeps=2000)
    assert bool((rest.converged ^ rest.cycles).all())
    once = pt.signs_or(network.field(rest.states), rest.states)
    twice = pt.signs_or(network.field(once), once)
    assert torch.equal((once == rest.states).all(1), rest.converged)
    assert torch.equal(twice, rest.states)


def test_a_two_cycle_is_found() -> None:
    network = HopfieldNetwork(2, centre=None)
    network.store(torch.tensor([1.0, -1.0]))  # the coupling is negative, so equal neurons flip together for ever
    rest = relax(network, torch.ones(2))
    assert bool(rest.cycles)
    assert not bool(rest.converged)


def test_sweeps_stop_at_the_limit_and_say_so() -> None:
    network = HopfieldNetwork(2, centre=None)
    network.store(torch.tensor([1.0, -1.0]))
    rest = relax(network, torch.ones(2), max_sweeps=1)
    assert rest.sweeps == 1
    assert not bool(rest.converged)
    assert not bool(rest.cycles)


def test_mean_field_at_low_temperature_finds_the_pattern() -> None:
    network = HopfieldNetwork(200)
    patterns = random_patterns(5, 200)
    network.store(patterns)
    soft = mean_field(network, 0.3 * patterns, beta=8.0, steps=20)
    assert torch.equal(soft.sign(), patterns)
    hot = mean_field(network, 0.3 * patterns, beta=0.2, steps=60)  # too hot to remember
    assert float(hot.abs().max()) < 0.05


def test_a_cue_pulls_the_soft_state() -> None:
    network = HopfieldNetwork(200)
    patterns = random_patterns(5, 200)
    network.store(patterns)
    soft = mean_field(network, torch.zeros(200), beta=4.0, cue=0.1 * patterns[3], steps=20, damping=0.3)
    assert torch.equal(soft.sign(), patterns[3])


def test_bad_settings_are_named() -> None:
    network = _network(1, 5, 0)
    with pytest.raises(RuleError, match="synchronous"):
        relax(network, torch.ones(5), update="sideways")
    with pytest.raises(RuleError):
        relax(network, torch.ones(5), max_sweeps=0)
    for wrong in ({"beta": 0.0}, {"beta": float("inf")}, {"beta": float("nan")}, {"beta": 1.0, "steps": 0}):
        with pytest.raises(RuleError, match="mean field"):
            mean_field(network, torch.ones(5), **wrong)  # type: ignore[arg-type]


def test_the_mean_field_of_one_pattern_magnetises_below_the_critical_temperature() -> None:
    # one Hebb pattern is a ferromagnet: m = tanh(beta m (d - 1) / d), 0 above the critical temperature of 1
    pattern = random_patterns(1, 400)
    network = HopfieldNetwork(400, centre=None)
    network.store(pattern)
    for beta in (0.8, 1.5, 3.0):
        soft = mean_field(network, 0.5 * pattern[0], beta=beta, steps=400)
        m = float(soft @ pattern[0]) / 400
        assert m == pytest.approx(math.tanh(beta * m * 399 / 400), abs=1e-5)
        assert (m > 0.5) == (beta > 1)


def test_glauber_dynamics_follow_the_boltzmann_distribution() -> None:
    network = HopfieldNetwork(3, centre=None)
    network.store(torch.tensor([[1.0, 1.0, -1.0]]))
    states = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    weights = torch.softmax(-network.energy(states) / 0.5, dim=0)
    expected = (weights[:, None] * states[:, :1] * states).sum(0)  # correlations with the first neuron
    starts = torch.ones((4000, 3))
    ends = glauber(network, starts, temperature=0.5, sweeps=21, burn_in=20)
    assert torch.allclose((ends[:, :1] * ends).mean(0), expected, atol=0.05)


@pytest.mark.parametrize(("load", "temperature"), [(0.05, 0.4), (0.02, 0.7)])
def test_overlaps_at_a_temperature_are_those_of_mean_field_theory(load: float, temperature: float) -> None:
    patterns = random_patterns(round(load * 400), 400)
    network = HopfieldNetwork(400, centre=None)
    network.store(patterns)
    ends = glauber(network, patterns, temperature=temperature, sweeps=40, burn_in=15)
    overlaps = pt.overlap(ends, patterns).diagonal()
    assert float(overlaps.mean()) == pytest.approx(theory.hebbian_overlap(load, temperature), abs=0.04)


def test_theory_of_the_hebb_rule_breaks_down_where_published() -> None:
    assert theory.hebbian_overlap(0.137) == pytest.approx(0.967, abs=0.01)
    assert theory.hebbian_overlap(0.139) == 0.0
    assert theory.hebbian_overlap(0.0, temperature=1.01) == 0.0
    with pytest.raises(RuleError, match="at least 0"):
        theory.hebbian_overlap(-0.1)


def test_glauber_dynamics_refuse_numbers_out_of_range() -> None:
    network = HopfieldNetwork(3)
    network.store(torch.ones(3))
    for temperature, sweeps, burn_in in ((0.0, 5, 0), (math.inf, 5, 0), (1.0, 5, 5), (1.0, 0, 0)):
        with pytest.raises(RuleError, match="Glauber"):
            glauber(network, torch.ones(3), temperature=temperature, sweeps=sweeps, burn_in=burn_in)
