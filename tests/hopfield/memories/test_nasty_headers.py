"""Saved memories whose header says what no writer says: refused by name, or a memory that can be used."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hopfield import (
    CoarseCovariance,
    CodedMemory,
    Covariance,
    DenseAssociativeMemory,
    DualMemory,
    HopfieldNetwork,
    Memory,
    PseudoInverse,
    QuantizedNetwork,
    Willshaw,
    load_memory,
)
from hopfield import patterns as pt
from hopfield.errors import HopfieldError, MemoryFileError

NASTY = (None, 0, -1, 1, 1.5, 2**70, 1e308, True, "", "x", [], {}, [[]], {"a": 1}, "9" * 5000, 10**400)
NO_JSON = (b"", b"[", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1e999", b"9" * 5000, b"null")


def _memories() -> dict[str, Memory]:
    patterns = pt.random_patterns(3, 20, torch.Generator().manual_seed(0), mean=0.5)
    network = HopfieldNetwork(20, PseudoInverse())
    network.store(patterns)
    return {
        "network": network,
        "quantized": QuantizedNetwork.of(network, "int8"),
        "dual": DualMemory.of_patterns(patterns),
        "dense": DenseAssociativeMemory.of_patterns(patterns),
        **_sparse_memories(),
    }


def _sparse_memories() -> dict[str, Memory]:
    patterns = pt.sparse_patterns(3, 130, 5, torch.Generator().manual_seed(0))
    willshaw, covariance = Willshaw(130, 5), Covariance(130, 5)
    for memory in (willshaw, covariance):
        memory.store(patterns)
    return {
        "willshaw": willshaw,
        "covariance": covariance,
        "int8": CoarseCovariance.of(covariance, "int8"),
        "one-bit": CoarseCovariance.of(covariance, "one-bit"),
        "coded": CodedMemory.of_patterns(patterns),
    }


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield from _places(value[key], (*at, key))


def _changed(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = _changed(copy[at[0]], at[1:], new)
    return copy


@pytest.mark.parametrize("kind", ["network", "quantized", "dual", "dense", "willshaw", "covariance", "int8", "one-bit"])
def test_every_field_of_every_type(tmp_path: Path, kind: str) -> None:
    path, forged = tmp_path / "memory.npz", tmp_path / "forged.npz"
    _memories()[kind].save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays.pop("header").tobytes())
    texts = [json.dumps(_changed(header, at, value)).encode() for at in _places(header) for value in NASTY]
    refused = 0
    for text in (*NO_JSON, *texts):
        np.savez(forged, header=np.frombuffer(text, dtype=np.uint8), **arrays)
        try:
            memory = load_memory(forged)
            assert len(memory) >= 0
            memory.recall(torch.ones(memory.dim))
        except HopfieldError:
            refused += 1
    assert refused > len(texts) // 2


def test_an_error_has_no_words_of_another_library(tmp_path: Path) -> None:
    """Neither a decoder of JSON nor numpy speaks of memories."""
    np.savez(tmp_path / "m.npz", header=np.frombuffer(b"[", dtype=np.uint8))
    with pytest.raises(MemoryFileError, match=r"damaged or foreign file$"):
        load_memory(tmp_path / "m.npz")
