"""Baselines under the same rules: the same batches, the same test images, bytes by their own account."""

from collections.abc import Callable
from math import prod

import numpy as np

from benchmarks.storage.cases import MODEL, OUTPUTS, SEED, Case, Place
from benchmarks.storage.results import Row
from supsup_models.data.streams import open_stream
from supsup_models.data.tasks import Task
from supsup_models.experiments.baselines import Baseline, BaselineConfig
from supsup_models.networks import ARCHITECTURES

_CHUNK = 500  # images judged at a time


def measure_baseline(make: Callable[[BaselineConfig], Baseline], title: str, case: Case, place: Place) -> Row:
    """Fit every task in turn, then judge all. Parameters are the masked network's, so that bits can be compared."""
    architecture = ARCHITECTURES[MODEL]
    stream = open_stream(case.stream, tasks=case.tasks, seed=SEED, data=place.data)
    baseline = make(BaselineConfig(stream.inputs, stream.classes, architecture.hidden, steps=case.batches, seed=SEED))
    for task in stream:
        baseline.fit(task)
    judged = [_judge(baseline, task, number) for number, task in enumerate(stream)]
    given, inferred, found = np.mean(judged, axis=0).tolist()
    parameters = sum(prod(shape) for shape in architecture.shapes(stream.inputs, OUTPUTS).values())
    return Row(title, "baseline", {"numbers": baseline.bytes()}, case.tasks, parameters, given, inferred, found)


def _judge(baseline: Baseline, task: Task, number: int) -> tuple[float, float, float]:
    """Over one task's test images: accuracy with the task given; without, task and label right; the task right."""
    counts = np.zeros(3)
    for first in range(0, len(task.test), _CHUNK):
        chosen = slice(first, first + _CHUNK)
        images, labels = task.test.images(chosen), task.test.labels[chosen].numpy()
        counts[0] += (baseline.predict(images, number)[1] == labels).sum()
        tasks, answers = baseline.predict(images)
        counts[1] += ((tasks == number) & (answers == labels)).sum()
        counts[2] += (tasks == number).sum()
    given, inferred, found = (counts / len(task.test)).tolist()
    return given, inferred, found
