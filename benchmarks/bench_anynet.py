"""Any network, one stream: `pytest benchmarks/ -k anynet -s --full`.

Ten tasks: five transformations (as stored, turned by 90, 180 and 270 degrees, inverted) of MNIST and of Fashion-MNIST.
Every network has 100 outputs and is trained with the recipe `default`. For each: accuracy with the task given; the same
without the losses that make tasks known, which is what those cost; bits per parameter, payload and side information
under the codec `mix`, statistics of normalisation layers included; how often one-shot and exhaustive inference find the
task of a single image. `--full` trains seeds 0 and 1, for as many batches as take a task at most four minutes of two
quiet cores; without it, three tasks of conv-4 for 40 batches.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from benchmarks.bench_rate import data_of, found, report
from maskstore import MaskMatrix
from supsup_models import RECIPES, Recipe, TaskStream, convert, infer_each, mask_accuracy, open_stream, train_task
from supsup_models.networks import PLAIN_NETWORKS
from supsup_models.training import coded_bits

IMAGES = 200  # of each task, for inference
BATCHES = {"conv-4": 1000, "vit-tiny": 500, "resnet-18-20": 150}


def measured(
    make: Callable[[int, tuple[int, ...]], nn.Module],
    stream: TaskStream,
    recipe: Recipe,
    batches: int,
    *,
    seed: int,
    on_task: Callable[[str], None] = lambda line: None,
) -> tuple[float, float, dict[str, float]]:
    """Mean accuracy, mean bits per parameter, and the share of images whose task each method finds."""
    shape = tuple(stream.image_shape)
    model = convert(make(100, shape), recipe=recipe, seed=seed, classes=stream.classes, image_shape=shape)
    matrix, extras = MaskMatrix(model.spec), {}
    accuracies, bits = [], []
    for task in stream:
        trained = train_task(model, task.train, recipe, task=task.index, steps=batches)
        matrix.append(task.name, trained.mask)
        extras[task.name] = trained.extras
        accuracies.append(mask_accuracy(model, trained.mask, task.test, trained.extras))
        statistics = 32 * sum(values.size for values in trained.extras.values()) / model.spec.bits
        bits.append(coded_bits(trained.mask, trained.prior) + statistics)
        on_task(f"{task.name}: accuracy {accuracies[-1]:.4f}, {bits[-1]:.4f} bits, {trained.seconds:.0f} s")
    hits = {}
    for method in ("one-shot", "exhaustive"):
        each = []
        for row, task in enumerate(stream):
            images = task.test.images(slice(0, IMAGES))
            each.append(np.mean(infer_each(model, matrix, images, method=method, extras=extras).tasks == row))
        hits[method] = float(np.mean(each))
        on_task(f"{method}: " + " ".join(f"{share:.3f}" for share in each))
    return float(np.mean(accuracies)), float(np.mean(bits)), hits


@pytest.mark.parametrize("name", BATCHES)
def test_anynet_tasks_are_found(name: str, full: bool) -> None:
    if not full and name != "conv-4":
        pytest.skip("quick: conv-4 alone")
    batches, tasks, seeds = (BATCHES[name], 10, (0, 1)) if full else (40, 3, (0,))
    recipe = RECIPES["default"]
    assert recipe.sparse is not None
    bare = replace(recipe, sparse=replace(recipe.sparse, novelty_weight=0.0, one_shot_weight=0.0, on_images=None))
    report(name, "accuracy, task given", "without the losses", "bits", "one-shot", "exhaustive")
    report("---", "---", "---", "---", "---", "---")
    rows = []
    for seed in seeds:
        with found():
            stream = open_stream("transformed-mnist+fashion-mnist", tasks=tasks, seed=seed, data=data_of("fashion"))
        accuracy, bits, hits = measured(PLAIN_NETWORKS[name], stream, recipe, batches, seed=seed)
        two = open_stream("transformed-mnist+fashion-mnist", tasks=2, seed=seed, data=data_of("fashion"))
        without, _, _ = measured(PLAIN_NETWORKS[name], two, bare, batches, seed=seed)
        rows.append((accuracy, without, bits, hits["one-shot"], hits["exhaustive"]))
        report(f"seed {seed}", *rows[-1])
    report("mean", *np.mean(rows, axis=0).tolist())
    assert np.isfinite(rows).all()
