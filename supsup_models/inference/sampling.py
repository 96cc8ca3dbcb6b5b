"""Which test images an evaluation judges, and in what groups."""

from collections.abc import Sequence
from math import sqrt
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from maskstore.philox import Role, random_permutation
from supsup_models.data import LabelledImages

_CHUNK = 2048  # images taken from a data set and judged at a time


class EvaluatedTask(Protocol):
    """What evaluation needs of a task: the name its mask is stored under, and test images."""

    @property
    def name(self) -> str: ...
    @property
    def test(self) -> LabelledImages: ...


def group_sizes(images: int, group: int) -> list[int]:
    """Sizes of the groups that images are inferred in: whole groups, then a smaller one of the images that are left.

    A single image that is left joins the group before it, because normalisation layers need more than one.
    """
    sizes = [group] * (images // group)
    left = images % group
    if left == 1 and sizes:
        sizes[-1] += 1
    elif left:
        sizes.append(left)
    return sizes


def wilson(fraction: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a fraction seen in `count` independent trials; z = 1.96 gives 95 %."""
    centre = fraction + z * z / (2 * count)
    spread = z * sqrt(fraction * (1 - fraction) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def sampled(tasks: Sequence[EvaluatedTask], images: int, limit: int | None, seed: int) -> list[NDArray[np.int64]]:
    """Indices of the test images of each task that `evaluate` judges with these arguments.

    All of them, or, with a limit, whole groups of `images` consecutive ones, drawn without replacement: `limit` groups
    over all tasks, as many of each task as of any other.
    """
    found = []
    for number, task in enumerate(tasks):
        count = len(task.test.labels)
        indices, groups = np.arange(count), -(-count // images)
        share = groups if limit is None else limit // len(tasks) + (number < limit % len(tasks))
        if share < groups:
            chosen = np.sort(random_permutation(seed, Role.SAMPLE, groups, stream=number)[:share])
            indices = (chosen[:, None] * images + np.arange(images)).reshape(-1)
        found.append(indices[indices < count])
    return found


def chunks(indices: NDArray[np.int64], group: int) -> list[NDArray[np.int64]]:
    """Indices cut into chunks of whole groups, to bound the memory of an evaluation."""
    size = max(1, _CHUNK // group) * group
    starts = list(range(0, len(indices), size))
    if len(starts) > 1 and len(indices) - starts[-1] == 1:  # `group_sizes` finds it a group
        starts.pop()
    return np.split(indices, starts[1:])
