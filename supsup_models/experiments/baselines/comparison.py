"""Fit a baseline on a stream and judge it: accuracy with and without the task given, bytes, seconds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from supsup_models.data import Task
from supsup_models.experiments.baselines.base import Baseline

_CHUNK = 500  # images judged at a time


@dataclass(frozen=True)
class Compared:
    """One row of the table. Accuracies are means over tasks after the last one; GNs and GNu None where it applies not.

    `bytes` is what must be kept, `seconds` the time of training all tasks.
    """

    method: str
    tasks: int
    GG: float
    GNs: float | None
    GNu: float | None
    bytes: int
    seconds: float


def compare(
    baseline: Baseline, stream: Sequence[Task], *, limit: int | None = None, on_task: Callable[[], None] | None = None
) -> Compared:
    """Fit every task in turn, then judge all; `limit` judges only so many test images of each."""
    start = perf_counter()
    for task in stream:
        baseline.fit(task)
        if on_task is not None:
            on_task()
    seconds = perf_counter() - start
    right = [judge(baseline, task, number, limit) for number, task in enumerate(stream)]
    GG, GNs, GNu = np.mean(right, axis=0).tolist()
    found = baseline.finds_tasks
    return Compared(
        baseline.name, len(stream), GG, GNs if found else None, GNu if found else None, baseline.bytes(), seconds
    )


def judge(baseline: Baseline, task: Task, number: int, limit: int | None) -> tuple[float, float, float]:
    """Accuracy on one task's test images in GG, GNs and GNu; nan where the method does not find tasks."""
    labels = np.asarray(task.test.labels)[:limit]
    counts = np.zeros(3)
    for first in range(0, len(labels), _CHUNK):
        truth = labels[first : first + _CHUNK]
        images = task.test.images(slice(first, first + len(truth)))
        counts[0] += (baseline.predict(images, number)[1] == truth).sum()
        if baseline.finds_tasks:
            tasks, found = baseline.predict(images)
            counts[1:] += (found == truth).sum(), ((found == truth) & (tasks == number)).sum()
    given, shared, unshared = (counts / len(labels)).tolist()
    return given, shared, unshared
