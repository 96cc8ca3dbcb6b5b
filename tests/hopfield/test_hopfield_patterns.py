"""Patterns: what is taken, what is refused, and that packing loses nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hopfield import patterns as pt
from hopfield.errors import DimensionError, PatternError
from maskstore import Mask, MaskMatrix, MaskSpec

FAST = settings(deadline=None, max_examples=40, derandomize=True)
shapes = st.tuples(st.integers(0, 9), st.integers(1, 200))


@FAST
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


@FAST
@given(st.integers(1, 6), st.integers(1, 80), st.floats(0, 1), st.integers(0, 2**31))
def test_flip_changes_exactly_that_many_neurons(count: int, dim: int, fraction: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    patterns = pt.random_patterns(count, dim, generator)
    flipped = pt.flip(patterns, fraction, generator)
    assert pt.hamming(flipped, patterns).tolist() == [round(fraction * dim)] * count
    expected = 1 - 2 * pt.hamming(flipped, patterns) / dim
    assert torch.allclose(pt.overlap(flipped, patterns).diagonal(), expected, atol=1e-5)


def test_random_patterns_have_the_activity_asked_for() -> None:
    patterns = pt.random_patterns(50, 400, torch.Generator().manual_seed(0), mean=-0.6)
    assert pt.activity(patterns) == pytest.approx(-0.6, abs=0.03)


def test_a_field_of_zero_keeps_the_state() -> None:
    state = torch.tensor([1.0, -1.0, 1.0])
    assert pt.signs_or(torch.tensor([0.0, 0.0, -2.0]), state).tolist() == [1.0, -1.0, -1.0]
