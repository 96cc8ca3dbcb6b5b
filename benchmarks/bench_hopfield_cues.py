"""All rules on equal cues: `pytest benchmarks/ -k hopfield_cues -s`. Seconds; no data needed.

100 neurons, 29 random patterns, cues with 15 % of the bits flipped, ten seeds.
"""

import pytest
import torch

from hopfield import (
    DenseAssociativeMemory,
    Hebbian,
    HopfieldNetwork,
    Memory,
    Perceptron,
    ProbabilityFlow,
    PseudoInverse,
    Rule,
    Storkey,
)
from hopfield import patterns as pt

RULES: tuple[Rule | None, ...] = (
    *(Hebbian(), Storkey(), Storkey("local-field"), PseudoInverse()),
    *(Perceptron(), Perceptron(margin=1.0), Perceptron(symmetric=False), ProbabilityFlow(), None),
)


def memory_of(stored: torch.Tensor, rule: Rule | None) -> Memory:
    if rule is None:
        return DenseAssociativeMemory.of_patterns(stored)
    network = HopfieldNetwork(stored.shape[1], rule, centre=None)
    network.store(stored)
    return network


@pytest.mark.filterwarnings("ignore::hopfield.errors.CapacityWarning")
def test_hopfield_cues_with_15_percent_flipped() -> None:
    found = {}
    for rule in RULES:
        exact = []
        for seed in range(10):
            generator = torch.Generator().manual_seed(seed)
            stored = pt.random_patterns(29, 100, generator)
            cues = pt.flip(stored, 0.15, generator)
            exact.append(float((memory_of(stored, rule).recall(cues) == stored).all(1).float().mean()))
        found[repr(rule or "DenseAssociativeMemory")] = sum(exact) / len(exact)
        print(f"\n| {rule or 'DenseAssociativeMemory'}: exact | - | {sum(exact) / len(exact):.3f} |", end="")
    assert max(found.values()) >= 0.99
