"""Patterns: what is taken, what is refused, and that packing loses nothing."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hopfield import patterns as pt
from hopfield.errors import DimensionError, PatternError
from maskstore import Mask, MaskMatrix, MaskSpec
from tests.helpers.patterns import random_patterns

shapes = st.tuples(st.integers(0, 9), st.integers(1, 200))


@given(shapes, st.integers(0, 2**31))
def test_bits_spins_and_packed_words_are_the_same_patterns(shape: tuple[int, int], seed: int) -> None:
    bits = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    signs = pt.as_patterns(bits)
    assert torch.equal(pt.to_bits(signs), bits)
    assert torch.equal(pt.as_patterns(signs.to(torch.int8).numpy()), signs)
    assert torch.equal(pt.unpack(pt.pack(signs), shape[1]), signs)


def test_a_mask_matrix_gives_its_bits_in_spec_order() -> None:
    spec = MaskSpec({"a": (3, 5), "b": (70,)})
    rng = np.random.default_rng(0)
    dense = [rng.random(spec.bits) < 0.3 for _ in range(4)]
    matrix = MaskMatrix(spec, [Mask.from_flat(d, spec) for d in dense])
    assert np.array_equal(pt.to_bits(pt.as_patterns(matrix)).numpy(), np.stack(dense))


@pytest.mark.parametrize("wrong", [[[0.0, 1.0]], [[1, 2]], [[float("nan"), 1.0]], [[0, 1]]])
def test_other_values_than_bool_and_signs_are_refused(wrong: list[list[float]]) -> None:
    with pytest.raises(PatternError, match="expected bool or values -1 and \\+1"):
        pt.as_patterns(torch.tensor(wrong))


def test_wrong_shapes_and_things_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DimensionError):
        pt.as_patterns(torch.ones(2, 5), 4)
    with pytest.raises(DimensionError):
        pt.as_patterns(torch.ones(2, 5, 1))
    with pytest.raises(PatternError):
        pt.as_patterns("not a pattern")
    with pytest.raises(PatternError, match="finite"):
        pt.as_state([1.0, float("inf")], 2)
    with pytest.raises(DimensionError):
        pt.as_state([1.0], 2)


def test_arrays_of_any_layout_and_order_are_the_same_patterns() -> None:
    plain = np.where(np.random.default_rng(0).random((3, 8)) < 0.5, -1.0, 1.0)
    expected = pt.as_patterns(plain)
    read_only = np.broadcast_to(plain[0], (3, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's about arrays that must not be written to
        assert torch.equal(pt.as_patterns(plain[::-1, ::-1]), expected.flip(0, 1))
        assert torch.equal(pt.as_patterns(read_only), expected[:1].expand(3, 8))
        assert torch.equal(pt.as_patterns(np.asfortranarray(plain)), expected)
        for dtype in (">f4", "f2", "longdouble", ">i8", "i1"):
            assert torch.equal(pt.as_patterns(plain.astype(dtype)), expected), dtype
        assert torch.equal(pt.as_patterns(np.ones((2, 8), dtype="u8")), torch.ones(2, 8))
        assert torch.equal(pt.as_patterns(torch.from_numpy(plain).T[:, ::2]), expected.T[:, ::2])


@pytest.mark.parametrize(
    "wrong",
    [
        torch.tensor([1j, -1]),
        np.array([1j, -1]),
        torch.eye(2).to_sparse(),
        np.array(["1", "-1"]),
        [[1, -1], [1]],
        None,
        object(),
    ],
)
def test_what_is_not_dense_real_numbers_is_refused_by_name(wrong: object) -> None:
    for read in (pt.as_patterns, lambda values: pt.as_state(values, 2)):
        with pytest.raises(PatternError, match=r"expected (dense real|a tensor or array of) numbers"):
            read(wrong)


def test_wrong_noise_and_activity_are_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(PatternError, match="fraction"):
            pt.flip(torch.ones(2, 8), fraction, generator)
    with pytest.raises(DimensionError, match=r"\(k, d\)"):
        pt.flip(torch.ones(8), 0.5, generator)
    with pytest.raises(PatternError, match="mean"):
        pt.random_patterns(2, 8, generator, mean=1.5)


@given(st.integers(1, 6), st.integers(1, 80), st.floats(0, 1), st.integers(0, 2**31))
def test_flip_changes_exactly_that_many_neurons(count: int, dim: int, fraction: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    patterns = pt.random_patterns(count, dim, generator)
    flipped = pt.flip(patterns, fraction, generator)
    assert pt.hamming(flipped, patterns).tolist() == [round(fraction * dim)] * count
    expected = 1 - 2 * pt.hamming(flipped, patterns) / dim
    assert torch.allclose(pt.overlap(flipped, patterns).diagonal(), expected, atol=1e-5)


def test_random_patterns_have_the_activity_asked_for() -> None:
    patterns = random_patterns(50, 400, mean=-0.6)
    assert pt.activity(patterns) == pytest.approx(-0.6, abs=0.03)


def test_a_field_of_zero_keeps_the_state() -> None:
    state = torch.tensor([1.0, -1.0, 1.0])
    assert pt.signs_or(torch.tensor([0.0, 0.0, -2.0]), state).tolist() == [1.0, -1.0, -1.0]
