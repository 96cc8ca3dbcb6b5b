"""How each kind of stream makes its tasks: pixels permuted, images rotated or transformed, classes shared out.

What makes them is data and no closure, so streams and tasks can be sent to other processes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from maskstore.philox import Role, random_permutation
from supsup_models.data.augment import Augmented
from supsup_models.data.names import ROTATION_STEP, classes_per_split
from supsup_models.data.rotation import Rotations
from supsup_models.data.sets import ClassFolders, DataSet, ImageFiles
from supsup_models.data.tasks import Held, Levels, Split, Task, TaskImages, pixel_levels
from supsup_models.data.transforms import PATCHES, TRANSFORMATIONS, patch_order, turn_order
from supsup_models.errors import DataFormatError

MakeTask = Callable[[int], Task]
_PATCHED = 1  # layer of the random stream that orders patches; layer 0 orders pixels
_CLASS_ORDER = 1  # layer of the random stream that shares out classes; layer 0 splits the digits for testing
_IN_ORDER = 10  # data sets of so many classes are shared out in order, 0 and 1, 2 and 3, ..., as published


@dataclass(frozen=True, eq=False)
class Permuted:
    """Task t sees all images with their pixels in the order that `seed` and t give."""

    source: DataSet
    seed: int

    def __call__(self, index: int) -> Task:
        order = random_permutation(self.seed, Role.PERMUTATION, self.source.inputs, stream=index)
        return _all_classes(self.source, index, torch.from_numpy(order))


def permuted(source: DataSet, seed: int) -> MakeTask:
    """`Permuted`; a seed out of range is refused now, not after the first hour."""
    make_task = Permuted(source, seed)
    make_task(0)
    return make_task


@dataclass(frozen=True, eq=False)
class Rotated:
    """Task t sees all images rotated counter-clockwise by 10 t degrees."""

    source: DataSet
    rotations: tuple[Rotations, Rotations]
    """Of the images for training and of those for testing."""

    def __call__(self, index: int) -> Task:
        degrees = float(ROTATION_STEP * index)
        labels = (torch.from_numpy(self.source.train.labels), torch.from_numpy(self.source.test.labels))
        pairs = zip(self.rotations, labels, strict=True)
        splits = (_split_of(self.source, partial(at, degrees), own) for at, own in pairs)
        return Task(index, tuple(range(self.source.classes)), *splits)


def rotated(source: DataSet) -> MakeTask:
    """`Rotated`."""
    _, height, width = source.image_shape
    train, test = (Rotations(part.images, height, width) for part in (source.train, source.test))
    return Rotated(source, (train, test))


@dataclass(frozen=True, eq=False)
class Transformed:
    """Task t sees all images under transformation t of `TRANSFORMATIONS`."""

    source: DataSet

    def __call__(self, index: int) -> Task:
        quarters, mirrored, inverted = TRANSFORMATIONS[index]
        columns = torch.from_numpy(turn_order(self.source.image_shape, quarters, mirrored))
        return _all_classes(self.source, index, columns, inverted=inverted)


@dataclass(frozen=True, eq=False)
class Patched:
    """Task t sees all images cut into 16 patches, in the order that `seed` and t give; task 0 sees them as stored."""

    source: DataSet
    seed: int

    def __call__(self, index: int) -> Task:
        order = np.arange(PATCHES * PATCHES)
        if index:
            order = random_permutation(self.seed, Role.PERMUTATION, len(order), layer=_PATCHED, stream=index)
        return _all_classes(self.source, index, torch.from_numpy(patch_order(self.source.image_shape, order)))


@dataclass(frozen=True, eq=False)
class Whole:
    """The one task sees all images as they are stored."""

    source: DataSet

    def __call__(self, index: int) -> Task:
        return _all_classes(self.source, index, None)


@dataclass(frozen=True, eq=False)
class TakingTurns:
    """Task t is the next one of the data set whose turn it is: with two, task 2 i and 2 i + 1 are task i of each."""

    kinds: Sequence[MakeTask]

    def __call__(self, index: int) -> Task:
        of_one, turn = divmod(index, len(self.kinds))
        return replace(self.kinds[turn](of_one), index=index)


def alike(sources: Sequence[DataSet]) -> list[DataSet]:
    """Data sets of one shape with one normalisation: whoever asks for an image's task does not know its data set.

    Mean and std are those of all training pixels, each data set counted alike. DataFormatError for several shapes.
    """
    shapes = {(source.image_shape, source.levels) for source in sources}
    if len(shapes) != 1:
        raise DataFormatError(f"data sets: expected images of one shape, found {sorted(shapes)}")
    levels = np.array([(source.mean, source.std) for source in sources])  # grey images: a number each
    mean = levels[:, 0].mean()
    std = np.sqrt((levels**2).sum(axis=1).mean() - mean**2)
    return [replace(source, mean=round(float(mean), 4), std=round(float(std), 4)) for source in sources]


@dataclass(frozen=True, eq=False)
class SplitClasses:
    """Task t sees its own classes; colour images are augmented in training."""

    source: DataSet
    seed: int
    shares: Sequence[tuple[int, ...]]

    def __call__(self, index: int) -> Task:
        source, share = self.source, self.shares[index]
        splits: list[TaskImages] = []
        for pixels, labels in _parts(source):
            rows, local = _rows_of_classes(source, labels.numpy(), share)
            splits.append(_split_of(source, Held(pixels), local, rows=rows))
        if source.image_shape[0] > 1:
            splits[0] = Augmented(splits[0], source.image_shape, seed=self.seed, task=index)
        return Task(index, share, *splits)


def split(source: DataSet, seed: int) -> MakeTask:
    """`SplitClasses`, with the classes shared out by `seed`."""
    return SplitClasses(source, seed, shared_out(source.classes, classes_per_split(source.name), seed))


def of_kind(kind: str, source: DataSet, seed: int) -> MakeTask:
    """What makes the tasks of a kind of stream over a data set."""
    makers: dict[str, Callable[[], MakeTask]] = {
        "permuted": lambda: permuted(source, seed),
        "rotated": lambda: rotated(source),
        "split": lambda: split(source, seed),
        "transformed": lambda: Transformed(source),
        "patched": lambda: Patched(source, seed),
        "datasets": lambda: Whole(source),
    }
    return makers[kind]()


@dataclass(frozen=True, eq=False)
class SplitFolders:
    """Task t sees the image files of its own classes."""

    folders: ClassFolders
    seed: int
    shares: Sequence[tuple[int, ...]]

    def __call__(self, index: int) -> Task:
        parts, names, share = [], self.folders.names, self.shares[index]
        for part, augmented in ((self.folders.train, True), (self.folders.val, False)):
            chosen = [part[names[number]] for number in share]
            labels = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor([len(files) for files in chosen]))
            files = [file for of_class in chosen for file in of_class]
            parts.append(ImageFiles(files, labels, augmented=augmented, seed=self.seed, task=index))
        return Task(index, share, *parts)


def split_folders(folders: ClassFolders, seed: int) -> MakeTask:
    """`SplitFolders`, with the classes shared out by `seed`."""
    return SplitFolders(folders, seed, shared_out(len(folders.names), classes_per_split("imagenet"), seed))


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


def _all_classes(source: DataSet, index: int, columns: Tensor | None, *, inverted: bool = False) -> Task:
    """A task of all classes and images; `columns` is the order of their pixels."""
    splits = [_split_of(source, Held(pixels), labels, columns=columns) for pixels, labels in _parts(source)]
    if inverted:  # pixel * scale + shift of levels - pixel
        scale, shift = (np.asarray(each) for each in pixel_levels(source.mean, source.std, source.levels))
        of_levels, black = _levels(-scale), _levels(shift + scale * source.levels)
        splits = [replace(each, scale=of_levels, shift=black) for each in splits]
    return Task(index, tuple(range(source.classes)), *splits)


def _levels(values: np.ndarray) -> Levels:
    """A number for all pixels, or one for each channel."""
    return tuple(values.tolist()) if values.ndim else float(values)


def _split_of(
    source: DataSet,
    pixels: Callable[[], Tensor],
    labels: Tensor,
    *,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
) -> Split:
    scale, shift = pixel_levels(source.mean, source.std, source.levels)
    return Split(labels, pixels, inputs=source.inputs, scale=scale, shift=shift, rows=rows, columns=columns)
