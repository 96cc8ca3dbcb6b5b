"""The arithmetic for devices, run on the CPU: packed memories and packed couplings give the same numbers either way."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hopfield import (
    DenseAssociativeMemory,
    DualMemory,
    Hebbian,
    HopfieldNetwork,
    Memory,
    PseudoInverse,
    QuantizedNetwork,
    Storkey,
)
from hopfield import patterns as pt
from hopfield.memories.coarse import CoarseCouplings, Precision
from maskstore import Mask, MaskMatrix, MaskSpec
from maskstore.torch import Backend, PackedMasks
from tests.helpers.patterns import random_patterns
from tests.helpers.profiles import FAST

seeds = st.integers(0, 2**31)

MAKERS: list[Callable[[torch.Tensor], Memory]] = [
    lambda p: DualMemory.of_patterns(p, Hebbian()),
    lambda p: DualMemory.of_patterns(p, Storkey(), centre=0.3),
    lambda p: DualMemory.of_patterns(p, PseudoInverse(), centre=-0.2),
    lambda p: DenseAssociativeMemory.of_patterns(p),
    lambda p: DenseAssociativeMemory.of_patterns(p, "polynomial", degree=3),
]


@FAST
@given(st.lists(st.integers(1, 9000), min_size=1, max_size=3), st.integers(1, 9), seeds)
def test_both_ways_to_the_products_agree(sizes: list[int], count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    spec = MaskSpec({f"layer{i}": (size,) for i, size in enumerate(sizes)})
    patterns = pt.random_patterns(count, spec.bits, generator)
    masks = MaskMatrix(spec, [Mask.from_flat(row.numpy() > 0, spec) for row in patterns])
    states = torch.rand((2, spec.bits), generator=generator) * 2 - 1
    weights = torch.rand((2, count), generator=generator, dtype=torch.float64) * 2 - 1
    memory = DenseAssociativeMemory(masks)
    for backend in (Backend.MATRIX, Backend.TORCH):
        memory._packed = PackedMasks.of(masks, backend=backend)
        assert torch.allclose(memory._dot(states), (states @ patterns.T).double(), atol=1e-2)
        assert torch.allclose(memory._weighted(weights), weights @ patterns.double(), atol=1e-4)
        neuron = seed % spec.bits
        assert torch.equal(memory._column(neuron), patterns[:, neuron].double())


@pytest.mark.parametrize("make", MAKERS)
def test_memories_compute_alike_on_a_device(
    make: Callable[[torch.Tensor], Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    patterns = random_patterns(12, 5000, mean=0.2)
    here = make(patterns[:8])
    monkeypatch.setattr(PackedMasks, "of", partial(PackedMasks.of, backend=Backend.TORCH))
    there = make(patterns[:8])
    for memory in (here, there):
        memory.store(patterns[8:])
    state = torch.rand((3, 5000), generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert torch.allclose(there.field(state), here.field(state), atol=1e-4)
    assert torch.allclose(there.energy(state), here.energy(state), rtol=1e-4)
    assert torch.allclose(there.field_at(state, 4321), here.field(state)[:, 4321], atol=1e-4)
    assert torch.equal(there.recall(pt.flip(patterns, 0.1, torch.Generator().manual_seed(2))), patterns)
    assert there.nbytes == here.nbytes + 12 * 8 * ((5000 + 63) // 64)  # the copy counts
    there.forget("pattern-3")  # type: ignore[attr-defined]
    here.forget("pattern-3")  # type: ignore[attr-defined]
    assert torch.allclose(there.field(state), here.field(state), atol=1e-4)


@FAST
@given(st.sampled_from(["int8", "ternary", "one-bit"]), st.integers(1, 300), seeds)
def test_packed_products_are_those_of_the_unpacked_rows(precision: Precision, dim: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    network = HopfieldNetwork(dim)
    network._couplings = network._wrap(torch.randn((dim, dim), generator=generator))
    coarse = CoarseCouplings.of(network.couplings().numpy(), precision, symmetric=True)
    matrix = coarse.dense()
    for states in (pt.random_patterns(3, dim, generator), torch.randn((3, dim), generator=generator)):
        assert torch.allclose(coarse.apply(states), states @ matrix.T, rtol=1e-4, atol=1e-3)
    assert torch.equal(torch.stack([coarse.row(i) for i in range(dim)]), matrix)
    assert torch.equal(coarse.diagonal(), matrix.diagonal())


@pytest.mark.gpu
@pytest.mark.parametrize("make", MAKERS)
def test_packed_memories_agree_across_devices(make: Callable[[torch.Tensor], Memory]) -> None:
    patterns = random_patterns(12, 5000, mean=0.2)
    here, there = make(patterns), make(patterns).to("cuda")
    state = torch.rand((3, 5000), generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert there.device.type == there.field(state).device.type == "cuda"
    assert torch.allclose(there.field(state).cpu(), here.field(state), atol=1e-3)
    assert torch.allclose(there.energy(state).cpu(), here.energy(state), rtol=1e-3)
    assert torch.allclose(there.field_at(state.cuda(), 77).cpu(), here.field(state)[:, 77], atol=1e-3)
    assert torch.equal(there.recall(patterns).cpu(), patterns)
    there.store(random_patterns(1, 5000, 3))
    assert len(there) == 13


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["int8", "ternary", "one-bit"])
def test_quantised_memories_agree_across_devices(precision: Precision) -> None:
    patterns = random_patterns(8, 300, mean=0.3)
    network = HopfieldNetwork(300)
    network.store(patterns)
    here, there = QuantizedNetwork.of(network, precision), QuantizedNetwork.of(network.to("cuda"), precision)
    assert there.device.type == "cuda"
    for state in (patterns, torch.rand((3, 300), generator=torch.Generator().manual_seed(1))):
        assert torch.allclose(there.field(state).cpu(), here.field(state), atol=1e-3)
    assert torch.equal(there.recall(patterns).cpu(), patterns)
    assert there.nbytes == here.nbytes
