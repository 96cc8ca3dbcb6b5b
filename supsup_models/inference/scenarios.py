"""Evaluation in the scenarios GG, GNs, GNu and NNs of Wortsman et al. 2020, table 1.

| scenario | task identity at inference | an answer counts when |
|---|---|---|
| GG  | given | the label is right |
| GNs | not given, labels shared | the label is right |
| GNu | not given, labels not shared | label and task are right |
| NNs | not given, nor in training; labels shared | the label is right |

In NNs no mask has a task. Only for the report, each mask is counted for the task that most of the images it was chosen
for are from. `task_accuracy` then counts the images whose mask is their own task's.

`answer` makes predictions and sees images only. `evaluate` alone holds labels and true tasks, and compares.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskMatrix
from supsup_models._names import check, expect, expect_call, seed_of, whole_number
from supsup_models.data import Views, check_image_shape, checked_images
from supsup_models.errors import InferenceError
from supsup_models.inference.given import check_masks, check_tasks, check_views
from supsup_models.inference.infer import METHODS, infer_each, infer_task, usual_method
from supsup_models.inference.labelling import NO_EXTRAS, classify, labels_of
from supsup_models.inference.objectives import OBJECTIVES
from supsup_models.inference.sampling import EvaluatedTask, chunks, group_sizes, sampled, wilson
from supsup_models.networks import MaskedModel, TaskExtras

SCENARIOS = ("GG", "GNs", "GNu", "NNs")


@dataclass(frozen=True)
class Inference:
    """How an evaluation infers tasks.

    Attributes:
        method: A method of `infer_task`; by default what works in the network.
        objective: "H" or "G"; by default the network's own.
        images: How many consecutive test images of one task share an inference. Images that are left at the end of a
            task make a smaller group; a single one joins the group before it.
        views: The views of an image that task and label are inferred from, for the method "pairs". With views the label
            is the class that all of them together prefer.

    Raises:
        UnknownNameError: There is no such method or objective.
        InferenceError: There is less than one image.

    Examples:
        >>> from supsup_models import Inference
        >>> Inference("binary", images=16)
        Inference(method='binary', objective=None, images=16, views=None)
    """

    method: str | None = None
    objective: str | None = None
    images: int = 1
    views: Views | None = None

    def __post_init__(self) -> None:
        if self.method is not None:
            check("inference method", self.method, METHODS)
        if self.objective is not None:
            check("objective", self.objective, OBJECTIVES)
        if whole_number("images", self.images) < 1:
            raise InferenceError(f"inference: expected at least 1 image, found {self.images}")

    def chosen(self, model: MaskedModel, names: tuple[str, ...] = (), extras: TaskExtras = NO_EXTRAS) -> "Inference":
        """The same with nothing left open: the method and the objective that a network takes by default filled in.

        Args:
            model: The network.
            names: The names of the masks that inference chooses among.
            extras: Their extras, by name.
        """
        method = usual_method(model, self.views, names, extras) if self.method is None else self.method
        return replace(self, method=method, objective=model.objective if self.objective is None else self.objective)


@dataclass(frozen=True)
class TaskResult:
    """Of one task's judged images, the fractions whose answer counts and whose task was found.

    `given_accuracy` is what inference is to be compared with: the fraction of the same images whose label is right when
    the task is given. None in NNs, where no mask has a task.
    """

    task: str
    accuracy: float
    task_accuracy: float
    images: int
    given_accuracy: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; fractions are means over tasks.

    Attributes:
        scenario: GG, GNs, GNu or NNs.
        tasks: How many tasks were judged.
        accuracy: The fraction of images whose answer counts in the scenario.
        task_accuracy: The fraction of images whose task was found.
        seconds_per_inference: Wall-clock time, classification included.
        per_task: The result of each task.
        inferences: How many groups of images were judged.
        interval: The 95 % Wilson interval of the accuracy, where only a sample was judged; otherwise None.
        given_accuracy: The fraction of the same images whose label is right when the task is given. The difference to
            `accuracy` is what inference costs; the accuracy on other images, even on more of them, would not do. None
            in NNs, where no mask has a task.

    Examples:
        >>> from maskstore import MaskMatrix
        >>> from supsup_models import MaskedNetwork, Recipe, RMSProp, evaluate, open_stream, train_task
        >>> stream = open_stream("permuted-digits", tasks=2)
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0)
        >>> matrix, recipe = MaskMatrix(model.spec), Recipe("quick", RMSProp(4e-4))
        >>> for task in stream:
        ...     one = train_task(model, task.train, recipe, task=task.index, steps=30)
        ...     matrix.append(task.name, one.mask)
        >>> found = evaluate(model, matrix, stream, "GG")
        >>> [(each.task, each.images) for each in found.per_task]
        [('task-0', 360), ('task-1', 360)]
        >>> sorted(found.to_json())[:4]
        ['accuracy', 'given_accuracy', 'inferences', 'interval']
    """

    scenario: str
    tasks: int
    accuracy: float
    task_accuracy: float
    seconds_per_inference: float
    per_task: tuple[TaskResult, ...]
    inferences: int
    interval: tuple[float, float] | None = None
    given_accuracy: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; its keys are part of the interface."""
        return asdict(self)


def answer(
    model: MaskedModel, matrix: MaskMatrix, images: Tensor, inference: Inference, extras: TaskExtras = NO_EXTRAS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inferred rows of the matrix and labels, `(b,)` each, of unlabelled images, grouped in the order they come."""
    method, objective, views = inference.method, inference.objective, inference.views
    if inference.images == 1:
        tasks = infer_each(model, matrix, images, method=method, objective=objective, extras=extras, views=views).tasks
    else:
        sizes = group_sizes(len(images), inference.images)
        guesses = [
            infer_task(model, matrix, group, method=method, objective=objective, extras=extras, views=views).task
            for group in images.split(sizes)
        ]
        tasks = np.repeat(np.asarray(guesses, dtype=np.int64), sizes)
    return tasks, labels_of(model, classify(model, matrix, images, tasks, extras, views))


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
    """Judge the test images of tasks in a scenario.

    Args:
        model: The network.
        matrix: The masks, with one under each task's name and perhaps more. In NNs the names mean nothing.
        tasks: A stream, or some of its tasks.
        scenario: GG, GNs, GNu or NNs; `supsup_models.inference.scenarios` says what counts in each.
        inference: How tasks are inferred.
        limit: Judge so many inferences only, as many of each task as of any other.
        seed: What to draw this sample by.
        on_task: Called with the result of each task that was judged, except in NNs.
        extras: The masks' normalisation statistics, by name. They are used wherever a single mask runs: in GG, in
            exhaustive inference and to classify once the task is known, but not under a superposition.

    Raises:
        UnknownNameError: There is no such scenario.
        TaskNotFoundError: A task has no mask.
        ShapeError: The masks are of other layers than the network's.
        ArgumentTypeError: An argument is of a type that cannot be meant.
        InferenceError: There are no tasks, the limit is too small, or the objective is G and no output is superfluous.

    Source:
        Wortsman et al. 2020, "Supermasks in Superposition", table 1.

    Examples:
        >>> from maskstore import MaskMatrix
        >>> from supsup_models import Inference, MaskedNetwork, Recipe, RMSProp, evaluate, open_stream, train_task
        >>> stream = open_stream("permuted-digits", tasks=2)
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0)
        >>> matrix, recipe = MaskMatrix(model.spec), Recipe("quick", RMSProp(4e-4))
        >>> for task in stream:
        ...     one = train_task(model, task.train, recipe, task=task.index, steps=30)
        ...     matrix.append(task.name, one.mask)
        >>> found = evaluate(model, matrix, stream, "GNu", Inference("one-shot", images=16), limit=20)
        >>> found.inferences, found.task_accuracy, found.accuracy > 0.8
        (20, 1.0, True)
    """
    check_masks(model, matrix, extras)
    check_tasks(tasks)
    check("scenario", scenario, SCENARIOS)
    expect("inference", inference, Inference, "an Inference", str="Inference(method) makes one")
    if inference.views is not None:
        check_views(model, inference.views)
    limit = None if limit is None else whole_number("limit", limit)
    seed = seed_of("seed", seed)
    expect_call("on_task", on_task)
    if limit is not None and limit < len(tasks):
        raise InferenceError(f"evaluation: expected a limit of at least {len(tasks)}, one a task, found {limit}")
    if not len(tasks):
        raise InferenceError("evaluation: expected at least one task, found none")
    rows = None if scenario == "NNs" else [matrix.index(task.name) for task in tasks]
    judged, results = list[_Judged](), list[TaskResult]()
    for number, (task, sample) in enumerate(zip(tasks, sampled(tasks, inference.images, limit, seed), strict=True)):
        own = None if rows is None else rows[number]
        judged.append(_judge(model, matrix, task, sample, own, inference, extras, given=scenario == "GG"))
        if rows is not None:
            results.append(_score(judged[-1], task.name, judged[-1].rows == rows[number], scenario))
            if on_task is not None:
                on_task(results[-1])
    if rows is None:  # a mask belongs to the task that most of the images it was chosen for are from
        owners = np.argmax([np.bincount(each.rows, minlength=len(matrix)) for each in judged], axis=0)
        results = [
            _score(each, task.name, owners[each.rows] == number, scenario)
            for number, (task, each) in enumerate(zip(tasks, judged, strict=True))
        ]
    inferences = sum(each.inferences for each in judged)
    images = sum(result.images for result in results)
    right = sum(round(result.accuracy * result.images) for result in results)
    given = [result.given_accuracy for result in results if result.given_accuracy is not None]
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
        given_accuracy=float(np.mean(given)) if given else None,
    )


