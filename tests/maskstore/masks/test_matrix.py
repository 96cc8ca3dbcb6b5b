import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstore import MaskMatrix, MaskSpec
from maskstore.errors import SpecError, TaskExistsError, TaskNotFoundError
from maskstore.kernels import Kernel, load
from maskstore.masks import interleave
from maskstore.masks.interleave import Interleaved
from tests.helpers.masks import random_mask, random_matrix, specs

seeds = st.integers(0, 2**32 - 1)


@given(specs(), st.integers(0, 40), seeds)
def test_arithmetic_equals_dense_arithmetic(spec, count, seed):
    matrix = random_matrix(spec, count, seed=seed)
    rng = np.random.default_rng(seed)
    dense = np.array([matrix[i].flat() for i in range(count)], dtype=np.float64).reshape(count, spec.bits)
    g = rng.standard_normal(spec.bits).astype(np.float32)
    alpha = rng.random(count).astype(np.float32)
    for kernel in Kernel:
        np.testing.assert_allclose(matrix.dot(g, kernel=kernel), dense @ g, atol=1e-4)
        np.testing.assert_allclose(matrix.weighted_sum(alpha, kernel=kernel), alpha @ dense, atol=1e-5)
    np.testing.assert_allclose(
        matrix.dot_many(np.stack([g, -g, 2 * g])), [dense @ g, -dense @ g, 2 * dense @ g], atol=1e-4
    )
    assert matrix.counts().tolist() == dense.sum(axis=0).tolist()


@pytest.mark.parametrize("words", [1, 7, 1024, 1025, 5000])
def test_kernels_equal_their_references_on_long_rows(words):
    """Long enough for several blocks and several threads, which Hypothesis' small specs never reach."""
    rng = np.random.default_rng(words)
    rows = rng.integers(0, 2**64, size=(23, words), dtype=np.uint64)
    g = rng.standard_normal(words * 64).astype(np.float32)
    alpha = rng.standard_normal(23).astype(np.float32)
    masks, layers = Interleaved.of(rows), np.array([(0, 0, 64 * words)])
    loops = [load(kernel) for kernel in (Kernel.NUMBA, Kernel.REFERENCE)]
    fast, expected = (kernels.dot(masks.blocks, masks.tail, g, layers) for kernels in loops)
    np.testing.assert_allclose(fast, expected, rtol=1e-4, atol=1e-3)
    fast, expected = (kernels.weighted_sum(masks.blocks, masks.tail, alpha) for kernels in loops)
    np.testing.assert_allclose(fast, expected, atol=1e-4)


@given(st.integers(0, 300), st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), seeds)
def test_score_contexts_equal_their_reference(size, key, seed):
    signs = np.random.default_rng(seed).integers(0, 2**64, size=(size + 63) // 64, dtype=np.uint64)
    fast, reference = load(Kernel.NUMBA), load(Kernel.REFERENCE)
    assert fast.score_contexts(key, signs, size).tolist() == reference.score_contexts(key, signs, size).tolist()


@given(specs(), seeds)
def test_appending_keeps_rows_names_and_counts(spec, seed):
    masks = [random_mask(spec, 0.5, seed + i) for i in range(12)]
    matrix = MaskMatrix(spec)
    for i, mask in enumerate(masks):
        matrix.append(f"t{i}", mask)
        if i % 3 == 0:  # counts are computed once, then kept up while rows arrive
            assert matrix.counts().tolist() == sum(m.flat().astype(int) for m in masks[: i + 1]).tolist()
    assert [matrix[i] for i in range(12)] == masks
    assert matrix["t7"] == masks[7]
    chosen = matrix.select([5, "t2"])
    assert chosen.names == ("t5", "t2")
    assert chosen["t2"] == masks[2]
    chosen.append("new", masks[0])
    assert matrix.names == tuple(f"t{i}" for i in range(12))


def test_bad_use_is_named():
    spec = MaskSpec({"a": (5,)})
    matrix = random_matrix(spec, 2)
    with pytest.raises(SpecError, match=r"\(5,\)"):
        matrix.dot(np.zeros(6))
    with pytest.raises(SpecError, match="2 weights"):
        matrix.weighted_sum([1.0])
    with pytest.raises(SpecError, match="two dimensions"):
        matrix.outer_dots("a", np.zeros((1, 5)), np.zeros((2, 1)), np.zeros((2, 5)))
    with pytest.raises(SpecError, match=r"\(b, 5\)"):
        matrix.dot_many(np.zeros(5))
    with pytest.raises(TaskNotFoundError):
        matrix["nine"]
    with pytest.raises(TaskExistsError):
        matrix.append("task-1", matrix[0])
    with pytest.raises(SpecError, match="spec"):
        matrix.append("x", random_mask(MaskSpec({"b": (5,)}), 0.5, 0))
    with pytest.raises(SpecError, match="at least one"):
        MaskMatrix(spec).mean()
    with pytest.raises(IndexError):
        matrix[2]
    with pytest.raises(ValueError, match="read-only"):
        matrix.rows[0, 0] = 1


@pytest.mark.parametrize("shape", [(5, 31), (3, 32), (4, 33), (2, 64), (3, 100), (1, 129)])
def test_outer_dots_of_chosen_rows_are_entries_of_all(shape):
    spec = MaskSpec({"first": (3,), "layer": shape})
    matrix = random_matrix(spec, 21, seed=3)
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(size).astype(np.float32) for size in (shape, (6, shape[0]), (6, shape[1]))]
    chosen = rng.integers(0, 21, size=(6, 5))
    expected = np.take_along_axis(matrix.outer_dots("layer", *arrays, kernel=Kernel.REFERENCE), chosen, axis=1)
    for kernel in Kernel:
        found = matrix.outer_dots("layer", *arrays, chosen, kernel=kernel)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(SpecError, match="below 21"):
        matrix.outer_dots("layer", *arrays, np.full((6, 1), 21))


def test_a_matrix_of_huge_masks_sets_no_memory_aside_before_they_come():
    """A spec is a few bytes of a file; sixteen masks of this one take 128 GiB."""
    matrix = MaskMatrix(MaskSpec({f"l{i}": (1 << 33,) for i in range(8)}))
    assert (len(matrix), matrix.names, matrix.rows.shape) == (0, (), (0, 1 << 30))


@pytest.mark.parametrize("count", [1, 2, 3, 15, 16, 17, 40])
def test_large_masks_lie_as_small_ones_do(count, monkeypatch):
    spec = MaskSpec({"a": (300,)})
    masks = [random_mask(spec, 0.5, i) for i in range(count)]
    small = MaskMatrix(spec, masks)
    monkeypatch.setattr(interleave, "_LARGE", 0)
    large = MaskMatrix(spec, masks)
    assert large.rows.tolist() == small.rows.tolist() == [mask.words.tolist() for mask in masks]
    again = pickle.loads(pickle.dumps(large))
    again.append("one more", masks[0])
    assert again.rows.tolist() == [*large.rows.tolist(), masks[0].words.tolist()]
    assert len(large) == count
