"""Layers under each image's own mask, from packed bits: the loops and the plain twin give the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstore.kernels import dispatch, reference, threads


def batch(seed: int, images: int, masks: int, neurons: int, size: int, words_before: int, density: float):
    rng = np.random.default_rng(seed)
    bits = rng.random((masks, 64 * words_before + neurons * size)) < density
    packed = np.packbits(np.pad(bits, ((0, 0), (0, -bits.shape[1] % 64))), axis=1, bitorder="little")
    rows = packed.view("<u8").astype(np.uint64)
    weights = rng.standard_normal((neurons, size)).astype(np.float32)
    return rng, rows, rng.integers(0, masks, images), 64 * words_before, weights


@given(
    seed=st.integers(0, 2**32),
    images=st.integers(0, 5),
    neurons=st.integers(1, 9),
    size=st.integers(1, 150),
    words_before=st.integers(0, 2),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_lines_equal_their_twin(seed, images, neurons, size, words_before, density):
    rng, *arrays = batch(seed, images, 3, neurons, size, words_before, density)
    values = rng.standard_normal((images, size)).astype(np.float32)
    found, wanted = (way.masked_lines(*arrays, values) for way in (dispatch, reference))
    assert found.shape == (images, neurons)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.sqrt(size))


@given(
    seed=st.integers(0, 2**32),
    images=st.integers(0, 4),
    groups=st.integers(1, 3),
    of_group=st.integers(1, 4),
    size=st.integers(1, 90),
    length=st.integers(1, 150),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_taps_equal_their_twin(seed, images, groups, of_group, size, length, density):
    rng, *arrays = batch(seed, images, 2, groups * of_group, size, 1, density)
    values = rng.standard_normal((images, 300)).astype(np.float32)
    places = rng.integers(0, 300 - length + 1, (groups, size))
    found, wanted = (way.masked_taps(*arrays, values, places, length) for way in (dispatch, reference))
    assert found.shape == (images, groups * of_group, length)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.sqrt(size))


@given(seed=st.integers(0, 2**32), runs=st.integers(0, 6), strides=st.integers(1, 3), length=st.integers(1, 150))
def test_taps_of_runs_equal_their_twin(seed, runs, strides, length):
    rng, *arrays = batch(seed, 3, 2, 6, 40, 1, 0.5)
    values = rng.standard_normal((3, 200)).astype(np.float32)
    places = rng.integers(0, 100, (2, 40))
    laid = np.array([(rng.integers(0, 20), strides, 40 * run, rng.integers(1, 41)) for run in range(runs)])
    cuts = np.sort(rng.integers(0, length + 1, (2, 2)), axis=1)  # the second before the first
    first = int(cuts[1, 1] - cuts[1, 0])
    kept = np.array([(cuts[0, 0], first, cuts[0, 1] - cuts[0, 0]), (cuts[1, 0], 0, first)])
    how = laid.reshape(-1, 4).astype(np.int64), kept
    found, wanted = (way.masked_taps(*arrays, values, places, length, *how) for way in (dispatch, reference))
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_many_neurons_with_many_taps_equal_their_twin():
    rng, *arrays = batch(0, 2, 2, 70, 700, 1, 0.9)  # more than go over the places together
    values = rng.standard_normal((2, 900)).astype(np.float32)
    places = rng.integers(0, 700, (2, 700))
    found, wanted = (way.masked_taps(*arrays, values, places, 130) for way in (dispatch, reference))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_an_image_gets_the_same_bits_whatever_is_beside_it(cores, monkeypatch):
    monkeypatch.setattr(threads, "CORES", cores)
    rng, rows, chosen, first, weights = batch(0, 40, 7, 60, 700, 0, 0.5)
    values = rng.standard_normal((40, 1000)).astype(np.float32)
    places = np.arange(700)[None]
    lines = dispatch.masked_lines(rows, chosen, first, weights, values[:, :700])
    taps = dispatch.masked_taps(rows, chosen, first, weights, values, places, 50)
    for image in range(0, 40, 13):
        alone = slice(image, image + 1)
        one = rows, chosen[alone], first, weights
        np.testing.assert_array_equal(dispatch.masked_lines(*one, values[alone, :700])[0], lines[image])
        np.testing.assert_array_equal(dispatch.masked_taps(*one, values[alone], places, 50)[0], taps[image])
