"""Any network, one stream: `pytest benchmarks/ -k anynet_tasks -s --full`; a part: `-k "anynet_tasks and conv-4-0"`.

Ten tasks: five transformations (as stored, turned by 90, 180 and 270 degrees, inverted) of MNIST and of Fashion-MNIST.
Every network has 100 outputs and is trained with the recipe `default`. For each: accuracy with the task given; the same
without the losses that make tasks known, which is what those cost; bits per parameter of the bank after `maskstore
compact --level max`, payload and side information, statistics of normalisation layers included; how often one-shot
inference, the short list and exhaustive inference find the task of a single image. `--full` trains seeds 0 and 1, each
task for less than four minutes of two quiet cores; without it, three tasks of conv-4 for 40 batches.

The environment variable MASKSTORE_RUNS names a folder for the runs. Who stops the benchmark and starts it again with
the same folder trains only what is missing.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_rate import data_of, found, report
from maskstore import MaskBank
from maskstore.bank.accounting import account
from maskstore.bank.compaction import compact
from supsup_models import RECIPES, convert, mask_accuracy, open_stream, train_task
from supsup_models.inference import Inference
from supsup_models.networks import PLAIN_NETWORKS
from supsup_models.runs import evaluate_run, load_run, run_config, train_run
from supsup_models.runs.record import bank_path

STREAM = "transformed-mnist+fashion-mnist"
IMAGES = 200  # of each task, for inference
BATCHES = {"conv-4": 1500, "vit-tiny": 200, "resnet-18-20": 60}
WAYS = {method: Inference(method) for method in ("one-shot", "short-list", "exhaustive")}
RUNS = "MASKSTORE_RUNS"


def run_folder(name: str, instead: Path) -> Path:
    """Where a run is kept: under the folder that the environment variable names, if it does."""
    return Path(os.environ[RUNS]) / name if RUNS in os.environ else instead / name


def coded(folder: Path) -> float:
    """Bits per parameter and task of a run's bank, payload and side information."""
    compact(bank_path(folder), level="max")
    with MaskBank.open(bank_path(folder)) as bank:
        weighed = account(bank)
        return weighed.per_parameter(8 * (weighed.payload_bytes + weighed.side_bytes))


def without_losses(name: str, batches: int, seed: int, tasks: int = 2) -> float:
    """Mean accuracy of the first tasks of the same network, trained without the losses that make tasks known."""
    recipe = RECIPES["default"]
    assert recipe.sparse is not None
    bare = replace(recipe, sparse=replace(recipe.sparse, novelty_weight=0.0, one_shot_weight=0.0, on_images=None))
    stream = open_stream(STREAM, tasks=tasks, seed=seed, data=data_of(STREAM))
    shape = tuple(stream.image_shape)
    model = convert(PLAIN_NETWORKS[name](100, shape), recipe=bare, seed=seed, classes=stream.classes, image_shape=shape)
    accuracies = []
    for task in stream:
        trained = train_task(model, task.train, bare, task=task.index, steps=batches)
        accuracies.append(mask_accuracy(model, trained.mask, task.test, trained.extras))
    return float(np.mean(accuracies))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", BATCHES)
def test_anynet_tasks_are_found(name: str, seed: int, full: bool, tmp_path: Path) -> None:
    if not full and (name, seed) != ("conv-4", 0):
        pytest.skip("quick: conv-4 and seed 0 alone")
    batches, tasks = (BATCHES[name], 10) if full else (40, 3)
    config = run_config(STREAM, tasks=tasks, model=name, batches=batches, recipe="default", seed=seed)
    folder = run_folder(f"anynet-{name}-{batches}-{seed}", tmp_path)
    with found():
        trained = train_run(config, folder, data=data_of(STREAM))
    run = load_run(folder)
    given = [float(task["accuracy"]) for task in trained.record.tasks]
    alone = without_losses(name, batches, seed)
    report(name, "seed", "accuracy", "of the first two", "those without the losses", "bits", *WAYS, "seconds a task")
    report("---", *["---"] * 9)
    hits = [evaluate_run(run, "GNu", way, limit=IMAGES * tasks).task_accuracy for way in WAYS.values()]
    seconds = sum(float(task["seconds"]) for task in trained.record.tasks) / tasks
    row = (np.mean(given), np.mean(given[:2]), alone, coded(folder), *hits, seconds)
    report(f"{batches} batches", seed, *(float(value) for value in row))
    assert np.isfinite(row).all()
