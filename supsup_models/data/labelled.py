"""Labelled images in the forms that people have them in: arrays, torch data sets, data loaders."""

from collections.abc import Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, default_collate

from supsup_models._names import found
from supsup_models.data.arrays import as_array, collected, make_split
from supsup_models.data.tasks import LabelledImages, Task
from supsup_models.errors import ArgumentTypeError, TaskDataError


def labelled_images(data: Any, what: str = "data") -> LabelledImages:
    """Labelled images as training and evaluation take them.

    - What has `images`, `labels` and `to`, such as `task.train`, is returned as it is.
    - A pair of arrays (images, labels), a torch data set of such pairs, or a data loader over one is copied into a
      `Split`: uint8 images are divided by 255, others are taken as float32 as they are.

    A loader that draws from its data set in order or shuffled stands for the data set, because training has an order of
    its own. Any other is gone through once, and what it gives is taken.

    Raises:
        ArgumentTypeError: For anything else.
        TaskDataError: For images and labels that do not make a task.
    """
    if all(hasattr(data, name) for name in ("images", "labels", "to")):
        taken: LabelledImages = data
        return taken
    if isinstance(data, Task):
        raise ArgumentTypeError(f"{what}: expected labelled images, found Task; task.train and task.test have them")
    if isinstance(data, DataLoader):
        images, labels = _of_loader(data, what)
    elif isinstance(data, tuple | list) and len(data) == 2:
        images, labels = data
    elif hasattr(data, "__getitem__") and isinstance(data, Sized) and not isinstance(data, str | bytes | dict):
        images, labels = collected(data, what)
    else:
        says = "labelled images: a task's, a pair of arrays, a torch data set or a data loader"
        raise ArgumentTypeError(f"{what}: expected {says}, found {found(data)}")
    return make_split(images, labels, what, mean=0.0, std=1.0)


def _of_loader(loader: "DataLoader[Any]", what: str) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """All images and labels that a loader stands for."""
    plain = isinstance(loader.sampler, SequentialSampler) or (
        isinstance(loader.sampler, RandomSampler)
        and not loader.sampler.replacement
        and loader.sampler.num_samples == len(loader.sampler.data_source)
    )
    if plain and loader.collate_fn is default_collate and not loader.drop_last:
        return collected(loader.dataset, what)
    images, labels = [], []
    for number, batch in enumerate(loader):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise TaskDataError(f"{what}: expected batches of (images, labels), found {found(batch)} at {number}")
        images.append(as_array(batch[0], f"{what}, images of batch {number}"))
        labels.append(as_array(batch[1], f"{what}, labels of batch {number}"))
        if not labels[-1].ndim:
            raise TaskDataError(f"{what}: expected batches, found single images; give the loader a batch_size")
    shapes = sorted({array.shape[1:] for array in images})
    if len(shapes) != 1:
        seen = f"{shapes[0]} and {shapes[1]}" if shapes else "an empty loader"
        raise TaskDataError(f"{what}: expected images of one shape, found {seen}")
    return np.concatenate(images), np.concatenate(labels)
