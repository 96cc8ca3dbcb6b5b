"""Dense associative memories: capacity beyond the quadratic, energies that never rise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hopfield import DenseAssociativeMemory, Hebbian, HopfieldNetwork
from hopfield import patterns as pt
from hopfield.dynamics import relax
from hopfield.errors import CapacityWarning, EmptyMemoryError, RuleError
from tests.helpers.patterns import random_patterns
from tests.helpers.profiles import FAST

seeds = st.integers(0, 2**31)


@FAST
@given(st.integers(1, 120), st.integers(60, 150), seeds)
def test_exponential_energies_hold_more_patterns_than_neurons(count: int, dim: int, seed: int) -> None:
    patterns = random_patterns(2 * count, dim, seed)
    memory = DenseAssociativeMemory.of_patterns(patterns)
    assert torch.equal(memory.recall(patterns), patterns)


def test_a_cubic_energy_holds_what_a_quadratic_one_loses() -> None:
    patterns = random_patterns(100, 100)
    cubic, quadratic = DenseAssociativeMemory.of_patterns(patterns, "polynomial", degree=3), HopfieldNetwork(100)
    with pytest.warns(CapacityWarning):
        quadratic.store(patterns)
    assert torch.equal(cubic.recall(patterns), patterns)
    assert not torch.equal(quadratic.recall(patterns), patterns)


@FAST
@given(st.sampled_from(["polynomial", "exponential"]), st.integers(2, 5), st.integers(1, 30), st.integers(4, 70), seeds)
def test_energy_never_rises_under_asynchronous_updates(
    shape: str, degree: int, count: int, dim: int, seed: int
) -> None:
    memory = DenseAssociativeMemory.of_patterns(random_patterns(count, dim, seed), shape, degree=degree)  # type: ignore[arg-type]
    state = random_patterns(3, dim, seed + 1)
    energy = memory.energy(state)
    for sweep in range(4):
        state = relax(memory, state, update="asynchronous", max_sweeps=1, seed=sweep).states
        after = memory.energy(state)
        assert bool((after <= energy + 1e-4 * dim).all())
        energy = after


@FAST
@given(st.integers(2, 6), st.integers(1, 30), st.integers(4, 70), seeds)
def test_the_polynomial_field_is_half_the_gain_of_a_flip(degree: int, count: int, dim: int, seed: int) -> None:
    memory = DenseAssociativeMemory.of_patterns(random_patterns(count, dim, seed), "polynomial", degree=degree)
    state = random_patterns(1, dim, seed + 1)
    neuron = seed % dim
    flipped = state.clone()
    flipped[:, neuron] *= -1
    change = memory.energy(flipped) - memory.energy(state)
    field = memory.field(state)
    assert torch.allclose(change, 2 * state[:, neuron] * field[:, neuron], atol=1e-3)
    assert torch.allclose(memory.field_at(state, neuron), field[:, neuron], atol=1e-4)


def test_a_rectified_quadratic_energy_recalls_like_the_hebb_rule() -> None:
    patterns = random_patterns(6, 300)
    network = HopfieldNetwork(300, Hebbian())
    network.store(patterns)
    cues = pt.flip(patterns, 0.1, torch.Generator().manual_seed(1))
    memory = DenseAssociativeMemory.of_patterns(patterns, "polynomial", degree=2)
    assert torch.equal(memory.recall(cues), network.recall(cues))


@FAST
@given(st.sampled_from([0.3, 1.0, 2.0]), st.integers(1, 20), st.integers(4, 40), seeds)
def test_the_exponential_field_is_half_the_gain_of_a_flip(beta: float, count: int, dim: int, seed: int) -> None:
    memory = DenseAssociativeMemory.of_patterns(random_patterns(count, dim, seed), beta=beta)
    state = random_patterns(1, dim, seed + 1)
    # half of what the sum of exponentials gains by the flip, over the factor sinh(2 beta) / 2 that the field leaves out
    q = (pt.from_matrix(memory.masks) @ state[0]).double()
    scale = torch.logsumexp(beta * q, 0)
    for neuron in range(dim):
        up, down = state.clone(), state.clone()
        up[:, neuron], down[:, neuron] = 1.0, -1.0
        gains = [torch.exp(-beta * memory.energy(z).double() - scale) for z in (up, down)]
        expected = (gains[0] - gains[1]) / math.sinh(2 * beta)
        assert torch.allclose(expected, memory.field(state)[:, neuron].double(), atol=1e-3)


def test_forgetting_is_as_if_never_stored() -> None:
    patterns = random_patterns(5, 64)
    memory = DenseAssociativeMemory.of_patterns(patterns)
    masks = memory.masks
    memory.forget("pattern-2")
    assert (len(memory), len(masks)) == (4, 5)  # the caller's matrix is left alone
    never = DenseAssociativeMemory.of_patterns(patterns[[0, 1, 3, 4]])
    assert torch.equal(memory.field(patterns), never.field(patterns))


def test_it_holds_the_packed_masks_and_nothing_else() -> None:
    memory = DenseAssociativeMemory.of_patterns(random_patterns(9, 640))
    assert memory.nbytes == 9 * 640 // 8
    memory.store(random_patterns(1, 640, 1))
    assert len(memory) == 10


def test_bad_settings_are_named_and_overloads_warned_of() -> None:
    patterns = random_patterns(3, 40)
    with pytest.raises(RuleError, match="polynomial"):
        DenseAssociativeMemory.of_patterns(patterns, "cubic")  # type: ignore[arg-type]
    with pytest.raises(RuleError, match="whole degree"):
        DenseAssociativeMemory.of_patterns(patterns, "polynomial", degree=2.5)  # type: ignore[arg-type]
    with pytest.raises(RuleError, match="beta"):
        DenseAssociativeMemory.of_patterns(patterns, beta=float("nan"))
    with pytest.raises(EmptyMemoryError):
        DenseAssociativeMemory.of_patterns(patterns[:0]).field(patterns)
    with pytest.raises(RuleError, match="degree"):
        DenseAssociativeMemory.of_patterns(patterns, "polynomial", degree=1)
    memory = DenseAssociativeMemory.of_patterns(patterns, "polynomial", degree=2)
    with pytest.warns(CapacityWarning):
        memory.store(random_patterns(20, 40, 1))
