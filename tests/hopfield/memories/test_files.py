"""Saved memories come back bit for bit; anything else is refused by name and harms nothing."""

import io
import json
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
    CodedMemory,
    DenseAssociativeMemory,
    DualMemory,
    Hebbian,
    HopfieldNetwork,
    Memory,
    Perceptron,
    PseudoInverse,
    QuantizedNetwork,
    Rule,
    Storkey,
    load_memory,
)
from hopfield import patterns as pt
from hopfield.errors import CapacityWarning, HopfieldError, LearningWarning, MemoryFileError, MemoryWriteError
from tests.helpers.profiles import FAST

DATA = Path(__file__).parents[1] / "data"
FILES = settings(FAST, suppress_health_check=[HealthCheck.function_scoped_fixture])


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
            CodedMemory.of_patterns(torch.where(torch.arange(dim) == 0, 1.0, patterns)),
            QuantizedNetwork.of(memories[0], "int8"),  # type: ignore[arg-type]
            QuantizedNetwork.of(memories[0], "ternary"),  # type: ignore[arg-type]
        ]
    return memories


@FILES
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


@pytest.mark.parametrize(
    ("name", "kind", "spots", "norm"),
    [
        ("hebbian", HopfieldNetwork, [0.1381, 0.3240, 0.3030], 2.5375),
        ("asymmetric", HopfieldNetwork, [-0.1163, 0.0357, -0.0037], 0.8232),
        ("int8", QuantizedNetwork, [0.1388, 0.3239, 0.3027], 2.5389),
        ("ternary", QuantizedNetwork, [-0.0703, 0.0055, -0.0304], 0.4750),
        ("one-bit", QuantizedNetwork, [-0.0801, 0.0399, 0.0165], 0.5365),
        ("dual", DualMemory, [0.1428, 0.2281, 0.2033], 2.0995),
        ("modern", DenseAssociativeMemory, [-0.0063, 0.0144, 0.0063], 0.0988),
        ("blocks", BlockMemory, [0.1307, 0.3020, 0.2926], 3.6118),
    ],
)
def test_files_of_version_1_are_read_as_they_were_written(
    name: str, kind: type[Memory], spots: list[float], norm: float
) -> None:
    memory = load_memory(DATA / f"{name}.npz")
    assert (type(memory), len(memory)) == (kind, 3)
    field = memory.field(torch.linspace(-1, 1, memory.dim))
    assert field[[0, 33, 69]].tolist() == pytest.approx(spots, abs=1e-4)
    assert float(field.norm()) == pytest.approx(norm, abs=1e-3)


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


@settings(FILES, max_examples=60)
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
        ({"arrays": ["couplings"]}, "damaged or foreign"),
        ({"arrays": {"couplings.npy": ["float32", [78]]}}, "expected an array"),
        ({"threshold": float("nan")}, "finite numbers"),
        ({"threshold": None}, "fields of a saved memory"),
        ({"count": -1}, "at least 0"),
        ({"count": 1.5}, "at least 0"),
        ({"dim": 12.0}, "at least 0"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "m.npz"
    HopfieldNetwork(12).save(path)
    _rewrite_header(path, change)
    with pytest.raises(MemoryFileError, match=message):
        load_memory(path)


def test_every_damaged_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    network = HopfieldNetwork(12)
    network.store(torch.tensor([True, False] * 6))
    network.save(path)
    content = path.read_bytes()
    harmless = 0
    for position in range(len(content)):
        # each byte in one way, all bits of a byte in turn: among them are encryption flags and compression methods
        path.write_bytes(content[:position] + bytes([content[position] ^ 1 << position % 8]) + content[position + 1 :])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                again = load_memory(path)
        except MemoryFileError:
            continue
        assert torch.equal(again.couplings(), network.couplings())
        harmless += 1
    assert harmless < len(content) / 2  # dates, permissions and padding


def test_a_small_file_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    HopfieldNetwork(12).save(path)
    _rewrite_header(path, {}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(MemoryFileError, match="compressed"):
        load_memory(path)
    _rewrite_header(path, {"arrays": {"couplings": ["float32", [1 << 50]]}}, claimed=(1 << 50,))
    with pytest.raises(MemoryFileError, match="damaged"):
        load_memory(path)


def test_a_file_that_cannot_be_written_is_a_named_error(tmp_path: Path) -> None:
    network = HopfieldNetwork(12)
    with pytest.raises(MemoryWriteError, match="No such file"):
        network.save(tmp_path / "nowhere" / "m.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MemoryWriteError, match="expected a file to replace, found something else"):
        network.save(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


def test_a_saved_memory_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    HopfieldNetwork(12).save(tmp_path / "m.npz")
    assert (tmp_path / "m.npz").stat().st_mode == (tmp_path / "plain").stat().st_mode


def _rewrite_header(
    path: Path,
    change: dict[str, object],
    *,
    compression: int = zipfile.ZIP_STORED,
    claimed: tuple[int, ...] | None = None,
) -> None:
    """Write a saved memory anew with other header fields; `claimed` is what its array says its shape is."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays["header"].tobytes()) | change
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            if claimed and name != "header":
                described = {"descr": array.dtype.str, "fortran_order": False, "shape": claimed}
                np.lib.format.write_array_header_1_0(buffer, described)
                buffer.write(array.tobytes())
            else:
                np.save(buffer, array)
            archive.writestr(f"{name}.npy", buffer.getvalue())
