"""Rotating whole sets of images by an angle, bilinearly, and keeping only the set in use."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Source positions are rounded to 1/128 of a pixel, so that all that follows is integer arithmetic: the same on every
# machine, and exact for multiples of 90 degrees.
_STEP_BITS = 7
_STEPS = 1 << _STEP_BITS
_CHUNK = 1024  # images; their four products fit a core's cache


def rotate_images(images: NDArray[np.uint8], height: int, width: int, degrees: float) -> NDArray[np.uint8]:
    """`images` (n, height * width), uint8, rotated counter-clockwise about their centre; same shape and type.

    Bilinear interpolation; what comes from outside the image is 0.
    """
    sources, weights = _bilinear_table(height, width, degrees)
    rotated = np.empty_like(images, order="C")
    for start in range(0, len(images), _CHUNK):
        columns = np.ascontiguousarray(images[start : start + _CHUNK].T)  # (pixels, m): whole rows are gathered
        total = np.full(columns.shape, 1 << (2 * _STEP_BITS - 1), dtype=np.int32)  # half a unit, to round
        for source, weight in zip(sources, weights, strict=True):
            total += columns[source] * weight[:, None]  # uint8 * int32
        rotated[start : start + _CHUNK] = (total >> (2 * _STEP_BITS)).T
    return rotated


def _bilinear_table(height: int, width: int, degrees: float) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """For each output pixel, four input pixels (4, pixels) and their weights (4, pixels), which sum to 2**14 inside."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    y, x = np.mgrid[:height, :width].reshape(2, -1) - np.array([[(height - 1) / 2], [(width - 1) / 2]])
    row = np.rint(_STEPS * (sine * x + cosine * y + (height - 1) / 2)).astype(np.int32)
    column = np.rint(_STEPS * (cosine * x - sine * y + (width - 1) / 2)).astype(np.int32)
    sources, weights = [], []
    for down in (0, 1):
        for right in (0, 1):
            r, c = (row >> _STEP_BITS) + down, (column >> _STEP_BITS) + right
            part_r, part_c = row % _STEPS, column % _STEPS
            weight = (part_r if down else _STEPS - part_r) * (part_c if right else _STEPS - part_c)
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            sources.append(r.clip(0, height - 1) * width + c.clip(0, width - 1))
            weights.append(np.where(inside, weight, 0))
    return np.array(sources, dtype=np.intp), np.array(weights, dtype=np.int32)


def rotating(images: NDArray[np.uint8], height: int, width: int) -> Callable[[float], Tensor]:
    """A function that gives the images rotated by so many degrees, (n, height * width), uint8.

    It keeps the angle last asked for, so its memory is twice that of the images.
    """

    @lru_cache(maxsize=1)
    def at(degrees: float) -> Tensor:
        return torch.from_numpy(rotate_images(images, height, width, degrees) if degrees else images)

    return at
