"""Training one task: only its scores are floats, only its mask is kept."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import Mask, MaskMatrix, Rounded
from maskstore.priors import Prior, Uniform
from supsup_models._names import expect, expect_call, whole_number
from supsup_models.data import (
    LabelledImages,
    Views,
    batch_order,
    check_image_shape,
    checked_images,
    checked_labels,
    labelled_images,
)
from supsup_models.errors import NetworkError, ShapeError, TrainingStopped
from supsup_models.networks import PROTOTYPES, MaskedModel, check_model
from supsup_models.training.prototypes import class_prototypes
from supsup_models.training.recipes import Recipe, named_recipe
from supsup_models.training.steps import Stepping, make_step

REPORT = 50  # batches between two reports, and between two points of the curves
_BLOCK = 8  # batches made at a time: enough to make many at once, few enough to stay in the cache


@dataclass(frozen=True)
class NumberedTask:
    """A task to train: its number, which seeds its initial scores and batches, and its images.

    Examples:
        >>> from supsup_models import NumberedTask, open_stream
        >>> tasks = [NumberedTask(task.index, task.train) for task in open_stream("permuted-digits", tasks=3)]
        >>> [task.number for task in tasks], len(tasks[0].data)
        ([0, 1, 2], 1437)
    """

    number: int
    data: LabelledImages

    def __repr__(self) -> str:
        return f"NumberedTask({self.number}: {len(self.data)} images)"


@dataclass(frozen=True)
class TrainedTask:
    """What training a task gives.

    Examples:
        A bank takes all that belongs to the mask, and what a decoder knows about it, which saves bits:

        >>> import tempfile
        >>> from maskstore import MaskBank
        >>> from supsup_models import MaskedNetwork, Recipe, open_stream, train_task
        >>> task = open_stream("permuted-digits")[0]
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> trained = train_task(model, task.train, Recipe("short"), task=task.index, steps=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/masks.bank", model.spec, meta=model.bank_meta()) as bank:
        ...         bank.put(task.name, trained.mask, extras=trained.extras, prior=trained.prior)
        ...         list(bank)
        ['task-0']
    """

    mask: Mask
    """The packed mask."""
    loss: float
    """The mean cross-entropy of the last batch, in nats, before its step."""
    seconds: float
    """The time that training took."""
    extras: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Arrays that belong to the mask: the running statistics of normalisation layers, a head and other parameters of
    the task's own; on kept weights also `prototypes`, which task inference uses. Store them with it."""
    prior: Prior = field(default_factory=Uniform)
    """What a decoder knows about the mask before it reads it."""
    curve: "TrainingCurve" = field(default_factory=lambda: TrainingCurve((), (), ()))
    """The loss and the accuracy while it was trained."""

    def rounded(self, bits: int = 6) -> dict[str, Rounded]:
        """The extras with a bounded error, for `bank.put(..., extras=trained.rounded())`.

        Each array becomes multiples of a step, 2**(bits - 1) - 1 of them on either side of zero. So no value changes by
        more than the largest of its array divided by 2**bits - 2.

        Args:
            bits: of a number before it is compressed, 2 to 16.

        Raises:
            NetworkError: for other bits.
        """
        if not 2 <= whole_number("bits", bits) <= 16:
            raise NetworkError(f"bits: expected 2 to 16 of them for a rounded number, found {bits}")
        sides = 2 ** (bits - 1) - 1
        largest = {name: float(np.abs(values).max(initial=0.0)) for name, values in self.extras.items()}
        return {name: Rounded(values, (largest[name] or 1.0) / (2 * sides)) for name, values in self.extras.items()}

    def halved(self) -> dict[str, NDArray[np.float16] | NDArray[np.float32]]:
        """The extras in half the bytes, for `bank.put(..., extras=trained.halved())`: float16, three digits.

        Enough for the statistics of normalisation layers. An array with a value too large for float16 stays as it is.
        """
        largest = float(np.finfo(np.float16).max)
        return {
            name: values.astype(np.float16) if np.abs(values).max(initial=0.0) <= largest else values
            for name, values in self.extras.items()
        }

    def __repr__(self) -> str:
        return (
            f"TrainedTask(density {self.mask.density:.4g} of {self.mask.spec.bits} bits, loss {self.loss:.4g}, "
            f"{self.seconds:.3g} s, extras of {len(self.extras)} names, {type(self.prior).__name__} prior)"
        )


@dataclass(frozen=True)
class TrainingCurve:
    """How training went: every 50 batches and at the last one, what the batch showed before its step.

    Attributes:
        batches: After how many batches each point was taken, ascending.
        losses: The mean cross-entropy of the batch, in nats.
        accuracies: The fraction of the batch's images whose likeliest real class was right.

    Examples:
        >>> from supsup_models import MaskedNetwork, Recipe, open_stream, train_task
        >>> task = open_stream("permuted-digits")[0]
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> curve = train_task(model, task.train, Recipe("short"), task=0, steps=120).curve
        >>> curve.batches
        (50, 100, 120)
        >>> curve.losses[0] > curve.losses[-1], len(curve.accuracies)
        (True, 3)
    """

    batches: tuple[int, ...]
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]

    def to_json(self, most: int = 20) -> dict[str, list[Any]]:
        """JSON-ready: the last point, and as many before it as make at most `most`, evenly spaced; four digits each."""
        step = max(1, -(-len(self.batches) // most))
        rows = range((len(self.batches) - 1) % step, len(self.batches), step)
        return {
            "batches": [self.batches[row] for row in rows],
            "losses": [float(f"{self.losses[row]:.4g}") for row in rows],
            "accuracies": [float(f"{self.accuracies[row]:.4g}") for row in rows],
        }

    def with_point(self, batches: int, loss: float, accuracy: float) -> "TrainingCurve":
        """The curve with one more point at its end."""
        return TrainingCurve((*self.batches, batches), (*self.losses, loss), (*self.accuracies, accuracy))


@torch.inference_mode(False)  # scores need gradients, whatever mode the caller is in
def train_task(
    model: MaskedModel,
    data: Any,
    recipe: Recipe | str,
    *,
    task: int,
    steps: int,
    stepping: Stepping | None = None,
    transfer: MaskMatrix | None = None,
    on_step: Callable[[int, float], None] | None = None,
    stop: Callable[[], bool] | None = None,
    classes: int | None = None,
) -> TrainedTask:
    """Train a mask for one task.

    Everything random (initial scores, batch order) comes from `model.seed` and the task's number. The data set stays in
    memory, on the network's device, and gives images a few batches at a time.

    Args:
        model: the network; its weights stay as they are.
        data: labelled images of the task, such as `stream[0].train`; or a pair of arrays (images, labels), a torch data
            set of such pairs, or a data loader over one, all of which are copied. Of those, uint8 images are divided by
            255, others are taken as they are.
        recipe: optimiser, schedule, batch size and kind of mask; or the name of one in `RECIPES`.
        task: the task's number, not negative.
        steps: how many batches to train for, at least 1.
        stepping: "fused", "bfloat16" or "autograd"; None takes the fastest that can train this recipe here.
        transfer: masks of earlier tasks, from whose mean the scores start; None or no mask starts from the seed.
        on_step: called as `on_step(step, loss)` after every 50 steps.
        stop: asked after every 50 steps; training ends when it says True.
        classes: how many classes the task has, where it has a head of its own; None counts the labels.

    Returns:
        The mask, and what to store with it.

    Raises:
        ShapeError, ImageValueError, LabelValueError: for data that does not fit, before a step is taken from it.
        NetworkError: for a recipe that asks for another `weight_gain` or kind of mask than the network has, a network
            that takes no images, or a stepping that cannot train the recipe; for a loss or scores that became NaN or
            infinite.
        TaskDataError: for arrays or a data set that do not make a task.
        ArgumentTypeError: for an argument of a type that cannot be meant.
        UnknownNameError: for another recipe or stepping.
        TrainingStopped: if `stop` said so.

    Source: Wortsman et al., "Supermasks in superposition", NeurIPS 2020, section 3.1.

    Examples:
        >>> from supsup_models import MaskedNetwork, Recipe, RMSProp, mask_accuracy, open_stream, train_task
        >>> task = open_stream("permuted-digits")[0]
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> trained = train_task(model, task.train, Recipe("short", RMSProp(1e-3)), task=0, steps=50)
        >>> mask_accuracy(model, trained.mask, task.test) > 0.8
        True
    """
    start = perf_counter()
    check_model(model)
    data, recipe = labelled_images(data), named_recipe(recipe)
    task, steps = whole_number("task", task), whole_number("steps", steps)
    if not 0 <= task < 2**32:
        raise NetworkError(f"task: expected a number in [0, 2**32), found {task}")
    expect_call("on_step", on_step)
    expect_call("stop", stop)
    if transfer is not None:
        expect("transfer", transfer, MaskMatrix, "a MaskMatrix", MaskBank="bank.matrix() makes one")
        if transfer.spec != model.spec:
            raise ShapeError(f"transfer: expected masks of {model.spec!r}, found {transfer.spec!r}")
    check_recipe(model, recipe, steps)
    model.check_takes_images()
    check_image_shape(data, model)
    earlier = transfer if transfer is not None and len(transfer) else None
    scores = model.initial_scores(task) if earlier is None else model.transfer_scores(earlier.mean(), task)
    classes = task_classes(model, data, classes)
    trained = make_step(model, scores, recipe, stepping=stepping, task=task, steps=steps, classes=classes)
    curve, views = TrainingCurve((), (), ()), recipe_views(model, recipe)
    for done, (images, labels) in enumerate(task_batches(model, data, recipe, task=task, steps=steps)):
        shown, named = images, labels
        if views is not None:
            shown, named = views.drawn(
                images, labels,
                classes=model.classes, share=recipe.view_share, seed=model.seed, task=task, step=done,
            )  # fmt: skip
        loss = trained.step(shown, named, recipe.learning_rate(done, steps))
        if (done + 1) % REPORT == 0 or done + 1 == steps:
            own = batch_accuracy(model, trained.logits[: len(labels)], labels)
            curve = curve.with_point(done + 1, float(loss), float(own))
        if (done + 1) % REPORT == 0:
            if on_step is not None:
                on_step(done + 1, float(loss))
            if stop is not None and stop():
                raise TrainingStopped(f"task {task}: stopped after {done + 1} of {steps} batches")
    check_trained(task, trained.scores, float(loss))
    extras = {name: value.float().cpu().numpy() for name, value in model.final_extras(trained.statistics).items()}
    if model.starts_full and extras:
        prototypes = class_prototypes(model, data)
        extras |= {} if prototypes is None else {PROTOTYPES: prototypes}
    return TrainedTask(
        model.mask_of(trained.final_scores),
        float(loss),
        perf_counter() - start,
        extras=extras,
        prior=model.prior(task),  # after a transfer a share of the scores, and the weights, still are the seed's
        curve=curve,
    )


def task_classes(model: MaskedModel, data: LabelledImages, classes: int | None) -> int | None:
    """How many classes a task's own head has; None in a network without such heads.

    Raises:
        LabelValueError: labels outside the network's classes.
        NetworkError: `classes` for a network without heads.
    """
    if not model.needs_head:
        if classes is not None:
            raise NetworkError(f"classes: expected none in a network whose tasks have no heads, found {classes}")
        return None
    if classes is None:
        return int(checked_labels(data.labels, model.classes).max()) + 1
    checked_labels(data.labels, whole_number("classes", classes))
    return classes


def check_trained(task: int, scores: Tensor, loss: float) -> None:
    """NetworkError for scores or a loss that are no numbers any more: the mask would be empty."""
    if not isfinite(loss) or bool(scores.isnan().any()):
        what = f"a loss of {loss}" if not isfinite(loss) else "scores that are NaN"
        raise NetworkError(
            f"task {task}: expected a training that stays finite, found {what}; look at the images' range, at what the "
            "network computes, or take a lower learning rate"
        )


def batch_accuracy(model: MaskedModel, logits: Tensor, labels: Tensor) -> Tensor:
    """The fraction of images whose likeliest real class is right: `(..., b, outputs)`, `(..., b)` -> `(...)`."""
    return (logits[..., : model.classes].argmax(dim=-1) == labels).float().mean(dim=-1)


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


def recipe_views(model: MaskedModel, recipe: Recipe) -> Views | None:
    """The views that a recipe shows of a network's images; None where it shows them as they are.

    Raises:
        NetworkError: a recipe that does not know the images' shape, or names more outputs than there are.
        ShapeError: the network takes images of another size.
    """
    if recipe.views == 1:
        return None
    shape = recipe.image_shape or model.image_shape
    if shape is None:
        raise NetworkError(
            f"recipe {recipe.name!r}: expected the images' shape for its views, found none; "
            "`recipe.for_images(stream.image_shape)` sets it"
        )
    if recipe.named_outputs(model.classes) > model.outputs:
        raise NetworkError(
            f"recipe {recipe.name!r}: expected an output for each of {model.classes} classes in {recipe.views} views, "
            f"found {model.outputs} outputs"
        )
    views = Views(shape, recipe.views)
    if views.inputs != model.inputs:
        raise ShapeError(f"recipe {recipe.name!r}: expected images of {model.inputs} values, found shape {shape}")
    return views


def check_recipe(model: MaskedModel, recipe: Recipe, steps: int) -> None:
    """NetworkError if the recipe asks for another `weight_gain` than the network has, or for masks of another kind, or
    there is nothing to do."""
    if model.weights.dtype == torch.float16:
        raise NetworkError(
            "training: expected weights of float32 or bfloat16, found torch.float16, in which gradients of masks "
            "overflow; convert `module.float()`, and its masks fit the network in float16 too"
        )
    if recipe.weight_gain != model.weight_gain:
        raise NetworkError(
            f"recipe {recipe.name!r}: expected a network of weight_gain {recipe.weight_gain}, found {model.weight_gain}"
        )
    if recipe.kept is not None and not model.starts_full:
        raise NetworkError(
            f'recipe {recipe.name!r}: expected threshold masks on kept weights, as `convert(..., weights="keep")` '
            "makes, found another network"
        )
    if recipe.sparse is not None and model.own_parameters:
        raise NetworkError(
            f"recipe {recipe.name!r}: expected a network whose tasks have no parameters of their own, found "
            f'{model.own_parameters[0]!r}; the recipe "backbone" trains them'
        )
    if (recipe.sparse is None) != (model.densities is None):
        wanted = "without densities" if recipe.sparse is None else "of densities"
        found = "without densities" if model.densities is None else "of densities"
        raise NetworkError(f"recipe {recipe.name!r}: expected a network {wanted}, found one {found}")
    if steps < 1:
        raise NetworkError(f"training: expected at least 1 batch, found {steps}")
