"""Honest sizes: `pytest benchmarks/ -k hopfield_size -s`. Seconds; no data needed.

Every memory beside the packed masks it holds, and from how many masks on it would be smaller than them.
"""

import warnings

import pytest
import torch

from hopfield import DenseAssociativeMemory, DualMemory, HopfieldNetwork, Memory, PseudoInverse, QuantizedNetwork
from hopfield import patterns as pt
from hopfield.capacity import break_even_patterns
from hopfield.errors import CapacityWarning


@pytest.mark.parametrize(("dim", "count"), [(512, 100), (2048, 250)])
def test_hopfield_size_beside_the_packed_masks(dim: int, count: int) -> None:
    patterns = pt.random_patterns(count, dim, torch.Generator().manual_seed(0))
    whole = HopfieldNetwork(dim, PseudoInverse())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CapacityWarning)
        whole.store(patterns)
    dual = DualMemory.of_patterns(patterns, PseudoInverse())
    fixed: dict[str, Memory] = {
        "float32, half stored": whole,
        "int8": QuantizedNetwork.of(whole, "int8"),
        "ternary": QuantizedNetwork.of(whole, "ternary"),
        "one bit": QuantizedNetwork.of(whole, "one-bit"),
    }
    packed = dual.masks.nbytes
    print(f"\n| memory, d = {dim}, k = {count} | bytes | times the packed masks ({packed}) | smaller from k = |")
    for name, memory in fixed.items():
        line = break_even_patterns(memory.nbytes, dim)
        print(f"| {name} | {memory.nbytes} | {memory.nbytes / packed:.1f} | {line:.0f} ({line / dim:.1f} d) |")
    for name, memory in {"dual form": dual, "dense associative": DenseAssociativeMemory(dual.masks)}.items():
        print(f"| {name} | {memory.nbytes} | {memory.nbytes / packed:.2f} | never: it stores the masks |")
        assert memory.nbytes >= packed
    assert break_even_patterns(fixed["float32, half stored"].nbytes, dim) > whole.limit  # saves nothing within capacity
