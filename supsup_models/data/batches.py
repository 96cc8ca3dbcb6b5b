"""In which order images come: seeded batches for training, and unlabelled ones."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore.philox import Role, random_permutation
from supsup_models.data.tasks import LabelledImages


def batch_order(seed: int, task: int, *, images: int, steps: int, batch_size: int) -> NDArray[np.int64]:
    """Image indices of every batch, `(steps, batch_size)` int64: epoch after epoch of seeded permutations, end to end.

    Epoch e of a task is the permutation at (seed, BATCH_ORDER, layer=e, stream=task).
    """
    needed = steps * batch_size
    epochs = [
        random_permutation(seed, Role.BATCH_ORDER, images, layer=epoch, stream=task)
        for epoch in range(-(-needed // images))
    ]
    return np.concatenate(epochs)[:needed].reshape(steps, batch_size)


Batches = Callable[[], Tensor]
"""Gives the next batch of unlabelled images, `(b, inputs)`."""


def task_seed(seed: int, index: int) -> int:
    """The seed of a task's batches: `seed` for the first, the next integers for the others, modulo 2**64."""
    return (seed + index) % 2**64


def unlabelled_batches(split: LabelledImages, batch: int, *, seed: int) -> Batches:
    """Batches of images in a random order fixed by `seed`, again from the start when all have been seen.

    The result gives images only: what recovery is handed can tell it neither labels nor the task.
    """
    return _Unlabelled(split, batch, seed)


class _Unlabelled:
    """Batch after batch, from where the last one ended."""

    def __init__(self, split: LabelledImages, batch: int, seed: int) -> None:
        self._split, self._batch = split, batch
        self._order = torch.from_numpy(random_permutation(seed, Role.SAMPLE, len(split)))
        self._position = 0

    def __call__(self) -> Tensor:
        if self._position + self._batch > len(self._order):
            self._position = 0
        chosen = self._order[self._position : self._position + self._batch]
        self._position += self._batch
        return torch.as_tensor(self._split.images(chosen), dtype=torch.float32)
