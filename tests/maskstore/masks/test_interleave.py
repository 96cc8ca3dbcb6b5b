"""Masks side by side: what goes in comes out, in any order, in parts, and while more arrive."""

import copy
import pickle
import sys
import threading
from itertools import count as numbers

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstore import Mask, MaskMatrix, MaskSpec
from maskstore.kernels import dispatch, reference
from maskstore.kernels.ir import lookup
from maskstore.kernels.layout import chunks_of
from maskstore.masks.interleave import GrowingRows, Interleaved, chosen_rows
from tests.helpers.masks import random_mask

seeds = st.integers(0, 2**32 - 1)


def random_rows(count: int, words: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, size=(count, words), dtype=np.uint64)


@given(st.integers(0, 70), st.integers(1, 9), st.data())
def test_rows_come_back_whole_and_in_parts(count, words, data):
    rows = random_rows(count, words)
    packed = Interleaved.of(rows)
    start = data.draw(st.integers(0, words))
    part = slice(start, data.draw(st.integers(start, words)))
    assert len(packed) == count
    assert (packed.blocks.shape, packed.tail.shape) == ((count // 16, 2 * words, 16), (count % 16, words))
    assert packed.blocks.nbytes + packed.tail.nbytes == rows.nbytes  # a bit of memory a bit
    np.testing.assert_array_equal(packed.rows(), rows)
    np.testing.assert_array_equal(packed.rows(part), rows[:, part])
    for index in range(count):
        np.testing.assert_array_equal(packed.row(index), rows[index])
        np.testing.assert_array_equal(packed.row(index, part), rows[index, part])


def test_a_column_of_a_block_is_a_mask_and_low_halves_come_first():
    rows = random_rows(32, 3)
    packed = Interleaved.of(rows)
    assert int(packed.blocks[1, 0, 5]) == int(rows[21, 0]) & 0xFFFFFFFF
    assert int(packed.blocks[1, 5, 5]) == int(rows[21, 2]) >> 32
    np.testing.assert_array_equal(chunks_of(rows)[21], packed.blocks[1, :, 5])


@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 80), st.lists(st.integers(0, 10**6), max_size=50))
def test_growing_one_by_one_is_packing_at_once_and_choosing_keeps_the_order(count, words, room, picks):
    rows = random_rows(count, words)
    growing = GrowingRows(words, room=room)
    seen = []
    for row in rows:
        seen.append(growing.arrived)
        growing.append(row)
    for arrived, packed in enumerate(seen):  # nothing that was handed out has changed since
        np.testing.assert_array_equal(packed.rows(), rows[:arrived])
    chosen = [pick % count for pick in picks]
    picked = chosen_rows(growing.arrived, chosen)
    np.testing.assert_array_equal(picked.rows(), rows[chosen])
    more = GrowingRows.of(picked)
    more.append(rows[0])
    np.testing.assert_array_equal(more.arrived.rows(), np.concatenate([rows[chosen], rows[:1]]))
    np.testing.assert_array_equal(growing.arrived.rows(), rows)


@pytest.mark.parametrize("room", [0, 400])
def test_a_thread_reads_while_another_appends(room):
    rows = random_rows(400, 7)
    growing = GrowingRows(7, room=room)
    wrong, done = [], threading.Event()

    def read() -> None:
        while not done.is_set():
            packed = growing.arrived
            if not np.array_equal(packed.rows(), rows[: len(packed)]):
                wrong.append(len(packed))

    reader = threading.Thread(target=read)
    reader.start()
    for row in rows:
        growing.append(row)
    done.set()
    reader.join()
    assert wrong == []


@pytest.mark.parametrize("by_lookup", [False, True])
@pytest.mark.parametrize("count", [15, 16, 33, 300])
@pytest.mark.parametrize("sizes", [(5,), (64, 130), (31, 1, 32, 33, 9000), (65_600, 7, 100_001)])
def test_dot_products_of_layers_that_end_anywhere(by_lookup, count, sizes, monkeypatch):
    """By lookup, and by masked adds, which processors without AVX-512 compute; no value is read beyond its layer's."""
    monkeypatch.setattr(lookup, "available", lambda available=lookup.available(): available and by_lookup)
    spec = MaskSpec({f"layer{i}": (size,) for i, size in enumerate(sizes)})
    layers = np.array([(layer.word_start, layer.flat_start, layer.size) for layer in spec])
    packed = Interleaved.of(np.array([random_mask(spec, 0.5, i).words for i in range(count)]))
    room = np.full(spec.bits + 64, np.nan, dtype=np.float32)  # what lies around the values
    g = room[32 : 32 + spec.bits]
    g[:] = np.random.default_rng(1).standard_normal(spec.bits)
    tolerance = 1e-5 * np.sqrt(spec.bits)
    found, expected = (loops.dot(packed.blocks, packed.tail, g, layers) for loops in (dispatch, reference))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=tolerance)


