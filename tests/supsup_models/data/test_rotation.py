"""Rotation: exact where it can be, bilinear elsewhere, the same for one image as for many."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from supsup_models.data.rotation import Rotations, rotate_images

SQUARES = st.integers(1, 9).flatmap(
    lambda side: hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(side), st.just(side)))
)


def rotate(images: np.ndarray, degrees: float) -> np.ndarray:
    count, height, width = images.shape
    return rotate_images(images.reshape(count, -1), height, width, degrees).reshape(images.shape)


@given(images=SQUARES, quarters=st.integers(0, 4))
def test_quarter_turns_are_exact_and_counter_clockwise(images: np.ndarray, quarters: int) -> None:
    np.testing.assert_array_equal(rotate(images, 90.0 * quarters), np.rot90(images, quarters, axes=(1, 2)))


def rotate_slowly(image: np.ndarray, degrees: float) -> np.ndarray:
    """The definition, pixel by pixel, in floating point."""
    height, width = image.shape
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    out = np.zeros(image.shape)
    for r in range(height):
        for c in range(width):
            y, x = r - (height - 1) / 2, c - (width - 1) / 2
            sr, sc = sine * x + cosine * y + (height - 1) / 2, cosine * x - sine * y + (width - 1) / 2
            for i in range(height):
                for j in range(width):
                    out[r, c] += image[i, j] * max(0.0, 1 - abs(sr - i)) * max(0.0, 1 - abs(sc - j))
    return out


@given(image=hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6))), degrees=st.floats(-400.0, 400.0))
def test_agrees_with_the_definition(image: np.ndarray, degrees: float) -> None:
    # Positions are rounded to 1/128 pixel: an error of at most 1/256 in each direction, times the steepest slope.
    np.testing.assert_allclose(rotate(image[None], degrees)[0], rotate_slowly(image, degrees), atol=0.5 + 2 * 255 / 256)


@given(images=SQUARES, degrees=st.floats(0.0, 360.0))
def test_an_image_does_not_depend_on_its_company(images: np.ndarray, degrees: float) -> None:
    together = rotate(images, degrees)
    for i in range(len(images)):
        np.testing.assert_array_equal(rotate(images[i : i + 1], degrees)[0], together[i])


def test_sets_larger_than_a_chunk() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2500, 4, 5), dtype=np.uint8)
    together = rotate(images, 30.0)
    np.testing.assert_array_equal(together[2400:], rotate(images[2400:], 30.0))


def test_only_the_angle_in_use_is_kept() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 9), dtype=np.uint8)
    rotated = Rotations(images, 3, 3)
    assert torch.equal(rotated(0.0), torch.from_numpy(images))
    first = rotated(10.0)
    assert rotated(10.0) is first
    assert not torch.equal(rotated(20.0), first)
    again = rotated(10.0)
    assert again is not first
    assert torch.equal(again, first)
    assert torch.equal(rotated(0.0), torch.from_numpy(images))
