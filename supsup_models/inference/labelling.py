"""Logits and labels of images whose mask is known."""

from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskMatrix
from supsup_models.networks import Extras, MaskedModel, TaskExtras

NO_EXTRAS: TaskExtras = MappingProxyType({})
"""The extras of masks that have none."""


def run_groups(
    model: MaskedModel, images: Tensor, rows: NDArray[np.int64], mask_of: Callable[[int], tuple[Tensor, Extras]]
) -> Tensor:
    """Logits `(b, outputs)` of each image under the mask of its own row, `rows` `(b,)`, without gradient.

    `mask_of` gives a row's effective weights, flat, and its extras. It is called once for each row.
    """
    result = images.new_empty(len(images), model.outputs)
    with torch.no_grad():
        for row in np.unique(rows).tolist():
            chosen = torch.from_numpy(np.flatnonzero(rows == row)).to(images.device)
            result[chosen] = model.run_with(images[chosen], *mask_of(row))
    return result


def run_each(
    model: MaskedModel, matrix: MaskMatrix, images: Tensor, rows: NDArray[np.int64], extras: TaskExtras = NO_EXTRAS
) -> Tensor:
    """Logits `(b, outputs)` of each image under the mask of its own row of the matrix, `rows` `(b,)`, without gradient.

    `extras` are the masks' normalisation statistics, by name.
    """
    names = matrix.names
    return run_groups(model, images, rows, lambda row: (model.masked_weights(matrix[row]), extras.get(names[row])))


def classify(
    model: MaskedModel, matrix: MaskMatrix, images: Tensor, tasks: NDArray[np.int64], extras: TaskExtras = NO_EXTRAS
) -> Tensor:
    """Softmax `(b, outputs)` of each image under the mask of its own row of the matrix, `tasks` `(b,)`.

    `extras` are the masks' normalisation statistics, by name.
    """
    return torch.softmax(run_each(model, matrix, images, tasks, extras), dim=1)


def labels_of(model: MaskedModel, outputs: Tensor) -> NDArray[np.int64]:
    """The likeliest real class from logits or probabilities, `(b, outputs)` -> `(b,)`; never a superfluous output."""
    labels: NDArray[np.int64] = outputs[:, : model.classes].argmax(dim=1).cpu().numpy()
    return labels
