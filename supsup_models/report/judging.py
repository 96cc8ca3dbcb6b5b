"""What a run's test images say: accuracy with inferred tasks against their number, and which task is taken for which.

The only part of a report that needs torch and the data set.
"""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from maskstore import MaskMatrix
from supsup_models._progress import Reporter, Reporting
from supsup_models.errors import DataFormatError, DataNotFoundError, RunError
from supsup_models.inference import (
    EvaluatedTask,
    Evaluation,
    Inference,
    answer,
    classify,
    evaluate,
    infer_each,
    labels_of,
    sampled,
)
from supsup_models.report.judged import Judged, NoData, Sureness
from supsup_models.runs import LoadedRun, RunRecord, load_run

DEFAULT_LIMIT = 1000  # inferences at each number of tasks: a 95 % interval of ±3 points at most
_STEPS = 8  # numbers of tasks at which inference is tried


def judge_run(
    folder: Path | LoadedRun,
    inference: Inference,
    *,
    limit: int | None = None,
    data: Path | None = None,
    download: bool = False,
    device: str = "auto",
    immutable: bool = False,
    reporter: Reporting = Reporter,
) -> Judged | NoData:
    """Judge a run on `limit` inferences at each number of tasks, evenly over the tasks (1000, or one a task).

    Where no `data` folder is named and the data set is in none of the usual places, the answer is NoData. A folder
    that is named must hold it, unless `download` fetches it: DataNotFoundError, DataFormatError or RunError (another
    data set) otherwise.
    InferenceError for a limit of less than one inference a task.
    """
    own = None if isinstance(folder, LoadedRun) else RunRecord.read(folder).own
    if own is not None and (own.network is not None or own.data is not None):
        reason = f"{folder}: made in Python; `make_report(Run.open(folder, model, stream))` judges it"
        return NoData("the run's caller", reason, python=True)
    run = folder if isinstance(folder, LoadedRun) else load_run(folder, device, immutable=immutable)
    try:
        stream = run.stream(data, download)
    except (DataNotFoundError, DataFormatError, RunError) as error:
        if data is not None:
            raise
        return NoData(str(run.record.stream.get("data_set", run.record.config.stream)), str(error))
    tasks = run.tasks(stream)
    limit = max(DEFAULT_LIMIT, len(tasks)) if limit is None else limit
    return _judge(
        run, tasks, run.with_views(inference).chosen(run.model, run.matrix.names, run.extras), limit, reporter
    )


def _judge(
    run: LoadedRun,
    tasks: Sequence[EvaluatedTask],
    inference: Inference,
    limit: int,
    reporter: Reporting,
) -> Judged:
    seed = run.record.config.seed
    identity = run.record.config.task_identity
    # the columns of the confusion in the order of the tasks, so that its diagonal is a diagonal
    matrix = run.matrix.select([task.name for task in tasks]) if identity else run.matrix
    scenario = "GNu" if identity else "NNs"
    counts = _counts(len(tasks)) if identity else [len(tasks)]
    steps = list[Evaluation]()
    with reporter("judging", sum(counts) + len(tasks)) as report:
        if note := run.objective_note(inference):
            report.line(note)
        for number, count in enumerate(counts):
            known = matrix.select(range(count)) if identity else matrix
            part = tasks[:count]
            needed = _needed(part, inference, limit)
            steps.append(
                evaluate(run.model, known, part, scenario, inference, limit=needed, seed=seed, extras=run.extras)
            )
            report.at(sum(counts[: number + 1]))
        confusion = np.zeros((len(tasks), len(matrix)), dtype=np.int64)
        singles = list[Sureness]()
        for number, (task, rows) in enumerate(zip(tasks, sampled(tasks, inference.images, limit, seed), strict=True)):
            images = task.test.images(torch.from_numpy(rows)).to(run.model.weights)
            if inference.images == 1:
                labels = task.test.labels[torch.from_numpy(rows)].numpy()
                named, sure = _one_by_one(run, matrix, images, labels, inference, number if identity else None)
                singles.append(sure)
            else:
                named = answer(run.model, matrix, images, inference, run.extras)[0]
            confusion[number] = np.bincount(named, minlength=len(matrix))
            report.at(sum(counts) + number + 1)
    return Judged(inference, tuple(steps), matrix.names, confusion, _joined(singles))


def _one_by_one(
    run: LoadedRun,
    matrix: MaskMatrix,
    images: torch.Tensor,
    labels: NDArray[np.int64],
    inference: Inference,
    task: int | None,
) -> tuple[NDArray[np.int64], Sureness]:
    """The masks chosen for single images, and how sure the answers are; `task` is the right row, if there is one."""
    method, objective, views = inference.method, inference.objective, inference.views
    guesses = infer_each(run.model, matrix, images, method=method, objective=objective, extras=run.extras, views=views)
    shares = classify(run.model, matrix, images, guesses.tasks, run.extras, views)
    answers = labels_of(run.model, shares)
    given = shares[torch.arange(len(answers)), torch.from_numpy(answers)].double().cpu().numpy()
    scores = guesses.scores.astype(np.float64)
    finite = scores[np.isfinite(scores).all(axis=1)] if task is not None and len(matrix) > 1 else scores[:0]
    first, second = np.sort(finite, axis=1)[:, :-3:-1].T if len(finite) else (np.zeros(0), np.zeros(0))
    margins = (first - second) / np.maximum(finite.std(axis=1), 1e-30) if len(finite) else np.zeros(0)
    found = guesses.tasks[np.isfinite(scores).all(axis=1)][: len(finite)] == task
    return guesses.tasks, Sureness(margins, found, np.clip(given, 0, 1), answers == labels)


def _joined(parts: Sequence[Sureness]) -> Sureness | None:
    if not parts:
        return None
    return Sureness(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Sureness)))


def _needed(tasks: Sequence[EvaluatedTask], inference: Inference, limit: int) -> int | None:
    """The limit, or None where it leaves no image out: such figures are exact, and have no interval."""
    share = limit // len(tasks)
    return None if all(len(task.test) <= share * inference.images for task in tasks) else limit


def _counts(tasks: int) -> list[int]:
    """Up to `_STEPS` numbers of tasks, evenly spaced and ending with all; a single task is no choice to make."""
    return sorted({round(count) for count in np.linspace(min(2, tasks), tasks, _STEPS).tolist()})
