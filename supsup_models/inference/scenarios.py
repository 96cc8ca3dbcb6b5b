"""Evaluation in the scenarios GG, GNs, GNu and NNs of Wortsman et al. 2020, table 1.

| scenario | task identity at inference | an answer counts when |
|---|---|---|
| GG  | given | the label is right |
| GNs | not given, labels shared | the label is right |
| GNu | not given, labels not shared | label and task are right |
| NNs | not given, nor in training; labels shared | the label is right |

In NNs no mask has a task. For the report, and for nothing else, each mask is put down to the task that most of the
images it was chosen for are from; `task_accuracy` counts the images whose mask is their own task's by that rule.

`answer` makes predictions and sees images only; `evaluate` alone holds labels and true tasks, and compares.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import Mask, MaskMatrix
from supsup_models._names import check
from supsup_models.data import LabelledImages
from supsup_models.errors import InferenceError
from supsup_models.inference.infer import infer_each, infer_task
from supsup_models.inference.labelling import NO_EXTRAS, classify, labels_of
from supsup_models.inference.sampling import EvaluatedTask, chunks, group_sizes, sample_of, share_of, wilson
from supsup_models.networks import Extras, MaskedModel, TaskExtras

SCENARIOS = ("GG", "GNs", "GNu", "NNs")


@dataclass(frozen=True)
class Inference:
    """How tasks are inferred: `images` consecutive test images of one task share an inference.

    What is left at the end of a task makes a smaller group of its own; a single image that is left joins the group
    before it, because networks with normalisation layers need more than one.
    """

    method: str = "one-shot"
    objective: str | None = None
    """H or G; by default the network's own."""
    images: int = 1


@dataclass(frozen=True)
class TaskResult:
    """Fractions of one task's judged images whose answer counts, and whose task was found."""

    task: str
    accuracy: float
    task_accuracy: float
    images: int


@dataclass(frozen=True)
class Evaluation:
    """Means over tasks; `interval` is the 95 % Wilson interval of `accuracy` where only a sample was judged."""

    scenario: str
    tasks: int
    accuracy: float
    task_accuracy: float
    seconds_per_inference: float
    per_task: tuple[TaskResult, ...]
    inferences: int
    interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; the keys are part of the interface."""
        return asdict(self)


def mask_accuracy(model: MaskedModel, mask: Mask, data: LabelledImages, extras: Extras = None) -> float:
    """Fraction of images that get the right label under a given mask and its normalisation statistics, if any."""
    weights = model.masked_weights(mask)
    labels = np.asarray(data.labels)
    right = 0
    with torch.no_grad():
        for indices in chunks(np.arange(len(labels)), 1):
            images = data.images(torch.from_numpy(indices)).to(model.weights)
            right += int((labels_of(model, model.run_with(images, weights, extras)) == labels[indices]).sum())
    return right / len(labels)


def answer(
    model: MaskedModel, matrix: MaskMatrix, images: Tensor, inference: Inference, extras: TaskExtras = NO_EXTRAS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inferred rows of the matrix and labels, `(b,)` each, of unlabelled images, grouped in the order they come."""
    method, objective = inference.method, inference.objective
    if inference.images == 1:
        tasks = infer_each(model, matrix, images, method=method, objective=objective, extras=extras).tasks
    else:
        sizes = group_sizes(len(images), inference.images)
        guesses = [
            infer_task(model, matrix, group, method=method, objective=objective, extras=extras).task
            for group in images.split(sizes)
        ]
        tasks = np.repeat(np.asarray(guesses, dtype=np.int64), sizes)
    return tasks, labels_of(model, classify(model, matrix, images, tasks, extras))


