"""The dual form is the dense memory without its matrix."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hopfield import DualMemory, Hebbian, HopfieldNetwork, Perceptron, PseudoInverse, Rule, Storkey
from hopfield import patterns as pt
from hopfield.errors import CapacityWarning, DimensionError, ForgetError, PatternError, RuleError, StoreError
from hopfield.memories import dual
from maskstore import Mask, MaskMatrix, MaskSpec
from tests.helpers.patterns import random_patterns
from tests.helpers.profiles import FAST

rules = st.sampled_from([Hebbian(), Storkey(), PseudoInverse()])
seeds = st.integers(0, 2**31)


@FAST
@given(rules, st.integers(1, 15), st.integers(30, 200), st.sampled_from([0.0, 0.3, -0.5]), seeds)
def test_dual_and_dense_give_the_same_field_and_energy(
    rule: Rule, count: int, dim: int, centre: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    patterns = pt.random_patterns(count, dim, generator, mean=centre)
    dense = HopfieldNetwork(dim, rule, centre=centre or None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CapacityWarning)
        dense.store(patterns[: count // 2])
        dense.store(patterns[count // 2 :])
        dual = DualMemory.of_patterns(patterns[: count // 2], rule, centre=centre)
        dual.store(patterns[count // 2 :])
    state = torch.rand((3, dim), generator=generator) * 2 - 1
    # fields are of order one; energies are sums of d of them
    assert torch.allclose(dual.field(state), dense.field(state), atol=1e-5)
    assert torch.allclose(dual.energy(state) / dim, dense.energy(state) / dim, atol=1e-5)
    assert torch.allclose(dual.field_at(state, seed % dim), dense.field(state)[:, seed % dim], atol=1e-5)
    assert dual.field(state[0]).shape == (dim,)


@FAST
@given(rules, st.integers(2, 10), st.integers(60, 200), seeds)
def test_forgetting_is_as_if_never_stored(rule: Rule, count: int, dim: int, seed: int) -> None:
    patterns = random_patterns(count, dim, seed)
    drop = seed % count
    memory = DualMemory.of_patterns(patterns, rule)
    memory.forget(f"pattern-{drop}")
    never = DualMemory.of_patterns(torch.cat([patterns[:drop], patterns[drop + 1 :]]), rule)
    assert len(memory) == count - 1
    assert torch.allclose(memory.field(patterns), never.field(patterns), atol=1e-5)


def test_names_stay_free_of_clashes_after_forgetting() -> None:
    patterns = random_patterns(3, 80)
    memory = DualMemory.of_patterns(patterns)
    memory.forget("pattern-0")
    memory.store(patterns[0])
    assert len(set(memory.masks.names)) == 3


def test_long_masks_over_several_layers_are_fixed_points() -> None:
    spec = MaskSpec({"fc1": (300, 100), "fc2": (7, 11), "fc3": (5, 300)})
    patterns = random_patterns(20, spec.bits)
    masks = MaskMatrix(spec, [Mask.from_flat(row.numpy() > 0, spec) for row in patterns])
    for rule in (Hebbian(), Storkey(), PseudoInverse()):
        memory = DualMemory(masks, rule)
        assert torch.equal(memory.recall(patterns), patterns)
        cues = pt.flip(patterns, 0.2, torch.Generator().manual_seed(1))
        assert torch.equal(memory.recall(cues), patterns)


def test_correlated_and_repeated_patterns_do_no_harm_to_the_projection() -> None:
    patterns = random_patterns(4, 100)
    patterns[3] = patterns[0]
    memory = DualMemory.of_patterns(patterns, PseudoInverse())
    assert torch.equal(memory.recall(patterns), patterns)


def test_patterns_that_differ_in_one_bit_are_told_apart() -> None:
    patterns = random_patterns(60, 20_000, mean=-0.8)
    patterns[1] = patterns[0]
    patterns[1, 5] *= -1
    memory = DualMemory.of_patterns(patterns, PseudoInverse())
    x = patterns.double()
    kernel = torch.linalg.inv(x @ x.T)  # 1e-7 of the largest eigenvalue is what tells the two apart
    assert torch.allclose(memory._kernel, kernel, rtol=1e-3, atol=1e-6)


def test_a_store_that_is_broken_off_leaves_the_memory_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = random_patterns(6, 80)
    memory = DualMemory.of_patterns(patterns[:4], PseudoInverse())
    before = memory.field(patterns)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dual, "_diagonal_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        memory.store(patterns[4:])
    with pytest.raises(KeyboardInterrupt):
        memory.forget("pattern-0")
    monkeypatch.undo()
    assert len(memory) == len(memory.masks) == 4
    assert torch.equal(memory.field(patterns), before)
    memory.store(patterns[4:])
    assert torch.equal(memory.recall(patterns), patterns)


def test_sizes_are_as_computed_and_nothing_is_saved() -> None:
    patterns = random_patterns(10, 6400)
    memory = DualMemory.of_patterns(patterns)
    assert memory.nbytes == 10 * 6400 // 8 + 4 * 6400 + 2 * 8 * 100
    assert memory.nbytes > memory.masks.nbytes


def test_bad_input_is_named() -> None:
    patterns = random_patterns(3, 50)
    for rule in (Perceptron(), Storkey("local-field")):
        with pytest.raises(RuleError, match="expected Hebbian, PseudoInverse or Storkey"):
            DualMemory.of_patterns(patterns, rule)
    with pytest.raises(PatternError):
        DualMemory.of_patterns(patterns, centre=1.5)
    memory = DualMemory.of_patterns(patterns)
    with pytest.raises(DimensionError):
        memory.store(torch.ones(1, 49))
    with pytest.raises(ForgetError, match="stored names"):
        memory.forget("nobody")
    with pytest.warns(CapacityWarning):
        memory.store(random_patterns(30, 50, 1))
    memory.masks.append("from outside", memory.masks[0])
    with pytest.raises(StoreError, match="add patterns through store"):
        memory.field(patterns)
