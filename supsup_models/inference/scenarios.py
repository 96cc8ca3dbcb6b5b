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
from functools import partial
from math import sqrt
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import Mask, MaskMatrix
from maskstore.philox import Role, random_permutation
from supsup_models._names import check
from supsup_models.data import LabelledImages
from supsup_models.errors import InferenceError
from supsup_models.inference.infer import infer_task
from supsup_models.inference.superposition import NO_EXTRAS, run_each
from supsup_models.networks import Extras, MaskedModel, TaskExtras

SCENARIOS = ("GG", "GNs", "GNu", "NNs")
_CHUNK = 2048  # images taken from a data set and judged at a time


class EvaluatedTask(Protocol):
    """What evaluation needs of a task: the name its mask is stored under, and test images."""

    @property
    def name(self) -> str: ...
    @property
    def test(self) -> LabelledImages: ...


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


def classify(
    model: MaskedModel, matrix: MaskMatrix, images: Tensor, tasks: NDArray[np.int64], extras: TaskExtras = NO_EXTRAS
) -> Tensor:
    """Softmax `(b, outputs)` of each image under the mask of its own row of the matrix, `tasks` `(b,)`.

    `extras` are the masks' normalisation statistics, by name.
    """
    return torch.softmax(run_each(model, matrix, images, tasks, extras), dim=1)


def labels_of(model: MaskedModel, outputs: Tensor) -> NDArray[np.int64]:
    """The likeliest real class from logits or probabilities, `(b, outputs)` -> `(b,)`; never a superfluous output."""
    labels: NDArray[np.int64] = outputs[:, : model.classes].argmax(dim=1).cpu().numpy()
    return labels


def mask_accuracy(model: MaskedModel, mask: Mask, data: LabelledImages, extras: Extras = None) -> float:
    """Fraction of images that get the right label under a given mask and its normalisation statistics, if any."""
    weights = model.masked_weights(mask)
    labels = np.asarray(data.labels)
    right = 0
    with torch.no_grad():
        for indices in _chunks(np.arange(len(labels)), 1):
            images = data.images(torch.from_numpy(indices)).to(model.weights)
            right += int((labels_of(model, model.run_with(images, weights, extras)) == labels[indices]).sum())
    return right / len(labels)


def answer(
    model: MaskedModel, matrix: MaskMatrix, images: Tensor, inference: Inference, extras: TaskExtras = NO_EXTRAS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inferred rows of the matrix and labels, `(b,)` each, of unlabelled images, grouped in the order they come."""
    infer = partial(infer_task, model, matrix, method=inference.method, objective=inference.objective, extras=extras)
    if inference.images == 1:
        tasks = np.asarray(infer(images, per_image=True).task)
    else:
        sizes = _group_sizes(len(images), inference.images)
        guesses = [infer(group).task for group in images.split(sizes)]
        tasks = np.repeat(np.asarray(guesses, dtype=np.int64), sizes)
    return tasks, labels_of(model, classify(model, matrix, images, tasks, extras))


def _group_sizes(images: int, group: int) -> list[int]:
    """Whole groups and what is left, which joins the last group if it is a single image."""
    sizes = [group] * (images // group)
    left = images % group
    if left == 1 and sizes:
        sizes[-1] += 1
    elif left:
        sizes.append(left)
    return sizes


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
        share = _share(limit, len(tasks), number)
        sample = _sample(len(task.test.labels), inference.images, share, seed, number)
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
    for chunk in _chunks(sample, inference.images):
        images = task.test.images(torch.from_numpy(chunk)).to(model.weights)
        start = perf_counter()
        if given is None:
            found, labels = answer(model, matrix, images, inference, extras)
        else:
            found = np.full(len(chunk), given)
            labels = labels_of(model, classify(model, matrix, images, found, extras))
        seconds += perf_counter() - start
        inferences += len(_group_sizes(len(chunk), inference.images))
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


def wilson(fraction: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a fraction seen in `count` independent trials; z = 1.96 gives 95 %."""
    centre = fraction + z * z / (2 * count)
    spread = z * sqrt(fraction * (1 - fraction) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def sampled(tasks: Sequence[EvaluatedTask], images: int, limit: int | None, seed: int) -> list[NDArray[np.int64]]:
    """Indices of the test images of each task that `evaluate` judges with these arguments, `images` an inference."""
    return [
        _sample(len(task.test.labels), images, _share(limit, len(tasks), number), seed, number)
        for number, task in enumerate(tasks)
    ]


def _share(limit: int | None, tasks: int, number: int) -> int | None:
    return None if limit is None else limit // tasks + (number < limit % tasks)


def _sample(images: int, group: int, limit: int | None, seed: int, task: int) -> NDArray[np.int64]:
    """Indices of the images to judge: all, or `limit` whole groups of consecutive images, drawn without replacement."""
    groups = -(-images // group)
    if limit is None or limit >= groups:
        return np.arange(images)
    chosen = np.sort(random_permutation(seed, Role.SAMPLE, groups, stream=task)[:limit])
    indices = (chosen[:, None] * group + np.arange(group)).reshape(-1)
    return indices[indices < images]


def _chunks(indices: NDArray[np.int64], group: int) -> list[NDArray[np.int64]]:
    size = max(1, _CHUNK // group) * group
    starts = list(range(0, len(indices), size))
    if len(starts) > 1 and len(indices) - starts[-1] == 1:  # `_group_sizes` finds it a group
        starts.pop()
    return np.split(indices, starts[1:])
