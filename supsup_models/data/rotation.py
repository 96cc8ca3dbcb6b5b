"""Rotating whole sets of images by an angle, bilinearly, and keeping only the set in use."""

import math
from typing import Any

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


class Rotations:
    """Images `(n, height * width)` uint8, turned by so many degrees when they are asked for: `rotations(degrees)`.

    The angle last asked for is kept, so the memory is twice that of the images. A copy in another process (pickled)
    starts with the images alone.
    """

    def __init__(self, images: NDArray[np.uint8], height: int, width: int) -> None:
        self._of = images, height, width
        self._last: tuple[float, Tensor] | None = None  # replaced whole, so that threads may share it

    def __call__(self, degrees: float) -> Tensor:
        """`(n, height * width)` uint8, not to be written to."""
        last = self._last
        if last is None or last[0] != degrees:
            images, height, width = self._of
            turned = rotate_images(images, height, width, degrees) if degrees else images
            self._last = last = degrees, torch.from_numpy(turned)
        return last[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return Rotations, self._of
