"""How each kind of stream makes its tasks: pixels permuted, images rotated, classes shared out."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from maskstore.philox import Role, random_permutation
from supsup_models.data.augment import Augmented
from supsup_models.data.names import ROTATION_STEP, classes_per_split
from supsup_models.data.rotation import rotating
from supsup_models.data.sets import ClassFolders, DataSet, ImageFiles
from supsup_models.data.tasks import Split, Task, TaskImages, pixel_levels
from supsup_models.errors import DataFormatError

MakeTask = Callable[[int], Task]
_CLASS_ORDER = 1  # layer of the random stream that shares out classes; layer 0 splits the digits for testing
_IN_ORDER = 10  # data sets of so many classes are shared out in order, 0 and 1, 2 and 3, ..., as published


def permuted(source: DataSet, seed: int) -> MakeTask:
    """Task t sees all images with their pixels in the order that `seed` and t give."""
    parts = _parts(source)

    def make_task(index: int) -> Task:
        columns = torch.from_numpy(random_permutation(seed, Role.PERMUTATION, source.inputs, stream=index))
        splits = (_split_of(source, pixels, labels, columns=columns) for pixels, labels in parts)
        return Task(index, tuple(range(source.classes)), *splits)

    make_task(0)  # a seed out of range is refused now, not after the first hour
    return make_task


def rotated(source: DataSet) -> MakeTask:
    """Task t sees all images rotated counter-clockwise by 10 t degrees."""
    _, height, width = source.image_shape
    parts = [(rotating(pixels.numpy(), height, width), labels) for pixels, labels in _parts(source)]

    def make_task(index: int) -> Task:
        degrees = float(ROTATION_STEP * index)
        splits = (_split_of(source, partial(at, degrees), labels) for at, labels in parts)
        return Task(index, tuple(range(source.classes)), *splits)

    return make_task


def split(source: DataSet, seed: int) -> MakeTask:
    """Task t sees its own classes; colour images are augmented in training."""
    parts = _parts(source)
    shares = shared_out(source.classes, classes_per_split(source.name), seed)

    def make_task(index: int) -> Task:
        splits: list[TaskImages] = []
        for pixels, labels in parts:
            rows, local = _rows_of_classes(source, labels.numpy(), shares[index])
            splits.append(_split_of(source, pixels, local, rows=rows))
        if source.image_shape[0] > 1:
            splits[0] = Augmented(splits[0], source.image_shape, seed=seed, task=index)
        return Task(index, shares[index], *splits)

    return make_task


def split_folders(folders: ClassFolders, seed: int) -> MakeTask:
    """Task t sees the image files of its own classes."""
    names = folders.names
    shares = shared_out(len(names), classes_per_split("imagenet"), seed)

    def make_task(index: int) -> Task:
        parts = []
        for part, augmented in ((folders.train, True), (folders.val, False)):
            chosen = [part[names[number]] for number in shares[index]]
            labels = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor([len(files) for files in chosen]))
            files = [file for of_class in chosen for file in of_class]
            parts.append(ImageFiles(files, labels, augmented=augmented, seed=seed, task=index))
        return Task(index, shares[index], *parts)

    return make_task


def shared_out(classes: int, per_task: int, seed: int) -> list[tuple[int, ...]]:
    """The classes of each task: in order where there are ten, by a permutation that follows from `seed` where more."""
    order = np.arange(classes)
    if classes > _IN_ORDER:
        order = random_permutation(seed, Role.SPLIT, classes, layer=_CLASS_ORDER)
    return [tuple(order[first : first + per_task].tolist()) for first in range(0, classes - per_task + 1, per_task)]


def _rows_of_classes(source: DataSet, labels: np.ndarray, classes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Which images are of these classes, and their task-local labels. DataFormatError for a class without any."""
    local = np.full(source.classes, -1, dtype=np.int64)
    local[list(classes)] = np.arange(len(classes))
    found = local[labels]
    rows = np.flatnonzero(found >= 0)
    missing = set(classes) - set(labels[rows].tolist())
    if missing:
        raise DataFormatError(f"{source.name}: expected images of class {min(missing)}, found none")
    return torch.from_numpy(rows), torch.from_numpy(found[rows])


def _parts(source: DataSet) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Pixels and labels for training, and those for testing."""
    train, test = (
        (torch.from_numpy(pixels), torch.from_numpy(labels)) for pixels, labels in (source.train, source.test)
    )
    return train, test


def _split_of(source: DataSet, pixels: Tensor | Callable[[], Tensor], labels: Tensor, **indices: Tensor) -> Split:
    take = (lambda: pixels) if isinstance(pixels, Tensor) else pixels
    scale, shift = pixel_levels(source.mean, source.std, source.levels)
    return Split(labels, take, inputs=source.inputs, scale=scale, shift=shift, **indices)
