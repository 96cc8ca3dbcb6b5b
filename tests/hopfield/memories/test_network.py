"""The dense network: fixed points below the limit, energies, storing, forgetting, files."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hopfield import Hebbian, HopfieldNetwork, Perceptron, PseudoInverse, Rule, Storkey
from hopfield.errors import (
    CapacityWarning,
    DeviceError,
    DimensionError,
    EmptyMemoryError,
    ForgetError,
    LearningWarning,
    PatternError,
    RuleError,
)
from tests.helpers.patterns import random_patterns
from tests.helpers.profiles import FAST

RULES: list[Rule] = [Hebbian(), Storkey(), Storkey("local-field"), PseudoInverse(), Perceptron()]
rules = st.sampled_from(RULES)
seeds = st.integers(0, 2**31)


@FAST
@given(rules, st.integers(120, 300), seeds)
def test_patterns_well_below_the_limit_are_fixed_points(rule: Rule, dim: int, seed: int) -> None:
    # "without error" theory speaks of almost all patterns, so a third of it leaves none to chance
    count = max(1, int(rule.limit(dim) / 3))
    patterns = random_patterns(count, dim, seed)
    network = HopfieldNetwork(dim, rule)
    network.store(patterns)
    assert torch.equal(network.recall(patterns), patterns)
    assert torch.equal(network.recall(patterns, update="asynchronous"), patterns)


def test_far_beyond_the_limit_patterns_are_lost() -> None:
    patterns = random_patterns(80, 100)
    network = HopfieldNetwork(100)
    with pytest.warns(CapacityWarning):
        network.store(patterns)
    assert not torch.equal(network.recall(patterns), patterns)


@FAST
@given(rules, st.integers(1, 12), st.integers(2, 150), seeds)
def test_couplings_are_symmetric_with_zero_diagonal_and_give_the_field(
    rule: Rule, count: int, dim: int, seed: int
) -> None:
    network = _filled(rule, count, dim, seed)
    matrix = network.couplings()
    assert torch.equal(matrix, matrix.T)
    assert not matrix.diagonal().any()
    state = torch.randn(3, dim, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)
    shifted = state if network.centre is None else state - network.centre
    push = torch.zeros(dim) if network.centre is None else network.threshold * network.centre.expand(dim)
    assert torch.allclose(network.field(state), shifted @ matrix + push, atol=1e-4)
    neuron = seed % dim
    assert torch.allclose(network.field_at(state, neuron), network.field(state)[:, neuron], atol=1e-4)
    expected = -0.5 * (shifted @ matrix * shifted).sum(1) - state @ push
    assert torch.allclose(network.energy(state), expected, atol=1e-3)
    assert torch.allclose(network.energy(state[0]), network.energy(state)[0], atol=1e-3)


@FAST
@given(rules, st.integers(1, 12), st.integers(2, 60), seeds)
def test_the_field_is_the_negative_gradient_of_the_energy(rule: Rule, count: int, dim: int, seed: int) -> None:
    network = _filled(rule, count, dim, seed)
    state = random_patterns(1, dim, seed + 1)[0]
    neuron = seed % dim
    flipped = state.clone()
    flipped[neuron] *= -1
    # E is quadratic without diagonal, so a flip changes it by exactly 2 z_i h_i
    change = network.energy(flipped) - network.energy(state)
    assert torch.allclose(change, 2 * state[neuron] * network.field(state)[neuron], atol=1e-3)


@FAST
@given(rules, st.integers(1, 10), st.integers(40, 80), seeds)
def test_storing_at_once_or_one_by_one_is_the_same(rule: Rule, count: int, dim: int, seed: int) -> None:
    patterns = random_patterns(count, dim, seed)
    at_once, one_by_one = HopfieldNetwork(dim, rule, centre=None), HopfieldNetwork(dim, rule, centre=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CapacityWarning)
        at_once.store(patterns)
        for pattern in patterns:
            one_by_one.store(pattern)
    assert len(at_once) == len(one_by_one) == count
    assert torch.allclose(at_once.couplings(), one_by_one.couplings(), atol=1e-5)


@FAST
@given(st.integers(1, 6), st.integers(1, 6), st.integers(40, 80), seeds)
def test_forgetting_undoes_storing(kept: int, dropped: int, dim: int, seed: int) -> None:
    patterns = random_patterns(kept + dropped, dim, seed)
    network, never = HopfieldNetwork(dim, centre=None), HopfieldNetwork(dim, centre=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CapacityWarning)
        network.store(patterns)
        network.forget(patterns[kept:])
        never.store(patterns[:kept])
    assert torch.allclose(network.couplings(), never.couplings(), atol=1e-5)
    assert len(network) == kept


def test_what_cannot_be_forgotten_is_refused() -> None:
    network = HopfieldNetwork(50, Storkey())
    network.store(random_patterns(2, 50))
    with pytest.raises(ForgetError, match="can forget"):
        network.forget(random_patterns(1, 50))
    with pytest.raises(ForgetError, match="at most"):
        HopfieldNetwork(50).forget(random_patterns(1, 50))


@pytest.mark.parametrize("rule", RULES)
def test_biased_patterns_need_the_centre(rule: Rule) -> None:
    patterns = random_patterns(10, 400, 3, mean=0.6)
    centred, plain = HopfieldNetwork(400, rule), HopfieldNetwork(400, rule, centre=None)
    centred.store(patterns)
    plain.store(patterns)
    assert centred.centre is not None
    assert centred.centre.item() == pytest.approx(0.6, abs=0.05)
    assert torch.equal(centred.recall(patterns), patterns)
    if isinstance(rule, Hebbian):  # the reason for the centre: without it all patterns fall into one
        assert not torch.equal(plain.recall(patterns), patterns)


def test_unbiased_patterns_are_not_centred() -> None:
    network = HopfieldNetwork(200)
    network.store(random_patterns(10, 200, 5))
    assert network.centre is None


def test_the_warning_comes_before_the_store() -> None:
    network = HopfieldNetwork(100)
    network.store(random_patterns(2, 100))
    before = network.couplings()
    with warnings.catch_warnings():
        warnings.simplefilter("error", CapacityWarning)
        with pytest.raises(CapacityWarning, match="at most 10 patterns by its theory, found 42"):
            network.store(random_patterns(40, 100, 1))
    assert len(network) == 2
    assert torch.equal(network.couplings(), before)


def test_bad_input_is_named() -> None:
    network = HopfieldNetwork(10)
    with pytest.raises(EmptyMemoryError):
        network.recall(torch.ones(10))
    with pytest.raises(DimensionError, match="expected shape \\(k, 10\\)"):
        network.store(torch.ones(1, 9))
    network.store(torch.ones(10))
    with pytest.raises(PatternError, match="NaN"):
        network.recall(torch.full((10,), float("nan")))
    with pytest.raises(DimensionError):
        network.field(torch.ones(11))
    with pytest.raises(DimensionError):
        HopfieldNetwork(0)
    with pytest.raises(RuleError, match="'first-order' or 'local-field'"):
        Storkey("second-order")  # type: ignore[arg-type]
    with pytest.raises(DimensionError):
        HopfieldNetwork(10, centre=torch.zeros(9))
    with pytest.raises(PatternError):
        HopfieldNetwork(10, centre=3.0)
    for wrong in ("mean", object(), [[0.1], [0.2, 0.3]]):
        with pytest.raises(RuleError, match="centre"):
            HopfieldNetwork(10, centre=wrong)  # type: ignore[arg-type]
    with pytest.raises(DimensionError, match=r"5\.5"):
        HopfieldNetwork(5.5)  # type: ignore[arg-type]
    for ask in (HopfieldNetwork(10).field, HopfieldNetwork(10).energy):
        with pytest.raises(EmptyMemoryError):
            ask(torch.ones(10))


@pytest.mark.parametrize("device", ["gpu", "cuda:99", 3.5])
def test_a_device_that_is_not_there_is_a_named_error(device: object) -> None:
    with pytest.raises(DeviceError, match="that torch can use here"):
        HopfieldNetwork(10, device=device)  # type: ignore[arg-type]
    with pytest.raises(DeviceError):
        HopfieldNetwork(10).to(device)  # type: ignore[arg-type]


def test_the_callers_centre_stays_the_callers() -> None:
    centre = torch.full((10,), 0.2)
    network = HopfieldNetwork(10, centre=centre)
    centre.fill_(0.9)
    assert network.centre is not None
    assert network.centre.tolist() == pytest.approx([0.2] * 10)


@pytest.mark.parametrize("rule", RULES)
def test_odd_patterns_do_no_harm(rule: Rule) -> None:
    ones = torch.ones(50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for patterns in (
            ones[None],
            ones.repeat(4, 1),
            torch.cat([ones[None], -ones[None]]),
            random_patterns(3, 50).repeat(3, 1),
        ):
            for centre in (None, "auto"):
                network = HopfieldNetwork(50, rule, centre=centre)  # type: ignore[arg-type]
                network.store(patterns[:0])  # nothing
                network.store(patterns)
                assert torch.equal(network.recall(patterns), patterns)
        alone = HopfieldNetwork(1, rule)  # one neuron has no neighbour to hold it
        alone.store(torch.tensor([True]))
        assert alone.recall(torch.tensor([-1.0])).tolist() == [-1.0]
        # a centre that is the only pattern leaves nothing to learn; the threshold holds it
        whole = HopfieldNetwork(50, rule, centre=random_patterns(1, 50)[0])
        whole.store(random_patterns(1, 50))
        assert bool(torch.isfinite(whole.field(ones)).all())


def test_symmetric_couplings_take_half_the_bytes() -> None:
    network = HopfieldNetwork(1024)
    whole = 4 * 1024 * 1024
    # d²/2 numbers, half a strip more a row, and the diagonal
    assert network.nbytes == whole // 2 + 4 * 1024 * 128 // 2 + 4 * 1024


def _filled(rule: Rule, count: int, dim: int, seed: int) -> HopfieldNetwork:
    network = HopfieldNetwork(dim, rule)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CapacityWarning)
        warnings.simplefilter("ignore", LearningWarning)  # no couplings of two neurons hold opposite patterns
        network.store(random_patterns(count, dim, seed))
    return network