@dataclass(frozen=True)
class _Judged:
    """Of one task's judged images: the rows of the masks chosen for them, and whether the labels are right, under those
    masks and under the task's own mask (None in NNs)."""

    rows: NDArray[np.int64]
    right_label: NDArray[np.bool_]
    right_if_given: NDArray[np.bool_] | None
    seconds: float
    inferences: int


def _judge(
    model: MaskedModel,
    matrix: MaskMatrix,
    task: EvaluatedTask,
    sample: NDArray[np.int64],
    own: int | None,
    inference: Inference,
    extras: TaskExtras,
    *,
    given: bool,
) -> _Judged:
    """Predict the sampled test images and compare the labels.

    `own` is the row of the task's mask, None in NNs. Images are predicted under that mask if the task is `given`.
    """
    rows, right, right_if_given = list[NDArray[np.int64]](), list[NDArray[np.bool_]](), list[NDArray[np.bool_]]()
    seconds, inferences, views = 0.0, 0, inference.views
    check_image_shape(task.test, model)
    for chunk in chunks(sample, inference.images):
        images = checked_images(task.test.images(torch.from_numpy(chunk)), model)
        start = perf_counter()
        if given and own is not None:
            found = np.full(len(chunk), own)
            labels = labels_of(model, classify(model, matrix, images, found, extras, views))
        else:
            found, labels = answer(model, matrix, images, inference, extras)
        seconds += perf_counter() - start
        inferences += len(group_sizes(len(chunk), inference.images))
        # From here on the truth is known.
        true = np.asarray(task.test.labels)[chunk]
        rows.append(found)
        right.append(labels == true)
        if own is not None:
            under_own = np.full(len(chunk), own)
            same = bool((found == own).all())
            if_given = labels if same else labels_of(model, classify(model, matrix, images, under_own, extras, views))
            right_if_given.append(if_given == true)
    return _Judged(
        np.concatenate(rows),
        np.concatenate(right),
        None if own is None else np.concatenate(right_if_given),
        seconds,
        inferences,
    )


def _score(judged: _Judged, name: str, right_task: NDArray[np.bool_], scenario: str) -> TaskResult:
    counts = judged.right_label & right_task if scenario == "GNu" else judged.right_label
    given = None if judged.right_if_given is None else float(judged.right_if_given.mean())
    return TaskResult(name, float(counts.mean()), float(right_task.mean()), len(counts), given)
