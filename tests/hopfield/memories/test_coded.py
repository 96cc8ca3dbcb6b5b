"""`CodedMemory`: the dense associative memory over a stream of gaps, smaller than packed patterns with few ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hopfield import CodedMemory, CueRecipe, DenseAssociativeMemory, load_memory, recover, theory
from hopfield import patterns as pt
from hopfield.errors import DimensionError, ForgetError, MemoryFileError, PatternError, RuleError
from hopfield.memories import gap_loops
from maskstore import Mask, MaskMatrix, MaskSpec
from tests.helpers.profiles import FAST

DATA = Path(__file__).parents[1] / "data"


def _patterns(count: int, dim: int, share: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    bits = torch.rand((count, dim), generator=generator) < share
    bits[torch.arange(count), torch.randint(dim, (count,), generator=generator)] = True  # none without a one
    return bits.float() * 2 - 1


@FAST
@given(st.integers(1, 12), st.integers(1, 200), st.sampled_from([0.0, 0.03, 0.3, 0.9, 1.0]), st.integers(0, 2**31))
def test_it_computes_what_the_dense_associative_memory_does(count: int, dim: int, share: float, seed: int) -> None:
    stored = _patterns(count, dim, share, seed)
    coded, packed = CodedMemory.of_patterns(stored), DenseAssociativeMemory.of_patterns(stored)
    states = torch.randn((3, dim), generator=torch.Generator().manual_seed(seed))
    assert len(coded) == count
    assert torch.allclose(coded.field(states), packed.field(states), atol=1e-5)
    assert torch.allclose(coded.energy(states), packed.energy(states), rtol=1e-5, atol=1e-4)
    neuron = seed % dim
    assert torch.allclose(coded.field_at(states, neuron), packed.field_at(states, neuron), atol=1e-5)


@FAST
@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=600, unique=True))
def test_gaps_come_back(found: list[int]) -> None:
    places = np.array(sorted(found), dtype=np.int64)
    words = np.zeros((gap_loops.stream_bits(places) + 63) // 64, dtype=np.uint64)
    gap_loops.write(places, words)
    again = np.zeros_like(places)
    assert gap_loops.read(words, len(places), 30_001, 1, again)
    assert np.array_equal(again, places)
    assert not gap_loops.read(words, len(places), int(places[-1]), 1, again)  # the last one lies beyond
    assert not gap_loops.read(words, len(places), 30_001, 2, again)  # a pattern is missing
    longer = np.concatenate([words, np.zeros(1, dtype=np.uint64)])
    assert not gap_loops.read(longer, len(places), 30_001, 1, again)  # a word too many


def test_each_layer_is_coded_at_its_own_density() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [(pt.sparse_patterns(4, dim, ones, generator), ones) for dim, ones in ((100_000, 2000), (10_000, 4600))]
    information = sum(4 * theory.pattern_bits(part.shape[1], ones) / 8 for part, ones in parts)
    coded = CodedMemory.of_patterns(torch.cat([part for part, _ in parts], dim=1))
    assert information < coded.nbytes < 1.06 * information


@pytest.mark.parametrize(("dim", "ones"), [(4096, 205), (4096, 82), (2048, 11), (60_000, 1800)])
def test_it_is_about_as_small_as_any_code_for_random_patterns(dim: int, ones: int) -> None:
    stored = pt.sparse_patterns(20, dim, ones, torch.Generator().manual_seed(0))
    information = 20 * theory.pattern_bits(dim, ones) / 8
    assert information < CodedMemory.of_patterns(stored).nbytes < 1.05 * information + 8


def test_patterns_are_stored_one_after_another_and_forgotten() -> None:
    stored = _patterns(9, 300, 0.05, 0)
    whole, parts = CodedMemory.of_patterns(stored), CodedMemory(300)
    for first in range(0, 9, 4):
        parts.store(stored[first : first + 4])
    parts.store(stored[:0])
    state = torch.randn(300, generator=torch.Generator().manual_seed(1))
    assert (len(parts), parts.nbytes) == (9, whole.nbytes)
    assert torch.equal(parts.field(state), whole.field(state))
    parts.forget(stored[[2, 8]])
    assert torch.equal(parts.field(state), CodedMemory.of_patterns(stored[[0, 1, 3, 4, 5, 6, 7]]).field(state))
    with pytest.raises(ForgetError, match="expected stored patterns, found one with"):
        parts.forget(stored[[0, 2]])
    assert len(parts) == 7  # all or nothing
    parts.forget(stored[[0, 1, 3, 4, 5, 6, 7]])
    assert (len(parts), parts.nbytes) == (0, 0)
    with pytest.raises(ForgetError):
        parts.forget(stored[0])


def test_masks_of_a_matrix_are_its_patterns() -> None:
    spec = MaskSpec({"a": (5, 13), "b": (3, 31)})
    flat = (_patterns(4, spec.bits, 0.1, 0) > 0).numpy()
    masks = MaskMatrix(spec, [Mask.from_flat(row, spec) for row in flat])
    state = torch.randn(spec.bits, generator=torch.Generator().manual_seed(1))
    expected = DenseAssociativeMemory(masks).field(state)
    assert torch.allclose(CodedMemory.of_patterns(masks).field(state), expected, atol=1e-5)
    assert len(CodedMemory.of_patterns(MaskMatrix(spec))) == 0


def test_one_gradient_finds_one_of_many_patterns() -> None:
    generator = torch.Generator().manual_seed(0)
    stored = pt.sparse_patterns(250, 1000, 50, generator)
    memory = CodedMemory.of_patterns(stored)
    for index in (3, 200):
        noisy = 7 / 1000**0.5 * stored[index] / 0.44 + torch.randn(1000, generator=generator)
        found = recover(memory, lambda mask, slope=noisy: -(slope @ mask), CueRecipe(calls=1, contrasts=0))  # type: ignore[misc]
        assert torch.equal(found.pattern, stored[index])
        assert found.steps == 1


def test_what_it_cannot_hold_is_refused() -> None:
    with pytest.raises(PatternError, match="expected patterns with at least one neuron on, found one with none"):
        CodedMemory(4).store([[True, False, False, False], [False] * 4])
    for wrong in (0, True, 2.0, "x", 1 << 31):
        with pytest.raises(DimensionError, match="expected a whole number of neurons"):
            CodedMemory(wrong)  # type: ignore[arg-type]
    with pytest.raises(RuleError, match="expected beta in"):
        CodedMemory(4, beta=0.0)


def test_a_file_of_it_is_read_as_it_was_written() -> None:
    memory = load_memory(DATA / "coded.npz")
    assert (type(memory), len(memory), memory.dim, memory.nbytes) == (CodedMemory, 3, 70, 8)
    assert torch.equal(memory.recall(_patterns(3, 70, 0.03, 5)), _patterns(3, 70, 0.03, 5))


def test_any_stream_of_strangers_is_a_memory_or_one_error() -> None:
    memory, rng = CodedMemory.of_patterns(_patterns(6, 90, 0.1, 0)), np.random.default_rng(0)
    header, words = memory._header(), memory._words
    read = 0
    for _ in range(300):
        damaged, other = words.copy(), dict(header)
        for _ in range(rng.integers(0, 3)):
            damaged[rng.integers(len(words))] ^= np.uint64(1) << np.uint64(rng.integers(64))
        if rng.random() < 0.3:
            other[str(rng.choice(["count", "ones"]))] = int(rng.choice([0, 1, 39, 2**62]))
        if rng.random() < 0.1:
            damaged = damaged[:-1]
        try:
            found = CodedMemory._restore(other, {"stream": damaged})
        except MemoryFileError:
            continue
        assert torch.isfinite(found.field(torch.zeros(90))).all()
        read += 1
    assert 50 < read < 250