def evaluate(
    model: MaskedModel,
    matrix: MaskMatrix,
    tasks: Sequence[EvaluatedTask],
    scenario: str,
    inference: Inference = Inference(),
    *,
    limit: int | None = None,
    seed: int = 0,
    on_task: Callable[[TaskResult], None] | None = None,
    extras: TaskExtras = NO_EXTRAS,
) -> Evaluation:
    """Judge the test images of every task. `matrix` holds a mask under each task's name (and may hold more).

    `extras` are the masks' normalisation statistics, by name: used wherever a single mask runs, as in GG, in exhaustive
    inference and to classify once the task is known, but not under a superposition (`infer_task`).

    In the scenario NNs the matrix' names mean nothing.

    `limit` judges that many inferences only, a sample drawn by `seed`, as many of each task as of any other.

    Raises UnknownNameError for other scenarios, methods or objectives, TaskNotFoundError for a task without a mask,
    InferenceError for no tasks, or a group size or limit below 1.
    """
    check("scenario", scenario, SCENARIOS)
    if inference.images < 1 or (limit is not None and limit < len(tasks)):
        raise InferenceError(
            f"evaluation: expected at least 1 image an inference and a limit of at least {len(tasks)}, one a task, "
            f"found {inference.images} images and limit {limit}"
        )
    if not len(tasks):
        raise InferenceError("evaluation: expected at least one task, found none")
    rows = None if scenario == "NNs" else [matrix.index(task.name) for task in tasks]
    judged = []
    for number, task in enumerate(tasks):
        share = share_of(limit, len(tasks), number)
        sample = sample_of(len(task.test.labels), inference.images, share, seed, number)
        given = None if scenario != "GG" or rows is None else rows[number]
        judged.append(_judge(model, matrix, task, sample, given, inference, extras))
        if on_task is not None and rows is not None:
            on_task(_score(judged[-1], task.name, judged[-1].rows == rows[number], scenario))
    if rows is None:
        owners = _majority([each.rows for each in judged], len(matrix))
        right_tasks = [owners[each.rows] == number for number, each in enumerate(judged)]
    else:
        right_tasks = [each.rows == row for row, each in zip(rows, judged, strict=True)]
    results = [
        _score(each, task.name, right_task, scenario)
        for each, task, right_task in zip(judged, tasks, right_tasks, strict=True)
    ]
    inferences = sum(each.inferences for each in judged)
    images = sum(result.images for result in results)
    right = sum(round(result.accuracy * result.images) for result in results)
    return Evaluation(
        scenario=scenario,
        tasks=len(tasks),
        accuracy=float(np.mean([result.accuracy for result in results])),
        task_accuracy=float(np.mean([result.task_accuracy for result in results])),
        seconds_per_inference=sum(each.seconds for each in judged) / inferences,
        per_task=tuple(results),
        inferences=inferences,
        # images of one inference are right or wrong together, so an interval may count inferences only
        interval=None if limit is None else wilson(right / images, inferences),
    )


@dataclass(frozen=True)
class _Judged:
    """Of one task's judged images: the rows of the masks chosen for them, and whether the labels are right."""

    rows: NDArray[np.int64]
    right_label: NDArray[np.bool_]
    seconds: float
    inferences: int


def _judge(
    model: MaskedModel,
    matrix: MaskMatrix,
    task: EvaluatedTask,
    sample: NDArray[np.int64],
    given: int | None,
    inference: Inference,
    extras: TaskExtras,
) -> _Judged:
    """Predict the sampled test images, under the mask of the `given` row if there is one, and compare the labels."""
    rows, right, seconds, inferences = [], [], 0.0, 0
    for chunk in chunks(sample, inference.images):
        images = task.test.images(torch.from_numpy(chunk)).to(model.weights)
        start = perf_counter()
        if given is None:
            found, labels = answer(model, matrix, images, inference, extras)
        else:
            found = np.full(len(chunk), given)
            labels = labels_of(model, classify(model, matrix, images, found, extras))
        seconds += perf_counter() - start
        inferences += len(group_sizes(len(chunk), inference.images))
        # From here on the truth is known.
        rows.append(found)
        right.append(labels == np.asarray(task.test.labels)[chunk])
    return _Judged(np.concatenate(rows), np.concatenate(right), seconds, inferences)


def _score(judged: _Judged, name: str, right_task: NDArray[np.bool_], scenario: str) -> TaskResult:
    counts = judged.right_label & right_task if scenario == "GNu" else judged.right_label
    return TaskResult(name, float(counts.mean()), float(right_task.mean()), len(counts))


def _majority(rows: Sequence[NDArray[np.int64]], masks: int) -> NDArray[np.int64]:
    """For each mask the position of the task that most of the images it was chosen for are from, `(masks,)`."""
    counts = np.stack([np.bincount(each, minlength=masks) for each in rows])  # (tasks, masks)
    return np.asarray(counts.argmax(axis=0))
