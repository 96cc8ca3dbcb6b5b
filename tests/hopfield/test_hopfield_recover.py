"""Recovery: the paper's recipe on a model small enough to reason about, and what recovery is allowed to see."""

import pytest
import torch
from torch import Tensor

from hopfield import HopfieldNetwork, PaperRecipe, Storkey, recover
from hopfield import patterns as pt
from hopfield.errors import PatternError, RuleError


class EnergyAndFieldOnly:
    """A memory of which nothing but `energy` and `field` can be used."""

    def __init__(self, network: HopfieldNetwork) -> None:
        self.energy, self.field, self.dim, self.device = network.energy, network.field, network.dim, network.device


def _memory(count: int, dim: int) -> tuple[HopfieldNetwork, Tensor]:
    patterns = pt.random_patterns(count, dim, torch.Generator().manual_seed(0))
    network = HopfieldNetwork(dim, Storkey(), centre=None)
    network.store(patterns)
    return network, patterns


def _hint(target: Tensor, known: int, scale: float) -> object:
    """An entropy that knows the first `known` bits of the target and nothing of the rest."""
    wanted = (target[:known] + 1) / 2
    return lambda mask: scale * ((mask[:known] - wanted) ** 2).mean()


def test_the_papers_recipe_completes_a_pattern_from_a_hint() -> None:
    network, patterns = _memory(5, 200)
    for target in patterns:
        found = recover(
            EnergyAndFieldOnly(network),
            _hint(target, 60, 1.0),  # type: ignore[arg-type]
            PaperRecipe(steps=30),
            initial=patterns.mean(0),
        )
        assert torch.equal(found.pattern, target)
        assert found.converged
        assert found.steps == len(found.trace.entropy) == len(found.trace.states) == 30


def test_without_a_memory_term_the_unknown_bits_stay_wrong() -> None:
    network, patterns = _memory(5, 200)
    found = recover(network, _hint(patterns[0], 60, 1.0), PaperRecipe(gamma=0.0), initial=patterns.mean(0))  # type: ignore[arg-type]
    assert torch.equal(found.pattern[:60], patterns[0, :60])
    assert not torch.equal(found.pattern, patterns[0])


def test_bad_input_is_named() -> None:
    network, _ = _memory(2, 50)
    with pytest.raises(PatternError, match="finite"):
        recover(network, lambda mask: mask.sum() * float("nan"), PaperRecipe())
    with pytest.raises(PatternError, match="shape"):
        recover(network, lambda mask: mask.sum(), PaperRecipe(), initial=torch.zeros(2, 50))
    with pytest.raises(RuleError):
        PaperRecipe(steps=0)
