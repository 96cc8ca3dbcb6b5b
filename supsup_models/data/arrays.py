"""Checks on images and labels that a caller hands in: what is wrong is said once, by name, before any training."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from supsup_models.data.tasks import Held, Split
from supsup_models.errors import TaskDataError

MAX_CLASSES = 1 << 16  # a label far out is a mistake, and must not size an output layer


def make_split(images: ArrayLike, labels: ArrayLike, where: str, *, mean: float, std: float) -> Split:
    """A `Split` over copies of `images` (n, ...) and integer `labels` (n,); `where` names them in messages.

    uint8 images are divided by 255 first; all others are taken as float32, as they are. Then (x - mean) / std. Raises
    `TaskDataError` for wrong shapes or types, NaN or infinite values, negative labels, or no images at all.
    """
    pixels, shape = _check_images(images, where)
    values = _check_labels(labels, where)
    if len(pixels) != len(values):
        raise TaskDataError(f"{where}: expected as many labels as images, found {len(values)} and {len(pixels)}")
    divisor = std * (255.0 if pixels.dtype == np.uint8 else 1.0)
    tensor = torch.from_numpy(pixels)
    return Split(
        labels=torch.from_numpy(values),
        pixels=Held(tensor),
        inputs=pixels.shape[1],
        scale=1.0 / divisor,
        shift=-mean / std,
        image_shape=shape,
    )


class SamePixels:
    """Sees that all images of a stream have pixels of one form: bytes, which are divided by 255, beside floats in
    [0, 1], or other numbers, which are taken as they are; but not the two together."""

    def __init__(self) -> None:
        self._small = self._large = ""

    def check(self, split: Split, given: ArrayLike, where: str) -> None:
        """TaskDataError if some images so far were bytes or floats in [0, 1], and others raw pixels that are neither.

        Raw are whole numbers from 0 to more than 1 that are no bytes: images that somebody forgot to scale.
        """
        kind = str(getattr(given, "dtype", type(given).__name__)).removeprefix("torch.")
        pixels = split.pixels()
        if pixels.dtype == torch.uint8:
            self._small = self._small or f"{kind} in {where}"
        else:
            low, high = (float(end) for end in pixels.aminmax())
            if low >= 0 and high <= 1:
                self._small = self._small or f"{kind} from {low:g} to {high:g} in {where}"
            elif low >= 0 and bool((pixels == pixels.round()).all()):
                self._large = self._large or f"{kind} from {low:g} to {high:g} in {where}"
        if self._small and self._large:
            raise TaskDataError(f"images: expected pixels of one range, found {self._small} and {self._large}")


def collected(dataset: Any, where: str) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """All images `(n, ...)` and labels `(n,)` of a torch dataset of (image, label) pairs, as arrays.

    Raises `TaskDataError` for one without a length, without pairs, or with images of several shapes.
    """
    try:
        count = len(dataset)
    except TypeError:
        raise TaskDataError(f"{where}: expected a dataset with a length, found {type(dataset).__name__}") from None
    images, labels = [], []
    for index in range(count):
        pair = dataset[index]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TaskDataError(f"{where}: expected (image, label) pairs, found {type(pair).__name__} at {index}")
        images.append(as_array(pair[0], f"{where}, image {index}"))
        labels.append(as_array(pair[1], f"{where}, label {index}"))
    for what, arrays in (("images", images), ("labels", labels)):
        shapes = sorted({array.shape for array in arrays})
        if len(shapes) > 1:
            raise TaskDataError(f"{where}: expected {what} of one shape, found {shapes[0]} and {shapes[1]}")
    if not images:
        raise TaskDataError(f"{where}: expected at least one image, found an empty dataset")
    return np.stack(images), np.stack(labels)


def _check_images(images: ArrayLike, where: str) -> tuple[NDArray[np.generic], tuple[int, ...]]:
    """The images as rows of bytes or float32, and the shape that one of them came in."""
    array = as_array(images, f"{where} images")
    if array.ndim < 2:
        raise TaskDataError(f"{where} images: expected shape (n, inputs) or (n, height, width), found {array.shape}")
    if array.size == 0:
        raise TaskDataError(f"{where} images: expected at least one image, found shape {array.shape}")
    if array.dtype.kind not in "buif":
        raise TaskDataError(f"{where} images: expected numbers, found {array.dtype}")
    flat, shape = array.reshape(len(array), -1), array.shape[1:]
    if array.dtype == np.uint8:
        return flat.copy(), shape  # later writes to the caller's array do not change the task
    with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite, and is refused below
        floats = flat.astype(np.float32, order="C", copy=True)
    bad = ~np.isfinite(floats).all(axis=1)
    if bad.any():
        first = int(bad.argmax())
        value = floats[first][~np.isfinite(floats[first])][0]
        raise TaskDataError(f"{where} images: expected finite float32 values, found {value} in image {first}")
    return floats, shape


def _check_labels(labels: ArrayLike, where: str) -> NDArray[np.int64]:
    array = as_array(labels, f"{where} labels")
    if array.ndim != 1:
        raise TaskDataError(f"{where} labels: expected shape (n,), found {array.shape}")
    if array.dtype.kind not in "iu":
        raise TaskDataError(f"{where} labels: expected integers, found {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= MAX_CLASSES):
        worst = array.min() if array.min() < 0 else array.max()
        raise TaskDataError(f"{where} labels: expected class numbers in range({MAX_CLASSES}), found {worst}")
    return array.astype(np.int64, copy=True)


def as_array(values: ArrayLike, where: str) -> NDArray[np.generic]:
    """Values, a tensor of any device and layout among them, as an array; TaskDataError for what is none."""
    if isinstance(values, Tensor):
        tensor = values.detach().cpu().to_dense()
        values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # numpy has no bfloat16
    try:
        return np.asarray(values)
    except ValueError:  # nested lists of unequal lengths
        raise TaskDataError(f"{where}: expected an array, found rows of unequal lengths") from None
