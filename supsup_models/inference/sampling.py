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
    """Whole groups and what is left, which joins the last group if it is a single image."""
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
    """Indices of the test images of each task that `evaluate` judges with these arguments, `images` an inference."""
    return [
        sample_of(len(task.test.labels), images, share_of(limit, len(tasks), number), seed, number)
        for number, task in enumerate(tasks)
    ]


def share_of(limit: int | None, tasks: int, number: int) -> int | None:
    return None if limit is None else limit // tasks + (number < limit % tasks)


def sample_of(images: int, group: int, limit: int | None, seed: int, task: int) -> NDArray[np.int64]:
    """Indices of the images to judge: all, or `limit` whole groups of consecutive images, drawn without replacement."""
    groups = -(-images // group)
    if limit is None or limit >= groups:
        return np.arange(images)
    chosen = np.sort(random_permutation(seed, Role.SAMPLE, groups, stream=task)[:limit])
    indices = (chosen[:, None] * group + np.arange(group)).reshape(-1)
    return indices[indices < images]


def chunks(indices: NDArray[np.int64], group: int) -> list[NDArray[np.int64]]:
    size = max(1, _CHUNK // group) * group
    starts = list(range(0, len(indices), size))
    if len(starts) > 1 and len(indices) - starts[-1] == 1:  # `group_sizes` finds it a group
        starts.pop()
    return np.split(indices, starts[1:])
