"""Quantised couplings: fields on packed bits are those of the matrix they stand for; bytes as computed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hopfield import DualMemory, Hebbian, HopfieldNetwork, Perceptron, PseudoInverse, QuantizedNetwork
from hopfield import patterns as pt
from hopfield.errors import NoEnergyError, RuleError, StoreError
from hopfield.memories import quantized_bytes
from hopfield.memories.coarse import CoarseCouplings, Precision
from tests.helpers.patterns import random_patterns
from tests.helpers.profiles import FAST

precisions = st.sampled_from(["int8", "ternary", "one-bit"])
seeds = st.integers(0, 2**31)


@FAST
@given(precisions, st.integers(60, 200), st.sampled_from([None, 0.4]), seeds)
def test_fields_are_those_of_the_coarse_matrix(precision: Precision, dim: int, centre: float | None, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    network = HopfieldNetwork(dim, Hebbian(), centre=centre)
    network.store(pt.random_patterns(4, dim, generator, mean=centre or 0.0))
    coarse = QuantizedNetwork.of(network, precision)
    matrix = coarse.couplings()
    assert torch.equal(matrix, matrix.T)
    push = network.threshold * (centre or 0.0)
    for state in (pt.random_patterns(3, dim, generator), torch.rand((3, dim), generator=generator) * 2 - 1):
        shifted = state - (centre or 0.0)
        expected = shifted @ matrix + push
        assert torch.allclose(coarse.field(state), expected, atol=1e-4)
        assert torch.allclose(coarse.field_at(state, seed % dim), expected[:, seed % dim], atol=1e-4)
        energy = -0.5 * (shifted @ matrix * shifted).sum(1) - push * state.sum(1)
        assert torch.allclose(coarse.energy(state), energy, atol=1e-2)


@FAST
@given(precisions, st.integers(1, 300))
def test_bytes_are_as_computed(precision: Precision, dim: int) -> None:
    words = (dim + 63) // 64
    by_hand = {"int8": dim * dim, "ternary": 16 * dim * words, "one-bit": 8 * dim * words}[precision]
    coarse = QuantizedNetwork.of(HopfieldNetwork(dim), precision)
    assert coarse.nbytes == quantized_bytes(dim, precision) == by_hand


def test_padding_that_is_not_zero_is_refused() -> None:
    plane = np.zeros((10, 1), dtype=np.uint64)
    plane[3, 0] = 1 << 12
    with pytest.raises(ValueError, match="padding"):
        CoarseCouplings("one-bit", (plane,), 1.0, 10, symmetric=True)


@pytest.mark.parametrize("precision", ["int8", "ternary", "one-bit"])
def test_few_patterns_survive_any_precision(precision: Precision) -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = pt.random_patterns(8, 300, generator)
    network = HopfieldNetwork(300)
    network.store(patterns)
    coarse = QuantizedNetwork.of(network, precision)
    assert torch.equal(coarse.recall(pt.flip(patterns, 0.1, generator)), patterns)
    assert len(coarse) == 8


def test_int8_loses_nothing_at_half_the_limit() -> None:
    patterns = random_patterns(100, 200)
    network = HopfieldNetwork(200, PseudoInverse())
    network.store(patterns)
    assert torch.equal(QuantizedNetwork.of(network, "int8").recall(patterns), patterns)


def test_what_it_cannot_do_is_named() -> None:
    network = HopfieldNetwork(50)
    with pytest.raises(RuleError, match="precision"):
        QuantizedNetwork.of(network, "float8")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="quantise it again"):
        QuantizedNetwork.of(network, "int8").store(torch.ones(50))
    with pytest.raises(RuleError, match="expected a HopfieldNetwork"):
        QuantizedNetwork.of(DualMemory.of_patterns(torch.ones(50)), "int8")  # type: ignore[arg-type]
    lopsided = HopfieldNetwork(50, Perceptron(symmetric=False))
    lopsided.store(random_patterns(2, 50))
    with pytest.raises(NoEnergyError):
        lopsided.energy(torch.ones(50))
    with pytest.raises(NoEnergyError):
        QuantizedNetwork.of(lopsided, "int8").energy(torch.ones(50))


@pytest.mark.parametrize("precision", ["ternary", "one-bit"])
def test_real_states_of_double_precision_are_taken_too(precision: Precision) -> None:
    matrix = np.random.default_rng(0).standard_normal((70, 70)).astype(np.float32)
    couplings = CoarseCouplings.of(matrix, precision, symmetric=False)
    state = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 70)))
    expected = state @ couplings.dense().double().T
    torch.testing.assert_close(couplings.apply(state).double(), expected, rtol=1e-4, atol=1e-4)
