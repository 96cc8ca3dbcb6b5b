"""Logits and labels of images whose mask is known, and how many labels are right."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskMatrix
from maskstore.bank import MaskSource
from maskstore.kernels import compiles
from supsup_models._names import expect, found
from supsup_models.data import Views, check_image_shape, checked_images, checked_labels, labelled_images
from supsup_models.errors import ArgumentTypeError, ImageValueError, MethodWarning, ShapeError
from supsup_models.inference.given import check_extras, check_spec
from supsup_models.inference.sampling import CHUNK
from supsup_models.networks import AnyMask, Extras, MaskedModel, OwnMasks, TaskExtras, check_model

_TOGETHER = 8  # images from which on a mask is unpacked for them
_SIDE_BY_SIDE = 32, 256  # other images that run side by side: of images in rows and columns, and of flat ones
NO_EXTRAS: TaskExtras = MappingProxyType({})
"""The extras of masks that have none."""


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
    chosen = [rows[name] for name in names]
    if isinstance(masks, MaskMatrix):
        own = OwnMasks.of_matrix(masks, [masks.index(name) for name in rows], chosen)
    else:
        own = OwnMasks.of(model.spec, [masks[name] for name in rows], chosen)
    statistics: list[Extras] = []
    if model.has_extras:
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
        most = _SIDE_BY_SIDE[model.image_shape is None]
        for start in range(0, len(alone), most):
            some: NDArray[np.int64] = alone[start : start + most]
            chosen = torch.from_numpy(some).to(images.device)
            rows, own_rows = np.unique(own.chosen[some], return_inverse=True)
            part = OwnMasks(own.spec, own.rows[rows], own_rows) if extras else own.some(some)
            result[chosen] = model.run_own(
                images[chosen], part, [extras[row] for row in rows.tolist()] if extras else ()
            )
    return result


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
    return finite_logits(result)


def finite_logits(logits: Tensor) -> Tensor:
    """ImageValueError for logits that are not finite: the images are too large for the network's arithmetic."""
    if not torch.isfinite(logits).all():
        raise ImageValueError(
            "images: expected values that the network can compute with, found NaN or infinity in its answers"
        )
    return logits


def run_each(
    model: MaskedModel, matrix: MaskMatrix, images: Tensor, rows: NDArray[np.int64], extras: TaskExtras = NO_EXTRAS
) -> Tensor:
    """Logits `(b, outputs)` of each image under the mask of its own row of the matrix, `rows` `(b,)`, without gradient.

    `extras` are the masks' normalisation statistics, by name.
    """
    names = matrix.names
    rows = np.asarray(rows)
    if (
        rows.dtype.kind not in "iu"
        or rows.shape != (len(images),)
        or (rows.size and not 0 <= rows.min() <= rows.max() < len(names))
    ):
        shown = f"{rows.dtype} of shape {rows.shape}"
        raise ShapeError(
            f"tasks: expected a row of the {len(names)} masks for each of {len(images)} images, found {shown}"
        )
    if model.needs_extras and rows.size:
        lacking = next((names[row] for row in np.unique(rows).tolist() if not extras.get(names[row])), None)
        if lacking is not None:
            warnings.warn(
                "images under their masks: expected the normalisation statistics of every mask (`extras`), found none "
                f"given for {lacking!r:.80}; those of the batch are used",
                MethodWarning,
                stacklevel=3,
            )
            return run_groups(
                model, images, rows, lambda row: (model.masked_weights(matrix[row]), extras.get(names[row]))
            )
    used, chosen = np.unique(rows, return_inverse=True)
    own = OwnMasks.of_matrix(matrix, used.tolist(), chosen)
    statistics = [extras.get(names[row]) for row in used.tolist()] if model.has_extras else []
    return finite_logits(run_mixed(model, images, own, statistics))


