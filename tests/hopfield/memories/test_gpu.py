"""The dense memory on a CUDA device gives what it gives on the CPU."""

import pytest
import torch

from hopfield import HopfieldNetwork, MeanFieldRecipe, Perceptron, PseudoInverse, Rule, Storkey, recover
from tests.helpers.patterns import random_patterns


@pytest.mark.gpu
@pytest.mark.parametrize("rule", [Storkey(), PseudoInverse(), Perceptron()])
def test_dense_memories_agree_across_devices(rule: Rule) -> None:
    patterns = random_patterns(20, 300, mean=0.3)
    here, there = HopfieldNetwork(300, rule), HopfieldNetwork(300, rule, device="cuda")
    here.store(patterns)
    there.store(patterns)
    state = torch.rand((4, 300), generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert torch.allclose(there.field(state).cpu(), here.field(state), atol=1e-3)
    assert torch.equal(there.recall(patterns).cpu(), patterns)
    assert torch.equal(there.recall(patterns, update="asynchronous").cpu(), patterns)
    assert torch.allclose(HopfieldNetwork.to(here, "cuda").field(state).cpu(), there.field(state).cpu(), atol=1e-3)


@pytest.mark.gpu
def test_recovery_runs_on_the_memorys_device() -> None:
    patterns = random_patterns(10, 300)
    network = HopfieldNetwork(300, PseudoInverse(), device="cuda")
    network.store(patterns)
    wanted = (patterns[3, :90].cuda() + 1) / 2
    found = recover(network, lambda mask: ((mask[:90] - wanted) ** 2).mean(), MeanFieldRecipe())
    assert torch.equal(found.pattern.cpu(), patterns[3])
