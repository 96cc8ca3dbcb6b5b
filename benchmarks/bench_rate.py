"""Bits against accuracy against task inference: `pytest benchmarks/ -k rate -s --full`.

LeNet-300-100 with 100 outputs, 1000 batches of 128 a task unless said. Bits are payload and side information under the
`mix` codec, as `maskstore compact --level max` writes them; the last benchmark weighs the whole file. Needs MNIST, and
for the rows on Fashion-MNIST that, where `open_stream` looks for them. `--full` trains 5 tasks a point, 3 tasks for up
to 8000 batches, and a bank of 100, more than an hour on two cores; without, one task a point and a bank of 4.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskstore import MaskBank, MaskMatrix
from maskstore.bank.accounting import account
from maskstore.bank.compaction import compact
from supsup_models import infer_each
from supsup_models.data.streams import TaskStream, open_stream
from supsup_models.errors import DataNotFoundError
from supsup_models.inference.labelling import mask_accuracy
from supsup_models.inference.scenarios import Inference
from supsup_models.runs.evaluate import evaluate_run
from supsup_models.runs.record import RunConfig, bank_path
from supsup_models.runs.train import train_run
from supsup_models.training.many import train_many
from supsup_models.training.recipes import RECIPES, Recipe
from supsup_models.training.target_density import coded_bits
from supsup_models.training.task import NumberedTask

IMAGES = 400  # of each task, for inference among the tasks of a point
POINTS = {  # density: least accuracy, most bits (on permuted MNIST)
    0.05: (0.97, 0.35),
    0.04: (0.965, 0.20),
    0.025: (0.95, 0.10),
}
LONGER = {0.05: 0.98, 0.025: 0.97}
"""Least accuracy after the longest training (on permuted MNIST), by density."""


def report(*cells: object) -> None:
    print("\n| " + " | ".join(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", end="")


@contextmanager
def found() -> Iterator[None]:
    """Skips, with the reason, where a data set is not on this machine."""
    try:
        yield
    except DataNotFoundError as error:
        pytest.skip(f"needs a data set: {error}")


def data_of(stream: str) -> Path | None:
    """Fashion-MNIST is looked for in its usual places; the variable may name a folder with MNIST alone."""
    return (
        None if "fashion" in stream else Path(os.environ["MASKSTORE_DATA"]) if "MASKSTORE_DATA" in os.environ else None
    )


def trained(stream: TaskStream, recipe: Recipe, tasks: int, steps: int = 1000) -> tuple[float, float, float]:
    """Mean accuracy, mean bits per parameter, and how often one-shot names the task of one image."""
    model = recipe.network("lenet-300-100", inputs=stream.inputs, outputs=100, classes=stream.classes, seed=0)
    matrix, accuracies, bits = MaskMatrix(model.spec), [], []
    numbered = [NumberedTask(task.index, task.train) for task in stream][:tasks]
    for task, result in zip(stream, train_many(model, numbered, recipe, steps=steps), strict=False):
        matrix.append(task.name, result.mask)
        accuracies.append(mask_accuracy(model, result.mask, task.test))
        bits.append(coded_bits(result.mask, result.prior))
    hits = [
        np.mean(infer_each(model, matrix, task.test.images(slice(0, IMAGES))).tasks == task.index)
        for task in list(stream)[:tasks]
    ]
    return float(np.mean(accuracies)), float(np.mean(bits)), float(np.mean(hits))


@pytest.mark.parametrize("stream_name", ["permuted-mnist", "permuted-fashion-mnist"])
def test_rate_frontier(stream_name: str, full: bool) -> None:
    tasks = 5 if full else 1
    with found():
        stream = open_stream(stream_name, tasks=tasks, seed=0, data=data_of(stream_name))
    report(f"{stream_name}, mean of {tasks}", "accuracy, task given", "bits per parameter", "one-shot, one image")
    report("---", "---", "---", "---")
    for name in ("paper", "dense"):
        report(f"{name} recipe (bit-packed: 1)", *trained(stream, RECIPES[name], tasks))
    default = RECIPES["default"]
    assert default.sparse is not None
    for density, (least, most) in POINTS.items():
        recipe = replace(default, sparse=replace(default.sparse, density=density))
        accuracy, bits, one_shot = trained(stream, recipe, tasks)
        report(f"default recipe, density {density:g}", accuracy, bits, one_shot)
        assert bits <= most
        if stream_name == "permuted-mnist" and full:
            assert accuracy >= least


@pytest.mark.parametrize("density", LONGER)
def test_rate_and_more_training(density: float, full: bool) -> None:
    """Twice the batches give more accuracy, in a few more bits."""
    tasks, lengths = (3, (1000, 2000, 4000, 8000)) if full else (1, (100, 200))
    with found():
        stream = open_stream("permuted-mnist", tasks=tasks, seed=0, data=data_of("permuted-mnist"))
    recipe = RECIPES["default"]
    assert recipe.sparse is not None
    recipe = replace(recipe, sparse=replace(recipe.sparse, density=density))
    report(
        f"default recipe, density {density:g}, mean of {tasks}",
        "accuracy, task given",
        "bits per parameter",
        "one-shot",
    )
    accuracies = []
    for steps in lengths:
        accuracy, bits, one_shot = trained(stream, recipe, tasks, steps)
        report(f"{steps} batches", accuracy, bits, one_shot)
        accuracies.append(accuracy)
    assert accuracies == sorted(accuracies)
    if full:
        assert accuracies[-1] >= LONGER[density]


def test_rate_of_a_bank_and_its_tasks_inferred(tmp_path: Path, full: bool) -> None:
    tasks, judged = (100, 20_000) if full else (4, 2000)
    config = RunConfig(
        "permuted-mnist", tasks, "lenet-300-100", 100, 1000, "default", 0, density=0.05, sparsity="equal"
    )
    data = data_of(config.stream)
    with found():
        run = train_run(replace(config, tasks=tasks // 2), tmp_path, data=data)
    for count in (tasks // 2, tasks):
        if count == tasks:
            run = train_run(config, tmp_path, data=data)  # goes on with the other half
        given = evaluate_run(tmp_path, "GG", Inference(), limit=judged, data=data)
        report(f"{count} tasks", "accuracy", "task found")
        report("task given", given.accuracy, "")
        for method in ("one-shot", "short-list", "exhaustive"):
            inferred = evaluate_run(tmp_path, "GNu", Inference(method), limit=judged, data=data)
            report(f"{method}, one image", inferred.accuracy, inferred.task_accuracy)
            assert inferred.accuracy >= given.accuracy - 0.01
    assert run.record.config.tasks == tasks
    report(f"bank of {tasks}", "file, bits per parameter and task", "payload")
    for level in ("fast", "max"):
        compact(bank_path(tmp_path), level=level)
        with MaskBank.open(bank_path(tmp_path)) as bank:
            weighed = account(bank)
        bits = [weighed.per_parameter(8 * size) for size in (weighed.file_bytes, weighed.payload_bytes)]
        report(f"compact --level {level}", *bits)
