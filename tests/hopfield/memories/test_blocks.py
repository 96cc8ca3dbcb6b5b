"""Memories side by side: all blocks learn, or none."""

import warnings

import pytest
import torch

from hopfield import BlockMemory, DualMemory, HopfieldNetwork, Perceptron, PseudoInverse
from hopfield.errors import CapacityWarning, EmptyMemoryError, LearningWarning, RuleError
from tests.helpers.patterns import random_patterns


def test_blocks_are_memories_of_their_slices() -> None:
    memory = BlockMemory([HopfieldNetwork(100, PseudoInverse()), HopfieldNetwork(60)])
    patterns = random_patterns(3, 160)
    memory.store(patterns)
    first, second = memory.blocks
    state = torch.rand((4, 160), generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert torch.equal(
        memory.field(state), torch.cat([first.field(state[:, :100]), second.field(state[:, 100:])], dim=1)
    )
    assert torch.allclose(memory.energy(state), first.energy(state[:, :100]) + second.energy(state[:, 100:]))
    for neuron in (0, 99, 100, 159):
        assert torch.allclose(memory.field_at(state, neuron), memory.field(state)[:, neuron], atol=1e-5)
    assert torch.equal(memory.recall(patterns, update="asynchronous"), patterns)
    assert memory.nbytes == first.nbytes + second.nbytes


def test_a_block_that_cannot_learn_leaves_all_blocks_as_they_were() -> None:
    small = BlockMemory([HopfieldNetwork(100), HopfieldNetwork(20)])
    learning = BlockMemory([HopfieldNetwork(100, PseudoInverse()), HopfieldNetwork(10, Perceptron(max_steps=5))])
    for memory, warning in ((small, CapacityWarning), (learning, LearningWarning)):
        with warnings.catch_warnings():
            warnings.simplefilter("error", warning)
            with pytest.raises(warning):
                memory.store(random_patterns(14 if memory is learning else 6, memory.dim))
        assert [len(block) for block in memory.blocks] == [0, 0]


def test_one_store_warns_once() -> None:
    with pytest.warns(CapacityWarning) as caught:
        BlockMemory([HopfieldNetwork(20), HopfieldNetwork(20)]).store(random_patterns(6, 40))
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_blocks_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(EmptyMemoryError):
        BlockMemory([])
    with pytest.raises(RuleError, match="equal numbers"):
        BlockMemory([DualMemory.of_patterns(random_patterns(2, 20)), HopfieldNetwork(20)])
