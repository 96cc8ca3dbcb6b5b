"""Saved memories come back bit for bit; anything else is refused by name and harms nothing."""

import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hopfield import (
    BlockMemory,
    CapacityWarning,
    DenseAssociativeMemory,
    DualMemory,
    Hebbian,
    HopfieldNetwork,
    LearningWarning,
    Memory,
    Perceptron,
    PseudoInverse,
    QuantizedNetwork,
    Rule,
    Storkey,
    load_memory,
)
from hopfield import patterns as pt
from hopfield.errors import HopfieldError, MemoryFileError

FAST = settings(
    deadline=None, max_examples=15, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _memories(count: int, dim: int, seed: int) -> list[Memory]:
    generator = torch.Generator().manual_seed(seed)
    rules: list[Rule] = [Hebbian(), Storkey("local-field"), PseudoInverse(), Perceptron(symmetric=False, max_steps=50)]
    memories: list[Memory] = [HopfieldNetwork(dim, rule) for rule in rules]
    memories.append(BlockMemory([HopfieldNetwork(dim, Hebbian()), HopfieldNetwork(dim + 1, Storkey())]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CapacityWarning)
        warnings.simplefilter("ignore", LearningWarning)
        for memory in memories:
            memory.store(pt.random_patterns(count, memory.dim, generator, mean=0.5))
        patterns = pt.random_patterns(count, dim, generator, mean=0.5)
        memories += [
            DualMemory.of_patterns(patterns, PseudoInverse(), centre=0.4),
            DenseAssociativeMemory.of_patterns(patterns),
            QuantizedNetwork.of(memories[0], "int8"),  # type: ignore[arg-type]
            QuantizedNetwork.of(memories[0], "ternary"),  # type: ignore[arg-type]
        ]
    return memories


@FAST
@given(st.integers(1, 8), st.integers(1, 300), st.integers(0, 2**31))
def test_load_gives_what_was_saved(tmp_path: Path, count: int, dim: int, seed: int) -> None:
    for memory in _memories(count, dim, seed):
        path = tmp_path / "memory.npz"
        memory.save(path)
        for again in (type(memory).load(path), load_memory(path)):
            assert type(again) is type(memory)
            assert (len(again), again.dim, again.nbytes) == (count, memory.dim, memory.nbytes)
            state = torch.randn(2, memory.dim, generator=torch.Generator().manual_seed(seed))
            assert torch.equal(again.field(state), memory.field(state))


def test_a_symmetric_matrix_takes_half_on_disk(tmp_path: Path) -> None:
    HopfieldNetwork(500).save(tmp_path / "m.npz")
    assert (tmp_path / "m.npz").stat().st_size < 500 * 501 * 2 + 2000


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.npz"
    network = HopfieldNetwork(20)
    network.store(torch.ones(20, dtype=torch.bool))
    network.save(path)
    old = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        HopfieldNetwork(20).save(path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_another_kind_is_refused(tmp_path: Path) -> None:
    HopfieldNetwork(20).save(tmp_path / "m.npz")
    with pytest.raises(MemoryFileError, match="expected a BlockMemory, found a HopfieldNetwork"):
        BlockMemory.load(tmp_path / "m.npz")


def test_files_that_are_no_memory_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(MemoryFileError, match="no file"):
        load_memory(path)
    for content in (b"", b"PK\3\4 broken", pickle.dumps({"format": "hopfield-memory"})):
        path.write_bytes(content)
        with pytest.raises(MemoryFileError):
            load_memory(path)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(MemoryFileError):
        load_memory(path)


@settings(FAST, max_examples=60)
@given(st.data())
def test_damaged_files_never_give_anything_but_a_named_error_or_the_same_memory(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "m.npz"
    network = HopfieldNetwork(12)
    network.store(torch.tensor([True, False] * 6))
    network.save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile remarks on some of the damage before refusing it
            again = load_memory(path)
    except HopfieldError:
        return
    assert torch.equal(again.couplings(), network.couplings())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "format version 1"),
        ({"kind": "Zebra"}, "kind of memory"),
        ({"dim": 13}, "couplings"),
        ({"rule": {"id": "magic"}}, "expected one of"),
        ({"rule": {"id": "hebbian", "speed": 3}}, "its own fields"),
        ({"arrays": {"couplings": ["object", [78]]}}, "dtype"),
        ({"arrays": {"couplings": ["float32", [3]]}}, "more bytes|expected float32"),
        ({"arrays": {}}, "couplings"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "m.npz"
    HopfieldNetwork(12).save(path)
    _rewrite_header(path, change)
    with pytest.raises(MemoryFileError, match=message):
        load_memory(path)


def _rewrite_header(path: Path, change: dict[str, object]) -> None:
    import json

    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays["header"].tobytes()) | change
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(f"{name}.npy", buffer.getvalue())
