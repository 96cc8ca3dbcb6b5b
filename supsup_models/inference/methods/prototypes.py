"""Which task's prototypes are nearest? One pass of the frozen network for all tasks, however many there are.

A **prototype** is the mean of a class of a task in the features of the frozen network (`MaskedModel.features`), under
no mask. Training stores those of a task with its mask, among its extras. An image is of the task that has the nearest
one (Mensink et al., "Distance-based image classification", TPAMI 2013; for tasks on a trained network as Wang et al.,
"S-Prompts learning with pre-trained transformers", NeurIPS 2022). No task knows of any other.
"""

import numpy as np
import torch
from torch import Tensor

from supsup_models._names import found
from supsup_models.errors import ArgumentTypeError, InferenceError, ShapeError
from supsup_models.inference.objectives import Objective
from supsup_models.inference.superposition import Superposition
from supsup_models.networks import PROTOTYPES, Extras, MaskedModel, TaskExtras


def has_prototypes(names: tuple[str, ...], extras: TaskExtras) -> bool:
    """Whether every mask of these names has prototypes among its extras."""
    return bool(names) and all(PROTOTYPES in (extras.get(name) or {}) for name in names)


def of_batch(mixed: Superposition[MaskedModel], images: Tensor, objective: Objective) -> Tensor:
    """The mean over a batch of the scores of each image, `(k,)`."""
    return of_each(mixed, images, objective).mean(dim=0)


def of_each(mixed: Superposition[MaskedModel], images: Tensor, objective: Objective) -> Tensor:
    """Minus the squared distance of each image to the nearest prototype of each task, `(b, k)`.

    The objective has no part in it. InferenceError for a mask without prototypes, ShapeError for those of another
    network.
    """
    known = [_prototypes(name, mixed.extras.get(name)) for name in mixed.matrix.names]
    features = mixed.model.features(images)
    scores = features.new_empty(len(features), len(mixed.matrix))
    lengths = features.square().sum(dim=1, keepdim=True)
    for row, (name, own) in enumerate(zip(mixed.matrix.names, known, strict=True)):
        if own.shape[1] != features.shape[1]:
            raise _wrong(name, own, f"(n, {features.shape[1]})")
        own = own.to(features)
        distances = lengths - 2.0 * (features @ own.T) + own.square().sum(dim=1)
        scores[:, row] = -distances.amin(dim=1)
    return scores


def _prototypes(name: str, extras: Extras) -> Tensor:
    """The prototypes of a mask, `(n, d)`."""
    if extras is None or PROTOTYPES not in extras:
        raise InferenceError(
            f"prototypes inference: expected prototypes in the extras of every mask, found none for {name!r:.80}; "
            'training on kept weights stores them, `method="exhaustive"` needs none'
        )
    own = extras[PROTOTYPES]
    if not isinstance(own, Tensor):
        array = np.asarray(own)
        if array.dtype.kind not in "iuf":
            raise ArgumentTypeError(f"extras {PROTOTYPES!r} of {name!r:.80}: expected numbers, found {found(own)}")
        own = torch.from_numpy(array.astype(np.float32, copy=False))
    if own.ndim != 2 or not len(own) or not bool(own.isfinite().all()):
        raise _wrong(name, own, "(n, features)")
    return own


def _wrong(name: str, own: Tensor, shape: str) -> ShapeError:
    what = f"shape {tuple(own.shape)}" + ("" if bool(own.isfinite().all()) else " with NaN or infinity")
    return ShapeError(f"extras {PROTOTYPES!r} of {name!r:.80}: expected finite numbers of shape {shape}, found {what}")
