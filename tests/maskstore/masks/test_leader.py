"""The leader among many masks: the exact one, found by reading a part; and the kernels that read parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstore import Mask, MaskMatrix, MaskSpec
from maskstore.errors import SpecError
from maskstore.kernels import dispatch, reference
from maskstore.kernels.ir import chosen_chunks, pair_tables
from maskstore.masks import leader
from maskstore.masks.leader import FEWEST, ChunkMap
from tests.helpers.masks import random_matrix


@pytest.fixture(autouse=True)
def search_few_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches start with masks that are fast to make."""
    monkeypatch.setattr(leader, "READ_WHOLE", 0)


SPEC = MaskSpec({"fc1": (40, 200), "fc2": (7, 31), "bias": (5,)})


def heavy(spec: MaskSpec, seed: int) -> np.ndarray:
    """Values of which few carry most of the weight."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(spec.bits) * rng.random(spec.bits) ** 4).astype(np.float32)


def leaning(matrix: MaskMatrix, g: np.ndarray, row: int, share: float) -> MaskMatrix:
    """The matrix with one row's bits set to the signs of g, in a share of the places."""
    rng = np.random.default_rng(row)
    bits = np.where(rng.random(len(g)) < share, g > 0, matrix[row].flat())
    masks = [Mask.from_flat(bits, matrix.spec) if i == row else matrix[i] for i in range(len(matrix))]
    return MaskMatrix(matrix.spec, masks)


@pytest.mark.parametrize("kernel", [chosen_chunks, pair_tables], ids=["masked adds", "pair tables"])
@settings(max_examples=30, deadline=None)
@given(masks=st.integers(0, 70), places=st.integers(0, 300), seed=st.integers(0, 99))
def test_parts_of_masks_are_summed_as_the_reference_does(kernel, masks, places, seed):
    if kernel is pair_tables and not pair_tables.available():
        pytest.skip("no AVX")
    rng = np.random.default_rng(seed)
    packed = random_matrix(SPEC, masks, seed=seed).interleaved
    chosen = rng.integers(0, 2 * SPEC.words, places)
    values = rng.standard_normal(32 * places).astype(np.float32)
    expected = reference.dot_chunks(packed.blocks, packed.tail, chosen, values)
    found = np.empty(16 * len(packed.blocks))
    kernel.dot_chosen_chunks(
        packed.blocks.reshape(-1), 32 * SPEC.words, 16, chosen, values, found, 0, len(packed.blocks)
    )
    np.testing.assert_allclose(found, expected[: len(found)], rtol=1e-4, atol=1e-3)
    across = np.ascontiguousarray(packed.blocks.transpose(1, 0, 2)).transpose(1, 0, 2)  # chunk after chunk
    for blocks in (packed.blocks, across):
        np.testing.assert_allclose(
            dispatch.dot_chunks(blocks, packed.tail, chosen, values), expected, rtol=1e-4, atol=1e-3
        )
        some = rng.integers(0, masks, 9) if masks else np.zeros(0, dtype=np.int64)
        np.testing.assert_allclose(
            dispatch.dot_chunks(blocks, packed.tail, chosen, values, some), expected[some], rtol=1e-4, atol=1e-3
        )
        np.testing.assert_array_equal(
            dispatch.chosen_rows(blocks, packed.tail, some), reference.chosen_rows(packed.blocks, packed.tail, some)
        )


def test_facts_of_chunks_are_those_of_the_reference():
    chunks, g = ChunkMap.of(SPEC), heavy(SPEC, 0)
    mean = np.random.default_rng(1).random(SPEC.bits).astype(np.float32)
    arguments = g, mean, chunks.starts, chunks.sizes
    expected = reference.chunk_facts(*arguments)
    np.testing.assert_allclose(dispatch.chunk_facts(*arguments), expected, rtol=1e-4, atol=1e-6)
    assert expected[0].sum() == pytest.approx(np.abs(g).sum(), rel=1e-4)  # every place is in one chunk


def test_without_an_error_all_is_read_and_products_are_those_of_dot():
    matrix, g = random_matrix(SPEC, 3 * FEWEST), heavy(SPEC, 0)
    leader = matrix.leader(g, error=0)
    np.testing.assert_array_equal(leader.products, matrix.dot(g))
    assert leader.exact.all()
    assert leader.share == 1


@pytest.mark.parametrize("seed", range(5))
def test_one_that_stands_out_is_found_by_reading_a_part(seed):
    """Also in the rows after the last whole block, and right after it came."""
    g, count = heavy(SPEC, seed), 12 * FEWEST + 5
    for row in (3, count - 2):
        matrix = leaning(random_matrix(SPEC, count, seed=seed), g, row, 0.4)
        leader, exact = matrix.leader(g), matrix.dot(g)
        assert leader.row == row == exact.argmax()
        assert leader.share < 0.5
        assert leader.products.argmax() == row
        np.testing.assert_allclose(leader.products[leader.exact], exact[leader.exact], rtol=1e-4, atol=1e-4)
        assert not leader.exact.all()


@pytest.mark.parametrize("count", [1, 20, FEWEST - 1, 5 * FEWEST])
def test_where_none_stands_out_all_are_read(count):
    matrix, g = random_matrix(SPEC, count), heavy(SPEC, 7)
    leader, exact = matrix.leader(g), matrix.dot(g)
    assert leader.row == exact.argmax()
    np.testing.assert_allclose(leader.products, exact, rtol=1e-4, atol=1e-4)
    assert leader.share >= 1


@pytest.mark.parametrize("g", [np.zeros(SPEC.bits), np.ones(SPEC.bits), -np.ones(SPEC.bits)])
def test_arrays_without_a_leader(g):
    matrix = random_matrix(SPEC, 3 * FEWEST)
    assert matrix.dot(g)[matrix.leader(g).row] == pytest.approx(matrix.dot(g).max())


def test_equal_masks_all_lead():
    matrix = MaskMatrix(SPEC, [random_matrix(SPEC, 1)[0]] * (2 * FEWEST))
    assert matrix.leader(heavy(SPEC, 0)).products == pytest.approx(matrix.dot(heavy(SPEC, 0)), rel=1e-4)


def test_a_mask_that_arrives_later_leads():
    g = heavy(SPEC, 1)
    matrix = random_matrix(SPEC, 4 * FEWEST)
    before = matrix.leader(g).row
    assert before < 4 * FEWEST
    matrix.append("late", Mask.from_flat(g > 0, SPEC))
    assert matrix.leader(g).row == 4 * FEWEST


def test_what_cannot_be_asked():
    matrix = random_matrix(SPEC, 3)
    with pytest.raises(SpecError, match="flat array"):
        matrix.leader(np.zeros(3))
    for error in (-0.1, 1, float("nan")):
        with pytest.raises(SpecError, match="error in"):
            matrix.leader(np.zeros(SPEC.bits), error=error)
    with pytest.raises(SpecError, match="at least one mask"):
        MaskMatrix(SPEC).leader(np.zeros(SPEC.bits))