def classify(
    model: MaskedModel,
    matrix: MaskMatrix,
    images: Any,
    tasks: NDArray[np.int64],
    extras: TaskExtras = NO_EXTRAS,
    views: Views | None = None,
) -> Tensor:
    """Probabilities of each image's outputs under the mask of its own row of the matrix, `tasks` `(b,)`.

    `extras` are the masks' normalisation statistics, by name. Without `views` it is the softmax `(b, outputs)`; with
    views, what all of them say of each class, `(b, classes)`: the geometric mean of their probabilities.
    """
    checked = checked_images(images, model)
    if views is None:
        return torch.softmax(run_each(model, matrix, checked, tasks, extras), dim=1)
    return view_evidence(model, matrix, checked, tasks, extras, views).exp()


def view_evidence(
    model: MaskedModel,
    matrix: MaskMatrix,
    images: Tensor,
    tasks: NDArray[np.int64],
    extras: TaskExtras,
    views: Views,
) -> Tensor:
    """`class_evidence` `(b, classes)` of each image `(b, inputs)` under the mask of its own row, `tasks` `(b,)`."""
    logits = [run_each(model, matrix, each, tasks, extras) for each in views(images)]
    return class_evidence(torch.stack(logits), model.classes)


def class_evidence(logits: Tensor, classes: int) -> Tensor:
    """What the views of images say of each class, `(count, b, outputs)` -> `(b, classes)`, in nats.

    The mean over the views v of the log probability of output `v * classes + c` for class c, which is the output that
    training names for it in that view.
    """
    log_p = torch.log_softmax(logits, dim=2)
    of_view = [each[:, v * classes : (v + 1) * classes] for v, each in enumerate(log_p)]
    return torch.stack(of_view).mean(dim=0)


def labels_of(model: MaskedModel, outputs: Tensor) -> NDArray[np.int64]:
    """The likeliest real class from logits or probabilities, `(b, outputs)` -> `(b,)`; never a superfluous output."""
    labels: NDArray[np.int64] = outputs[:, : model.classes].argmax(dim=1).cpu().numpy()
    return labels


def mask_accuracy(model: MaskedModel, mask: AnyMask, data: Any, extras: Extras = None) -> float:
    """The fraction of images that get the right label under a given mask.

    Args:
        model: The network.
        mask: A mask of its layers, packed or a dict of arrays by layer.
        data: Images and labels, such as `task.test`, or in another form that `train_task` takes.
        extras: The mask's normalisation statistics, if it has any.

    Raises:
        ShapeError: The images, the mask or the extras do not fit the network.
        MissingStatisticsError: The network keeps running statistics, and the mask came without them.
        ArgumentTypeError, TaskDataError: There is nothing to take as a mask, or as labelled images.
        ImageValueError: The images hold NaN or infinity, are too large for the network's arithmetic, or are uint8.
        LabelValueError: Labels outside the network's classes.

    Examples:
        >>> from supsup_models import MaskedNetwork, Recipe, RMSProp, mask_accuracy, open_stream, train_task
        >>> (task,) = open_stream("permuted-digits", tasks=1)
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> one = train_task(model, task.train, Recipe("quick", RMSProp(4e-4)), task=0, steps=30)
        >>> mask_accuracy(model, one.mask, task.test) > 0.8
        True
    """
    check_model(model)
    model.check_takes_images()
    if mask is None:
        raise ArgumentTypeError("mask: expected a Mask or a dict of arrays by layer, found None")
    if extras is not None and not isinstance(extras, Mapping):
        raise ArgumentTypeError(f"extras: expected a dict of arrays, found {found(extras)}")
    data = labelled_images(data)
    check_image_shape(data, model)
    weights, extras = model.masked_weights(mask), model.needed_extras(extras)
    labels = checked_labels(data.labels, model.classes).numpy()
    right = 0
    with torch.no_grad():
        for rows in torch.arange(len(labels)).split(CHUNK):
            images = checked_images(data.images(rows), model)
            logits = finite_logits(model.run_with(images, weights, extras))
            right += int((labels_of(model, logits) == labels[rows.numpy()]).sum())
    return right / len(labels)
