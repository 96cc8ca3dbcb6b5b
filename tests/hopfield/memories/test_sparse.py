"""Memories for patterns with few ones: fields, energies, capacity, files, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hopfield import CoarseCovariance, Covariance, HopfieldNetwork, Memory, Teaching, Willshaw, load_memory, theory
from hopfield import patterns as pt
from hopfield.errors import DimensionError, ForgetError, MemoryFileError, PatternError, RuleError, StoreError
from hopfield.memories.sparse.tile_loops import count_common, count_common_plainly
from hopfield.memories.sparse.tiles import SymmetricBits
from tests.helpers.profiles import FAST

seeds = st.integers(0, 2**31)


def _stored(dim: int, ones: int, count: int, seed: int = 0) -> torch.Tensor:
    return pt.sparse_patterns(count, dim, ones, torch.Generator().manual_seed(seed))


def _memories(dim: int, ones: int, stored: torch.Tensor, **options: object) -> dict[str, Memory]:
    graded = Covariance(dim, ones, **options)  # type: ignore[arg-type]
    willshaw = Willshaw(dim, ones, **options)  # type: ignore[arg-type]
    for memory in (graded, willshaw):
        memory.store(stored)
    coarse = {p: CoarseCovariance.of(graded, p) for p in ("int8", "ternary", "one-bit")}  # type: ignore[arg-type]
    return {"willshaw": willshaw, "graded": graded, **coarse}


@FAST
@given(st.integers(1, 300), st.integers(1, 9), st.floats(0, 1), seeds)
def test_products_with_bits_are_those_of_the_matrix(dim: int, states: int, share: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn((dim, dim), generator=generator)
    matrix = matrix + matrix.T
    bits, expected = SymmetricBits.of(matrix), (matrix > 0).float().fill_diagonal_(0)
    assert torch.equal(bits.dense(), expected)
    assert torch.equal(bits.row(seed % dim), expected[seed % dim])
    active = (torch.rand((states, dim), generator=generator) < share).float()
    assert torch.equal(bits.apply(active), active @ expected)
    soft = torch.rand((states, dim), generator=generator)
    assert torch.allclose(bits.apply(soft), soft @ expected, atol=1e-3)


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_the_loop_over_tiles_equals_its_twin(share: float) -> None:
    rng = np.random.default_rng(0)
    blocks = 33  # five groups of seven: bytes are summed twice
    tiles = rng.integers(0, 2**64, (blocks * (blocks + 1) // 2, 64), dtype=np.uint64)
    words = np.where(rng.random((3, blocks)) < share, np.uint64(2**64 - 1), rng.integers(0, 2**64, dtype=np.uint64))
    fast, plain = np.ones((3, 64 * blocks), dtype=np.int32), np.zeros((3, 64 * blocks), dtype=np.int32)
    count_common(tiles, words, fast, 0, 3)
    count_common_plainly(tiles, words, plain)
    assert np.array_equal(fast, plain)
    full = np.full_like(tiles, 2**64 - 1)
    count_common(full, np.full_like(words, 2**64 - 1), fast, 0, 3)
    assert (fast == 64 * blocks).all()


@pytest.mark.parametrize("kind", ["willshaw", "graded", "int8", "ternary", "one-bit"])
def test_flipping_a_neuron_changes_the_energy_by_its_drive(kind: str) -> None:
    stored = _stored(150, 12, 8)
    memory = _memories(150, 12, stored, threshold="inhibition")[kind]
    state = pt.move_ones(stored[:1], 3, torch.Generator().manual_seed(1))
    for neuron in (0, 70, 149):
        flipped = state.clone()
        flipped[0, neuron] *= -1
        change = memory.energy(flipped) - memory.energy(state)
        drive = memory.field_at(state, neuron)
        assert torch.allclose(change, 2 * state[:, neuron] * drive, atol=1e-3)
        assert torch.allclose(drive, memory.field(state)[:, neuron])


@pytest.mark.parametrize("kind", ["willshaw", "graded", "int8", "ternary", "one-bit"])
@pytest.mark.parametrize("threshold", ["winners", "inhibition"])
def test_few_patterns_are_fixed_points_of_low_energy(kind: str, threshold: str) -> None:
    stored = _stored(400, 20, 12)
    memory = _memories(400, 20, stored, threshold=threshold)[kind]
    assert torch.equal(memory.recall(stored), stored)
    away = pt.move_ones(stored, 4, torch.Generator().manual_seed(1))
    assert bool((memory.energy(stored) < memory.energy(away)).all())
    if threshold == "winners":
        assert torch.equal(memory.recall(away), stored)
        assert torch.equal(memory.recall(away, update="asynchronous"), stored)


def test_willshaw_completes_patterns_that_lack_ones() -> None:
    stored = _stored(500, 10, 200)
    memory = Willshaw(500, 10, threshold="inhibition")
    memory.store(stored[:100])
    memory.store(stored[100:])
    cues = stored.clone()
    first = (stored > 0).float().argmax(1)
    cues[torch.arange(200), first] = -1.0
    assert (memory.recall(cues) == stored).all(1).float().mean() > 0.98
    both = pt.to_soft_mask(stored)
    assert torch.equal(memory.synapses(), (both.T @ both > 0).float().fill_diagonal_(0))


def test_covariance_stores_in_parts_and_forgets() -> None:
    stored = _stored(200, 10, 9)
    whole, parts = Covariance(200, 10), Covariance(200, 10)
    whole.store(stored[:6])
    for part in (stored[:2], stored[2:]):
        parts.store(part)
    parts.forget(stored[6:])
    assert torch.allclose(parts.couplings(), whole.couplings(), atol=1e-6)
    assert len(parts) == 6
    with pytest.raises(ForgetError, match="at most the 6"):
        parts.forget(stored)


def test_learnt_couplings_hold_more_than_rounded_ones_and_fewer_bytes_than_the_patterns() -> None:
    dim, ones, count = 512, 26, 320
    stored = _stored(dim, ones, count)
    cues = pt.move_ones(stored, 3, torch.Generator().manual_seed(1))
    graded = Covariance(dim, ones)
    with pytest.warns(UserWarning, match="beyond it patterns are lost"):
        graded.store(stored)
    rounded = CoarseCovariance.of(graded, "one-bit")
    learnt = CoarseCovariance.learnt(stored, Teaching(rounds=80))
    exact = {m: float((m.recall(cues) == stored).all(1).float().mean()) for m in (rounded, learnt)}
    assert exact[rounded] < 0.5
    assert exact[learnt] > 0.85
    assert learnt.nbytes == dim * dim // 16 + 4 * dim + 4 * dim  # the tiles and the offset
    again = CoarseCovariance.learnt(stored, Teaching(rounds=80))
    assert torch.equal(again.field(cues), learnt.field(cues))
    matrix, active = learnt.couplings(), pt.to_soft_mask(cues)
    drives = active @ matrix - learnt._offset
    expected = drives - drives.topk(ones + 1).values[:, -2:].mean(1, keepdim=True)
    assert torch.allclose(learnt.field(cues), expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["willshaw", "graded", "int8", "ternary", "one-bit"])
def test_files(kind: str, tmp_path: Path) -> None:
    stored = _stored(130, 9, 5)
    memory = _memories(130, 9, stored)[kind]
    memory.save(tmp_path / "memory.npz")
    again = load_memory(tmp_path / "memory.npz")
    assert (type(again), len(again), again.nbytes, again.limit) == (type(memory), 5, memory.nbytes, memory.limit)
    cues = torch.rand((4, 130), generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(again.field(cues), memory.field(cues))
    assert repr(again) == repr(memory)


@pytest.mark.parametrize(
    ("name", "spots", "norm"),
    [
        ("covariance", [-0.0602, -0.0611, -0.0619], 0.7457),
        ("willshaw", [-5.4574, -4.9612, -4.4574], 51.1733),
        ("covariance-int8", [-0.0620, -0.0628, -0.0636], 0.7607),
        ("covariance-ternary", [0.0, 0.0, 0.0], 7.1112),
        ("covariance-learnt", [-2.5714, -2.2833, -2.1114], 24.3424),
    ],
)
def test_files_of_version_1_are_read_as_they_were_written(name: str, spots: list[float], norm: float) -> None:
    memory = load_memory(Path(__file__).parents[1] / "data" / f"{name}.npz")
    field = memory.field(torch.linspace(-1, 1, 130))
    assert field[[0, 64, 129]].tolist() == pytest.approx(spots, abs=2e-4)
    assert float(field.norm()) == pytest.approx(norm, abs=1e-3)
    assert len(memory) == 3


def test_damaged_bits_are_refused(tmp_path: Path) -> None:
    memory = Willshaw(130, 9)
    memory.store(_stored(130, 9, 5))
    memory.save(tmp_path / "memory.npz")
    with np.load(tmp_path / "memory.npz") as file:
        arrays = {name: file[name] for name in file.files}
    for tile, row, bit in ((0, 0, 0), (0, 0, 1), (5, 63, 0), (2, 0, 63)):  # diagonal, asymmetry, padding
        changed = arrays | {"synapses": arrays["synapses"].copy()}
        changed["synapses"][tile, row] ^= np.uint64(1) << np.uint64(bit)
        with (tmp_path / "forged.npz").open("wb") as file:
            np.savez(file, **changed)
        with pytest.raises(MemoryFileError, match="expected symmetric bits"):
            load_memory(tmp_path / "forged.npz")


def test_use_of_unequal_neurons_is_taken_off() -> None:
    generator = torch.Generator().manual_seed(0)
    use = torch.linspace(0.01, 0.19, 400)
    draw = torch.rand((80, 400), generator=generator) / use
    stored = torch.full((80, 400), -1.0).scatter_(1, (-draw).topk(40, dim=1).indices, 1.0)
    cues, exact = pt.move_ones(stored, 4, generator), []
    for memory in (Covariance(400, 40, use=use), Covariance(400, 40)):
        with pytest.warns(UserWarning, match="beyond it"):
            memory.store(stored)
        exact.append(float((memory.recall(cues) == stored).all(1).float().mean()))
    assert exact[0] > exact[1] + 0.2


def test_what_is_refused() -> None:
    with pytest.raises(DimensionError, match="whole number of neurons"):
        Willshaw(1, 1)
    with pytest.raises(RuleError, match="from 1 to 9"):
        Covariance(10, 10)
    with pytest.raises(RuleError, match="threshold"):
        Willshaw(10, 2, threshold="none")  # type: ignore[arg-type]
    with pytest.raises(DimensionError, match="use"):
        Covariance(10, 2, use=torch.ones(3))
    with pytest.raises(PatternError, match=r"\(0, 1\)"):
        Covariance(10, 2, use=torch.ones(10))
    memory = Covariance(100, 5)
    with pytest.raises(PatternError, match="5 ones each, found one with 3"):
        memory.store(_stored(100, 3, 1))
    memory.store(_stored(100, 5, 1))
    coarse = CoarseCovariance.of(memory, "one-bit")
    with pytest.raises(StoreError, match="round it again"):
        coarse.store(_stored(100, 5, 1))
    with pytest.raises(RuleError, match="expected a Covariance"):
        CoarseCovariance.of(HopfieldNetwork(10), "one-bit")  # type: ignore[arg-type]
    with pytest.raises(PatternError, match="same number of ones"):
        CoarseCovariance.learnt(torch.cat([_stored(10, 2, 1), _stored(10, 3, 1)]))
    with pytest.raises(RuleError, match="Teaching"):
        Teaching(rounds=0)
    with pytest.raises(PatternError, match="ones to move"):
        pt.move_ones(_stored(10, 2, 1), 3, torch.Generator())
    with pytest.raises(RuleError, match="gap"):
        theory.covariance_gap(10, 10, 1)


def test_theory_of_wrong_ones_is_what_covariance_couplings_do() -> None:
    dim, ones, count = 1000, 100, 300
    share = []
    for seed in range(3):
        stored = _stored(dim, ones, count, seed)
        memory = Covariance(dim, ones)
        with pytest.warns(UserWarning, match="beyond it"):
            memory.store(stored)
        after = pt.signs_or(memory.field(stored), stored)
        share.append(float(((after < 0) & (stored > 0)).sum() / (count * ones)))
    expected = theory.wrong_ones(dim, ones, theory.covariance_gap(dim, ones, count))
    assert sum(share) / 3 == pytest.approx(expected, rel=0.1)
