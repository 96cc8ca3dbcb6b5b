"""Training one task: only its scores are floats, only its mask is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import Mask
from maskstore.philox import Role, random_permutation
from supsup_models.errors import ImageValueError, NetworkError, ShapeError
from supsup_models.networks import MaskedNetwork
from supsup_models.recipes import Recipe
from supsup_models.stepping import Stepping, make_stepper


class LabelledImages(Protocol):
    """What training and evaluation need of a data set; `supsup_models.data` offers it, and so can you."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """`(n,)` int64."""

    def images(self, indices: Any) -> NDArray[np.float32]:
        """The images at these indices (an index array or a slice), `(b, inputs)` float32."""


@dataclass(frozen=True)
class TrainedTask:
    """What training a task gives: the packed mask, the mean cross-entropy of the last batches, and the time."""

    mask: Mask
    loss: float
    seconds: float


def batch_order(seed: int, task: int, images: int, steps: int, batch_size: int) -> NDArray[np.int64]:
    """Image indices of every batch, `(steps, batch_size)` int64: epoch after epoch of seeded permutations, end to end.

    Epoch e of a task is the permutation at (seed, BATCH_ORDER, layer=e, stream=task).
    """
    needed = steps * batch_size
    epochs = [
        random_permutation(seed, Role.BATCH_ORDER, images, layer=epoch, stream=task)
        for epoch in range(-(-needed // images))
    ]
    return np.concatenate(epochs)[:needed].reshape(steps, batch_size)


def checked_images(images: Any, model: MaskedNetwork) -> Tensor:
    """Images as a tensor `(b, inputs)` of the network's dtype on its device.

    Raises ShapeError for another shape or none at all, ImageValueError for NaN or infinity.
    """
    tensor = torch.as_tensor(images)
    if tensor.ndim != 2 or tensor.shape[1] != model.inputs or not len(tensor):
        raise ShapeError(f"images: expected shape (b, {model.inputs}) with b >= 1, found {tuple(tensor.shape)}")
    tensor = tensor.to(model.weights)
    # one cheap pass says whether a slower look is needed: a sum is finite unless a term is not (or it overflows)
    if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor).all(dim=1)).nonzero()[0])
        raise ImageValueError(f"images: expected finite values, found NaN or infinity in image {bad}")
    return tensor


def checked_labels(labels: Any, images: Tensor, classes: int) -> Tensor:
    """Labels as an int64 tensor `(b,)` beside their images.

    Raises ShapeError for another shape, ImageValueError for labels outside [0, classes).
    """
    array = np.asarray(labels)
    if array.shape != images.shape[:1] or array.dtype.kind not in "iu":
        raise ShapeError(f"labels: expected {len(images)} integers, found {array.dtype} of shape {array.shape}")
    if array.min() < 0 or array.max() >= classes:
        bad = int(array[(array < 0) | (array >= classes)][0])
        raise ImageValueError(f"labels: expected values in [0, {classes}), found {bad}")
    return torch.from_numpy(array.astype(np.int64)).to(images.device)


def train_task(
    model: MaskedNetwork,
    data: LabelledImages,
    recipe: Recipe,
    *,
    task: int,
    steps: int,
    stepping: Stepping = Stepping.FUSED,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainedTask:
    """Train a mask for one task over `steps` batches.

    Everything random (initial scores, batch order) comes from `model.seed` and the task's number. The whole data set
    is moved to the network's device once. `on_step(step, loss)` is called every 50 steps.

    Raises ShapeError or ImageValueError for data that does not fit, NetworkError if the recipe asks for another
    `weight_gain` than the network has.
    """
    start = perf_counter()
    if recipe.weight_gain != model.weight_gain:
        raise NetworkError(
            f"recipe {recipe.name!r}: expected a network of weight_gain {recipe.weight_gain}, found {model.weight_gain}"
        )
    images = checked_images(data.images(slice(None)), model)
    labels = checked_labels(data.labels, images, model.classes)
    order = torch.from_numpy(batch_order(model.seed, task, len(images), steps, recipe.batch_size)).to(images.device)
    stepper = make_stepper(stepping, model, model.initial_scores(task), recipe.optimiser)
    batch_labels = labels[order]
    loss = torch.full((), float("nan"))
    for step in range(steps):
        batch = images.index_select(0, order[step])
        loss = stepper.step(batch, batch_labels[step], recipe.learning_rate(step, steps))
        if on_step is not None and (step + 1) % 50 == 0:
            on_step(step + 1, float(loss))
    mask = Mask.from_flat((stepper.scores.detach() >= 0).cpu().numpy(), model.spec)
    return TrainedTask(mask, float(loss), perf_counter() - start)
