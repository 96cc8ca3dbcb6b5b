"""Images of one batch under many masks: those that share a mask together, the others straight from packed bits."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskMatrix
from maskstore.bank import MaskSource
from maskstore.kernels import compiles
from supsup_models._names import expect
from supsup_models.data import checked_images
from supsup_models.errors import ImageValueError, ShapeError
from supsup_models.inference.given import check_extras, check_spec
from supsup_models.networks import Extras, MaskedModel, OwnMasks, TaskExtras, check_model

NO_EXTRAS: TaskExtras = MappingProxyType({})
"""The extras of masks that have none."""
_TOGETHER = 8  # images from which on a mask is unpacked for them
_CHUNK = 32  # images that run together: what is between two layers stays small


def mixed_logits(
    model: MaskedModel,
    masks: MaskMatrix | MaskSource,
    images: Any,
    tasks: str | Sequence[str],
    *,
    extras: TaskExtras = NO_EXTRAS,
) -> Tensor:
    """Logits of images, each under the mask of its own task, in one go.

    A mask of eight images or more is unpacked once for all of them. The other images run side by side, straight from
    the packed bits: what such an image gets does not depend on the images beside it. A converted module is tried once
    (it may hold linear layers, convolutions and normalisation layers with running statistics); a module that does
    something else with its masked weights runs one mask after the other.

    Args:
        model: The network.
        masks: A matrix, a bank or another source of masks, of which each name is read once.
        images: `(b, inputs)`, a tensor or an array, normalised as in training.
        tasks: A task's name, or one name for each image.
        extras: The masks' normalisation statistics by name, where the source has none: a matrix never has any.

    Returns:
        `(b, outputs)` float32. Equal to `model(image, mask)` of each image up to rounding: the largest difference is
        below 1e-5 of the largest logit.

    Raises:
        ShapeError: The images or the masks do not fit the network, or there are more or fewer names.
        ImageValueError: The images hold NaN or infinity, are too large for the network's arithmetic, or are uint8.
        TaskNotFoundError: There is no such task.
        MissingStatisticsError: The network needs statistics, and a task has none.

    Source:
        The idea of one batch over many adapters is that of Sheng et al., "S-LoRA", MLSys 2024; for masks, ours.

    Examples:
        >>> import torch
        >>> from maskstore import MaskMatrix
        >>> from supsup_models import MaskedNetwork, mixed_logits
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> matrix = MaskMatrix(model.spec)
        >>> for name in ("cats", "dogs"):
        ...     matrix.append(name, model.mask_of(model.initial_scores(len(matrix))))
        >>> images = torch.ones(3, 64)
        >>> logits = mixed_logits(model, matrix, images, ["dogs", "cats", "dogs"])
        >>> torch.allclose(logits[1:2], model(images[1:2], matrix["cats"]), atol=1e-5)
        True
    """
    check_model(model)
    expect("masks", masks, (MaskSource, MaskMatrix), "a bank, a shard or a MaskMatrix")
    check_spec(model, masks)
    check_extras(extras)
    images = checked_images(images, model)
    if isinstance(tasks, str):
        tasks = [tasks] * len(images)
    names = list(expect("tasks", tasks, Sequence, "a task's name, or one for each image"))
    for name in names:
        expect("tasks", name, str, "names of tasks")
    if len(names) != len(images):
        raise ShapeError(f"tasks: expected a name for each of {len(images)} images, found {len(names)}")
    rows = {name: row for row, name in enumerate(dict.fromkeys(names))}
    own = OwnMasks.of(model.spec, [masks[name] for name in rows], [rows[name] for name in names])
    statistics: list[Extras] = []
    if model.initial_statistics():
        for name in rows:
            found = extras.get(name)
            if found is None and isinstance(masks, MaskSource):
                found = masks.extras(name)
            statistics.append(model.needed_extras(found))
    return finite_logits(run_mixed(model, images, own, statistics))


def run_mixed(
    model: MaskedModel, images: Tensor, own: OwnMasks, extras: Sequence[Extras] | Mapping[int, Extras] = ()
) -> Tensor:
    """Logits `(b, outputs)` of checked images `(b, inputs)`, each under its own mask, without gradient.

    `extras` are the normalisation statistics of the rows of `own` that are used; empty for a network without any.
    """
    counts = np.bincount(own.chosen, minlength=len(own.rows))
    shared = counts >= (_TOGETHER if compiles() else 1)
    result = images.new_empty(len(images), model.outputs)
    with torch.no_grad():
        for row in np.flatnonzero(shared).tolist():
            chosen = torch.from_numpy(np.flatnonzero(own.chosen == row)).to(images.device)
            weights = model.masked_weights(own.mask(row))
            result[chosen] = model.run_with(images[chosen], weights, extras[row] if extras else None)
        alone = np.flatnonzero(~shared[own.chosen])
        for start in range(0, len(alone), _CHUNK):
            some: NDArray[np.int64] = alone[start : start + _CHUNK]
            chosen = torch.from_numpy(some).to(images.device)
            rows, own_rows = np.unique(own.chosen[some], return_inverse=True)
            part = OwnMasks(own.spec, own.rows[rows], own_rows) if extras else own.some(some)
            result[chosen] = model.run_own(
                images[chosen], part, [extras[row] for row in rows.tolist()] if extras else ()
            )
    return result


def finite_logits(logits: Tensor) -> Tensor:
    """ImageValueError for logits that are not finite: the images are too large for the network's arithmetic."""
    if not torch.isfinite(logits).all():
        raise ImageValueError(
            "images: expected values that the network can compute with, found NaN or infinity in its answers"
        )
    return logits
