"""Memories compute in float32 whatever torch's default type is: the same bits, and no error."""

from collections.abc import Callable, Iterator
from typing import get_args

import pytest
import torch

import hopfield
from hopfield import patterns as pt
from hopfield.capacity import scan_basins, scan_capacity
from hopfield.memories.coarse import Precision

DIM = 64


@pytest.fixture
def wide() -> Iterator[Callable[[], None]]:
    """Sets the default type to float64, and back at the end."""
    yield lambda: torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(torch.float32)


def _network(rule: hopfield.Rule | None = None) -> Callable[[torch.Tensor], hopfield.Memory]:
    def make(patterns: torch.Tensor) -> hopfield.Memory:
        memory = hopfield.HopfieldNetwork(DIM, rule)
        memory.store(patterns)
        return memory

    return make


def _blocks(patterns: torch.Tensor) -> hopfield.Memory:
    memory = hopfield.BlockMemory(
        [hopfield.HopfieldNetwork(32, hopfield.PseudoInverse()), hopfield.HopfieldNetwork(32, hopfield.PseudoInverse())]
    )
    memory.store(patterns)
    return memory


def _quantised(precision: Precision) -> Callable[[torch.Tensor], hopfield.Memory]:
    def make(patterns: torch.Tensor) -> hopfield.Memory:
        network = hopfield.HopfieldNetwork(DIM)
        network.store(patterns)
        return hopfield.QuantizedNetwork.of(network, precision)

    return make


MAKERS = {
    "dense": hopfield.DenseAssociativeMemory.of_patterns,
    "dense polynomial": lambda patterns: hopfield.DenseAssociativeMemory.of_patterns(patterns, "polynomial"),
    "coded": hopfield.CodedMemory.of_patterns,
    "dual": hopfield.DualMemory.of_patterns,
    "dual centred": lambda patterns: hopfield.DualMemory.of_patterns(patterns, hopfield.PseudoInverse(), centre=0.1),
    "blocks": _blocks,
    **{type(rule).__name__: _network(rule) for rule in (hopfield.Hebbian(), hopfield.Storkey(), hopfield.Perceptron())},
    **{precision: _quantised(precision) for precision in get_args(Precision)},
}


def _answers(make: Callable[[torch.Tensor], hopfield.Memory]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    patterns = pt.random_patterns(4, DIM, generator)
    cues = pt.flip(patterns, 0.1, generator)
    memory = make(patterns)
    found = [patterns, cues, memory.field(cues), memory.field_at(cues, 3)]
    if not isinstance(memory, hopfield.QuantizedNetwork):
        found.append(memory.energy(cues))
    for update in ("synchronous", "asynchronous"):
        found.append(memory.recall(cues, update=update))
    found.append(memory.recall(cues.double(), update="synchronous"))  # a state of the caller's type
    target = (patterns[0] + 1) / 2
    for recipe in (hopfield.MeanFieldRecipe(), hopfield.SearchRecipe()):
        try:
            found.append(hopfield.recover(memory, lambda mask: ((mask - target) ** 2).mean(), recipe).pattern)
        except hopfield.errors.HopfieldError as error:  # a recipe that this memory does not suit
            found.append(torch.tensor(list(str(error).encode())))
    return found


@pytest.mark.parametrize("kind", MAKERS)
def test_a_default_of_float64_changes_no_bit(kind: str, wide: Callable[[], None]) -> None:
    expected = _answers(MAKERS[kind])
    wide()
    found = _answers(MAKERS[kind])
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_scans_under_a_default_of_float64(wide: Callable[[], None]) -> None:
    def scans() -> list[object]:
        make = MAKERS["dense"]
        return [*scan_capacity(make, DIM, (3,), seeds=1), *scan_basins(make, DIM, 3, (0.1,), seeds=1)]

    expected = scans()
    wide()
    assert scans() == expected


def test_a_memory_comes_back_from_its_file_under_float64(tmp_path, wide: Callable[[], None]) -> None:
    patterns = pt.random_patterns(4, DIM, torch.Generator().manual_seed(0))
    hopfield.DualMemory.of_patterns(patterns).save(tmp_path / "m.npz")
    wide()
    assert torch.equal(hopfield.load_memory(tmp_path / "m.npz").recall(patterns), patterns)
