"""Training one task: only its scores are floats, only its mask is kept."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import Mask, MaskMatrix
from maskstore.priors import Prior, Uniform
from supsup_models.data import LabelledImages, batch_order, checked_images, checked_labels
from supsup_models.errors import NetworkError, TrainingStopped
from supsup_models.networks import MaskedModel
from supsup_models.training.recipes import Recipe
from supsup_models.training.steps import Stepping, make_step

REPORT = 50  # batches between two reports
_BLOCK = 8  # batches made at a time: enough to make many at once, few enough to stay in the cache


@dataclass(frozen=True)
class NumberedTask:
    """A task to train: its number, which seeds its initial scores and batches, and its images."""

    number: int
    data: LabelledImages


@dataclass(frozen=True)
class TrainedTask:
    """What training a task gives: the packed mask, the cross-entropy of the last batch, and the time.

    `extras` are float32 arrays that belong to the mask, the running statistics of normalisation layers: store them with
    it. `prior` is what a decoder knows about the mask.
    """

    mask: Mask
    loss: float
    seconds: float
    extras: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    prior: Prior = field(default_factory=Uniform)


def train_task(
    model: MaskedModel,
    data: LabelledImages,
    recipe: Recipe,
    *,
    task: int,
    steps: int,
    stepping: Stepping | None = None,
    transfer: MaskMatrix | None = None,
    on_step: Callable[[int, float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainedTask:
    """Train a mask for one task over `steps` batches.

    Everything random (initial scores, batch order) comes from `model.seed` and the task's number. The data set stays in
    memory, on the network's device, and gives images a few batches at a time. `stepping` is by default the fastest that
    the processor offers (`stepping.fastest`). `on_step(step, loss)` is called every 50 steps; `stop()` is asked as
    often, and training ends with TrainingStopped once it says so. With `transfer`, the scores start from the mean of
    those masks instead (no mask in it: as without).

    Raises ShapeError, ImageValueError or LabelValueError for data that does not fit, before a step is taken from it;
    NetworkError if the recipe asks for another `weight_gain` than the network has, or the network takes no images.
    """
    start = perf_counter()
    check_recipe(model, recipe, steps)
    model.check_takes_images()
    earlier = transfer if transfer is not None and len(transfer) else None
    scores = model.initial_scores(task) if earlier is None else model.transfer_scores(earlier.mean(), task)
    trained = make_step(model, scores, recipe, stepping=stepping, task=task, steps=steps)
    for done, (images, labels) in enumerate(task_batches(model, data, recipe, task=task, steps=steps)):
        loss = trained.step(images, labels, recipe.learning_rate(done, steps))
        if (done + 1) % REPORT == 0:
            if on_step is not None:
                on_step(done + 1, float(loss))
            if stop is not None and stop():
                raise TrainingStopped(f"task {task}: stopped after {done + 1} of {steps} batches")
    return TrainedTask(
        model.mask_of(trained.scores),
        float(loss),
        perf_counter() - start,
        extras={name: values.float().cpu().numpy() for name, values in trained.statistics.items()},
        prior=model.prior(task),  # after a transfer a share of the scores, and the weights, still are the seed's
    )


def task_batches(
    model: MaskedModel, data: LabelledImages, recipe: Recipe, *, task: int, steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images `(b, inputs)` and labels `(b,)` of every step, on the network's device.

    Raises ShapeError, ImageValueError or LabelValueError for data that does not fit, before it gives any of it.
    """
    data = data.to(model.device)
    labels = checked_labels(data.labels, model.classes)
    order = batch_order(model.seed, task, images=len(labels), steps=steps, batch_size=recipe.batch_size)
    for block in torch.from_numpy(order).to(model.device).split(_BLOCK):
        images = checked_images(data.images(block.reshape(-1)), model).view(*block.shape, model.inputs)
        yield from zip(images, labels[block], strict=True)


def check_recipe(model: MaskedModel, recipe: Recipe, steps: int) -> None:
    """NetworkError if the recipe asks for another `weight_gain` than the network has, or for masks of another kind, or
    there is nothing to do."""
    if recipe.weight_gain != model.weight_gain:
        raise NetworkError(
            f"recipe {recipe.name!r}: expected a network of weight_gain {recipe.weight_gain}, found {model.weight_gain}"
        )
    if (recipe.sparse is None) != (model.densities is None):
        wanted = "without densities" if recipe.sparse is None else "of densities"
        found = "without densities" if model.densities is None else "of densities"
        raise NetworkError(f"recipe {recipe.name!r}: expected a network {wanted}, found one {found}")
    if steps < 1:
        raise NetworkError(f"training: expected at least 1 batch, found {steps}")