@given(st.integers(1, 70), seeds)
def test_a_matrix_gives_back_its_masks_and_chosen_ones(count, seed):
    spec = MaskSpec({"a": (7, 9), "b": (130,)})
    masks = [random_mask(spec, 0.5, seed + i) for i in range(count)]
    matrix = MaskMatrix(spec, masks)
    assert [matrix[i] for i in range(count)] == masks
    np.testing.assert_array_equal(matrix.rows, [mask.words for mask in masks])
    order = np.random.default_rng(seed).permutation(count)[: count // 2 + 1].tolist()
    chosen = matrix.select(order)
    assert [chosen[i] for i in range(len(order))] == [masks[i] for i in order]
    chosen.append("one more", masks[0])
    assert chosen["one more"] == masks[0]
    assert matrix.nbytes == 8 * spec.words * count


@pytest.mark.skipif(not lookup.available(), reason="needs AVX-512")
@pytest.mark.parametrize("count", [3, 16, 40, 16 * lookup.BLOCK_TILE + 5, 16 * lookup.BLOCK_TILE * 2])
def test_outer_products_over_several_tiles_of_blocks(count):
    spec = MaskSpec({"first": (3,), "layer": (5, 33)})
    matrix = MaskMatrix(spec, [random_mask(spec, 0.5, i) for i in range(count)])
    rng = np.random.default_rng(0)
    weights, left, right = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 33), (4, 5), (4, 33)))
    left[1], left[:, 2] = 0, 0
    found = matrix.outer_dots("layer", weights, left, right)
    flat = np.array([matrix[i].flat() for i in range(count)], dtype=np.float64)
    dense = flat[:, spec["layer"].flat].reshape(count, 5, 33)
    np.testing.assert_allclose(found, np.einsum("bo,kon,on,bn->bk", left, dense, weights, right), atol=1e-4)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda matrix: pickle.loads(pickle.dumps(matrix))])
@pytest.mark.parametrize("count", [0, 1, 33])
def test_a_copy_is_as_large_as_its_masks_and_grows_by_itself(copied, count):
    spec = MaskSpec({"a": (50, 70)})
    masks = [random_mask(spec, 0.5, i) for i in range(count + 2)]
    matrix = MaskMatrix(spec, masks[:count], room=100)
    assert len(pickle.dumps(matrix)) < matrix.nbytes + 2000
    other = copied(matrix)
    matrix.append("here", masks[count])
    other.append("there", masks[count + 1])
    assert [matrix[i] for i in range(count + 1)] == masks[: count + 1]
    assert [other[i] for i in range(count + 1)] == [*masks[:count], masks[count + 1]]


def appended_until(step: int, matrix: MaskMatrix, mask: Mask) -> bool:
    """Append a mask as "new" and interrupt that at a line or call of the store's own; whether it came to its end."""
    steps = numbers()

    def trace(frame, event, arg):
        if ("maskstore" in frame.f_code.co_filename or frame.f_code.co_filename == "<string>") and next(steps) == step:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        matrix.append("new", mask)
    except KeyboardInterrupt:
        return False
    finally:
        sys.settrace(before)
    return True


@pytest.mark.parametrize("count", [3, 15, 16, 31])
@pytest.mark.parametrize("counted", [False, True])
def test_an_append_interrupted_at_any_moment_has_added_its_mask_or_nothing(count, counted):
    spec = MaskSpec({"a": (5, 13), "b": (3,)})
    masks = [random_mask(spec, 0.5, i) for i in range(count + 2)]
    for step in numbers():
        matrix = MaskMatrix(spec, masks[:count])
        if counted:
            matrix.counts()
        over = appended_until(step, matrix, masks[count])
        assert len(matrix) == len(matrix.names) == len(matrix.rows)
        if "new" not in matrix.names:
            assert len(matrix) == count
            matrix.append("other", masks[count])
        matrix.append("last", masks[count + 1])
        assert [matrix[i] for i in range(len(matrix))] == masks
        assert [matrix.index(name) for name in matrix.names] == list(range(count + 2))
        np.testing.assert_array_equal(matrix.counts(), sum(mask.flat().astype(int) for mask in masks))
        if over:
            break
    assert step > 10


def test_sums_are_of_whole_masks_while_another_thread_appends():
    spec = MaskSpec({"a": (40, 50)})
    mask = Mask.from_flat(np.ones(spec.bits, dtype=bool), spec)
    matrix = MaskMatrix(spec, [mask])
    wrong, done = [], threading.Event()

    def read() -> None:
        while not done.is_set():
            counts, mean = matrix.counts(), matrix.mean()
            if counts.min() != counts.max() or not np.all(mean == 1):
                wrong.append(counts)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for i in range(300):
        matrix.append(f"task {i}", mask)
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    np.testing.assert_array_equal(matrix.counts(), 301)
