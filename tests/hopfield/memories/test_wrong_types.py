"""Arguments of another type than the one that was meant: each is one line that says so."""

import pytest
import torch

from hopfield import DenseAssociativeMemory, DualMemory, HopfieldNetwork
from hopfield.errors import DimensionError, PatternError


@pytest.mark.parametrize("memory", [DenseAssociativeMemory, DualMemory])
@pytest.mark.parametrize("wrong", [512, None, "x", torch.ones(2, 4)])
def test_a_packed_memory_is_made_of_a_matrix(memory, wrong):
    with pytest.raises(PatternError, match=r"expected a MaskMatrix, found .*of_patterns takes patterns"):
        memory(wrong)


@pytest.mark.parametrize("dim", [10**9, 1 << 62, 1 << 70])
def test_couplings_that_no_memory_holds_are_refused(dim):
    with pytest.raises(DimensionError, match="expected memory for"):
        HopfieldNetwork(dim)


def test_a_bool_is_no_number_of_neurons():
    with pytest.raises(DimensionError, match="found True"):
        HopfieldNetwork(True)


@pytest.mark.parametrize("call", ["store", "recall", "field", "energy"])
def test_tensors_without_values_are_refused(call):
    network = HopfieldNetwork(4)
    network.store(torch.ones(1, 4))
    with pytest.raises(PatternError, match="device meta"):
        getattr(network, call)(torch.ones(4, device="meta"))
