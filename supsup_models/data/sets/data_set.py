"""A data set as arrays in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from supsup_models.data.tasks import Levels


class LabelledPixels(NamedTuple):
    """Images `(n, channels * height * width)` uint8, rows in C order, and their labels `(n,)` int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DataSet:
    """Labelled images for training and for testing. Arrays are shared, not copied: do not write to them.

    Pixels are in 0..levels, labels in range(classes). `image_shape` is (channels, height, width). `mean` and `std` are
    of the training pixels divided by `levels`, of all, or one for each channel.
    """

    name: str
    train: LabelledPixels
    test: LabelledPixels
    image_shape: tuple[int, int, int]
    classes: int
    levels: int
    mean: Levels
    std: Levels
    sha256: Mapping[str, str]  # of each file's content, or of the embedded array: what a run record keeps

    @property
    def inputs(self) -> int:
        """Values of an image."""
        return prod(self.image_shape)

    def __repr__(self) -> str:
        counts = f"{len(self.train.labels)} images to train on, {len(self.test.labels)} to test on"
        return f"DataSet({self.name}: {self.classes} classes, {counts}, of shape {self.image_shape})"
