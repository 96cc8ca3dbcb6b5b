"""Tasks that show other classes in the same way: `pytest benchmarks/ -k anynet_split -s --full`.

Split MNIST and split Fashion-MNIST, five tasks of two classes, scenario GNu, one image, recipe `views`; and how often
16 images of an unknown task are flagged (leave one out). Needs the data sets where `open_stream` looks for them.
`--full` trains LeNet-300-100 and conv-4 with seeds 0 and 1: about two hours on two cores; without, LeNet-300-100 on
split digits, one seed. MASKSTORE_RUNS keeps the runs, as in `bench_anynet`.
"""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_anynet import run_folder
from benchmarks.bench_rate import data_of
from supsup_models.data import open_stream
from supsup_models.errors import DataNotFoundError
from supsup_models.inference import Calibration, Inference
from supsup_models.runs import LoadedRun, evaluate_run, load_run, run_config, train_run

# stream, model, batches a task: least accuracy of the best pairs, mean over the seeds
POINTS = {
    ("split-mnist", "lenet-300-100", 800): 0.89,
    ("split-mnist", "conv-4", 1000): 0.89,
    ("split-fashion-mnist", "conv-4", 1000): 0.5,
}
QUICK = {("split-digits", "lenet-300-100", 100): 0.75}
WAYS = {
    "pairs, 8 views": (Inference(), 8),
    "pairs, 4 views": (Inference(), 4),
    "pairs, 1 view": (Inference(), 1),
    "exhaustive, G": (Inference("exhaustive"), None),
}
TOGETHER, GROUPS = 16, 25  # images of one task that are judged together, and how often for each task


def report(*cells: object) -> None:
    print("\n| " + " | ".join(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", end="")


def flagged(run: LoadedRun) -> tuple[float, float]:
    """How many batches of an unknown task are called none of these, and how many of a known one.

    Each task in turn is unknown: its mask is left out. Masks are calibrated on the first 512 test images of their
    tasks, and judged on others.
    """
    tasks = run.tasks(run.stream())
    views = run.with_views(Inference()).views
    own = {task.name: task.test.images(slice(0, 512)) for task in tasks}
    groups = [task.test.images(slice(512, 512 + GROUPS * TOGETHER)).split(TOGETHER) for task in tasks]
    right, wrong = list[bool](), list[bool]()
    for left_out, unknown in enumerate(tasks):
        names = [task.name for task in tasks if task is not unknown]
        matrix = run.matrix.select(names)
        calibration = Calibration.fit(run.model, matrix, {name: own[name] for name in names}, run.extras, views=views)
        for number, parts in enumerate(groups):
            for images in parts if number == left_out else parts[left_out :: len(tasks)]:
                highest = calibration.highest_confidence(run.model, matrix, images, run.extras, one_task=True)
                said = bool(calibration.none_of_these(float(highest[0]), len(images)))
                (right if number == left_out else wrong).append(said)
    return float(np.mean(right)), float(np.mean(wrong))


@pytest.mark.parametrize("point", POINTS, ids=lambda point: "-".join(map(str, point)))
def test_anynet_split(point: tuple[str, str, int], full: bool, tmp_path: Path) -> None:
    stream, model, batches = point
    bound = POINTS[point]
    if not full:
        if point != next(iter(POINTS)):
            pytest.skip("full sizes only")
        (((stream, model, batches), bound),) = QUICK.items()
    try:
        open_stream(stream, data=data_of(stream))
    except DataNotFoundError as error:
        pytest.skip(f"needs a data set: {error}")
    pairs = []
    for seed in (0, 1) if full else (0,):
        folder = run_folder(f"{stream}-{model}-{batches}-{seed}", tmp_path)
        config = run_config(stream, model=model, batches=batches, recipe="views", seed=seed)
        trained = train_run(config, folder, data=data_of(stream))
        run = load_run(folder)
        for name, (inference, views) in WAYS.items():
            found = evaluate_run(run, "GNu", inference, views=views)
            report(stream, model, batches, seed, name, found.accuracy, found.task_accuracy, found.given_accuracy)
            if views == 8:
                pairs.append(found.accuracy)
        seconds = sum(float(task["seconds"]) for task in trained.record.tasks) / len(trained.record.tasks)
        report(stream, model, batches, seed, "seconds a task", seconds)
        if full:
            report(stream, model, batches, seed, "flagged: unknown, known", *flagged(run))
    assert np.mean(pairs) >= bound
