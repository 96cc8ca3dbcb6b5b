"""The rules that Hebb and Storkey tests do not cover: projections, perceptrons, what each promises."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hopfield import HopfieldNetwork, Perceptron, ProbabilityFlow, PseudoInverse, Storkey
from hopfield.errors import LearningWarning, RuleError
from hopfield.rules import RULES, from_settings
from tests.helpers.patterns import random_patterns
from tests.helpers.profiles import FAST

seeds = st.integers(0, 2**31)


@FAST
@given(st.integers(20, 80), st.floats(0.1, 0.9), seeds)
def test_the_projection_is_the_projector_onto_the_patterns(dim: int, load: float, seed: int) -> None:
    patterns = random_patterns(max(1, int(load * dim)), dim, seed)
    half = len(patterns) // 2
    rule = PseudoInverse()
    matrix = rule.learn(torch.zeros(dim, dim), patterns[:half], None, None)
    matrix = rule.learn(matrix, patterns[half:], None, None)
    expected = torch.linalg.pinv(patterns.double()) @ patterns.double()
    assert torch.allclose(matrix.double(), expected, atol=1e-4)
    assert torch.allclose(matrix @ patterns.T, patterns.T, atol=1e-3)


def test_patterns_in_the_span_change_nothing() -> None:
    patterns = random_patterns(5, 60)
    network = HopfieldNetwork(60, PseudoInverse(), centre=None)
    network.store(patterns)
    before = network.couplings()
    network.store(patterns[2])
    network.store(-patterns[3])
    assert torch.allclose(network.couplings(), before, atol=1e-6)


@pytest.mark.parametrize(("symmetric", "load"), [(True, 1.2), (False, 1.6)])
def test_perceptrons_hold_more_patterns_than_neurons(symmetric: bool, load: float) -> None:
    patterns = random_patterns(int(load * 128), 128, 0)
    network = HopfieldNetwork(128, Perceptron(symmetric=symmetric))
    network.store(patterns)
    assert torch.equal(network.recall(patterns), patterns)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("mean", [0.6, -0.8])
def test_perceptrons_hold_biased_patterns_with_the_field_that_the_memory_applies(symmetric: bool, mean: float) -> None:
    patterns = random_patterns(100, 100, 1, mean=mean)
    network = HopfieldNetwork(100, Perceptron(symmetric=symmetric))
    network.store(patterns)
    assert network.centre is not None
    assert torch.equal(network.recall(patterns), patterns)
    # a centre of -1 or +1, where a neuron is the same in all patterns, leaves its sign to the threshold alone
    patterns[:, :3] = 1.0
    by_neuron = HopfieldNetwork(100, Perceptron(symmetric=symmetric), centre=patterns.mean(0))
    by_neuron.store(patterns)
    assert torch.equal(by_neuron.recall(patterns), patterns)


@FAST
@given(st.integers(3, 12), st.sampled_from([0.0, 0.3, -0.7]), seeds)
def test_storkeys_rules_are_as_published_number_by_number(dim: int, centre: float, seed: int) -> None:
    patterns = random_patterns(4, dim, seed) - centre
    for variant in ("local-field", "first-order"):
        expected = torch.zeros(dim, dim, dtype=torch.float64)
        for z in patterns.double():
            old = expected.clone()
            h = old @ z
            for i in range(dim):
                for j in range(dim):
                    if variant == "first-order":
                        change = z[i] * z[j] - float(i == j) - z[i] * h[j] - h[i] * z[j]
                    else:
                        # the field at i without what i and j contribute
                        h_ij = h[i] - old[i, i] * z[i] - old[i, j] * z[j]
                        h_ji = h[j] - old[j, j] * z[j] - old[j, i] * z[i]
                        change = (z[i] * z[j] - z[i] * h_ji - h_ij * z[j]) * float(i != j)
                    expected[i, j] = old[i, j] + change / dim
        rule = Storkey(variant)  # type: ignore[arg-type]
        found = rule.learn(torch.zeros(dim, dim), patterns, None, torch.tensor(centre))
        assert torch.allclose(found.double(), expected, atol=1e-4)


@FAST
@given(st.floats(0.05, 0.5), st.booleans(), seeds)
def test_every_neuron_is_held_by_the_margin(margin: float, symmetric: bool, seed: int) -> None:
    patterns = random_patterns(12, 60, seed)
    network = HopfieldNetwork(60, Perceptron(margin=margin, symmetric=symmetric), centre=None)
    network.store(patterns[:5])
    network.store(patterns[5:])
    stability = patterns * network.field(patterns) / network.couplings().norm(dim=1)
    assert float(stability.min()) > margin * 0.999


def test_what_cannot_be_learnt_is_warned_of() -> None:
    patterns = random_patterns(60, 20)
    network = HopfieldNetwork(20, Perceptron(max_steps=50))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network.store(patterns)
    assert [w.category.__name__ for w in caught] == ["CapacityWarning", "LearningWarning"]
    assert issubclass(LearningWarning, UserWarning)


def test_gardners_bound() -> None:
    assert Perceptron(symmetric=False).limit(100) == pytest.approx(200)
    # by Gardner's integral for a margin of one, done numerically
    grid = torch.linspace(-1, 12, 2_000_001, dtype=torch.float64)
    weight = torch.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
    integral = float(torch.trapezoid(weight * (grid + 1) ** 2, grid))
    assert Perceptron(margin=1.0, symmetric=False).limit(100) == pytest.approx(100 / integral, rel=1e-6)


def test_settings_give_the_rule_back_and_every_rule_is_listed() -> None:
    from hopfield.rules.base import Rule

    listed = {cls.id for cls in Rule.__subclasses__()}
    assert listed == set(RULES)
    for rule in (Storkey("local-field"), Perceptron(margin=0.3, symmetric=False), PseudoInverse()):
        assert from_settings(rule.settings()) == rule
    with pytest.raises(RuleError):
        Perceptron(margin=-1)
    with pytest.raises(RuleError):
        from_settings({"id": "storkey", "variant": "third"})


@pytest.mark.parametrize("mean", [0.0, 0.6])
def test_probability_flow_holds_a_pattern_a_neuron(mean: float) -> None:
    patterns = random_patterns(100, 100, mean=mean)
    network = HopfieldNetwork(100, ProbabilityFlow(), centre="auto" if mean else None)
    network.store(patterns)
    assert bool((network.field(patterns) * patterns > 0).all())
    assert network.symmetric
    again = from_settings(network.rule.settings())
    assert again == network.rule
    with pytest.warns(LearningWarning, match="expected all 100 patterns"):
        HopfieldNetwork(100, ProbabilityFlow(steps=2)).store(patterns)
    with pytest.raises(RuleError, match="steps"):
        ProbabilityFlow(steps=0)


def test_probability_flow_lowers_the_flow_it_names() -> None:
    patterns = random_patterns(30, 60)

    def flow(steps: int) -> float:
        couplings = ProbabilityFlow(steps=steps).learn(torch.zeros(60, 60), patterns, None, None)
        return float(torch.exp(-patterns * (patterns @ couplings)).sum())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LearningWarning)
        assert flow(200) < flow(20) < 30 * 60  # what it is without couplings
