"""Images and labels that a caller gives, checked before anything is computed from them."""

import warnings
from math import isfinite
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from supsup_models._names import found
from supsup_models.data.tasks import LabelledImages, Split
from supsup_models.errors import ImageValueError, ImageValueWarning, LabelValueError, NetworkError, ShapeError

_MOST_MEAN = 4.0
"""Of the values without their signs: below 3 for white images that are normalised; more for raw pixels."""


NO_IMAGES = "network: expected one converted with image_shape, so that it takes images, found none"
"""What is said of a network of which nobody knows what an image and a class are."""


class TakesImages(Protocol):
    """What a network says about the images it takes."""

    @property
    def inputs(self) -> int:
        """Values of an image."""

    @property
    def weights(self) -> Tensor:
        """Its weights, whose dtype and device images get."""

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The shape of an image, where it takes no flat ones alone."""


def image_tensor(images: Any) -> Tensor:
    """Real numbers as a tensor, of whatever shape, dtype and device; ShapeError for anything else.

    Arrays that torch does not take (of another byte order, read backwards, read-only) are copied.
    """
    if not isinstance(images, Tensor):
        try:
            array = np.asarray(images)
        except ValueError:
            raise ShapeError("images: expected an array, found rows of unequal lengths") from None
        if array.dtype.kind not in "buif":
            raise ShapeError(f"images: expected real numbers, found {array.dtype}")
        images = torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    tensor: Tensor = images
    if tensor.is_meta:
        raise ShapeError("images: expected real numbers, found a tensor on the meta device, which has none")
    if tensor.is_complex() or tensor.layout is not torch.strided:
        raise ShapeError(f"images: expected real numbers in a dense tensor, found {tensor.dtype}, {tensor.layout}")
    return tensor


def checked_images(images: Any, model: TakesImages) -> Tensor:
    """Images as a tensor `(b, inputs)` of the network's dtype on its device; they may come in the image's own shape.

    Raises ShapeError for another shape, none at all or what are no real numbers, ImageValueError for NaN or infinity
    and for uint8: those are pixels that nobody has normalised, and a network does not know how its images were.
    NetworkError for a network that was converted without an image's shape.
    """
    if not model.inputs:
        raise NetworkError(NO_IMAGES)
    tensor = image_tensor(images)
    if tensor.dtype == torch.uint8:
        raise ImageValueError(
            "images: expected floats, normalised as in training, found uint8 pixels; "
            "(pixels / 255 - mean) / std with the mean and std of the training images makes them"
        )
    if model.image_shape is not None and tuple(tensor.shape[1:]) == tuple(model.image_shape):
        tensor = tensor.reshape(len(tensor), model.inputs)
    if tensor.ndim != 2 or tensor.shape[1] != model.inputs or not len(tensor):
        raise ShapeError(f"images: expected shape (b, {model.inputs}) with b >= 1, found {tuple(tensor.shape)}")
    tensor = tensor.to(model.weights).resolve_neg()  # half of a conjugate may be a view that numpy does not take
    # one cheap pass says whether a slower look is needed: a sum is finite unless a term is not (or it overflows)
    mean = _sum(tensor) / tensor.numel()
    if not isfinite(mean):
        if not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor).all(dim=1)).nonzero()[0])
            raise ImageValueError(f"images: expected finite values, found NaN or infinity in image {bad}")
        mean = float(tensor.cpu().double().abs().mean())
    if mean > _MOST_MEAN:
        warnings.warn(
            f"images: expected values normalised as in training, near 0, found a mean of {mean:.4g} without signs; "
            "raw pixels and other ranges give wrong answers to a network that was trained on normalised values",
            ImageValueWarning,
            stacklevel=3,
        )
    return tensor


def _sum(tensor: Tensor) -> float:
    """The sum of a tensor's values without their signs.

    On the host by numpy: to wake torch's threads takes ten times as long as a batch's sum.
    """
    if tensor.device.type == "cpu" and tensor.dtype == torch.float32:
        with np.errstate(all="ignore"):
            return float(np.abs(tensor.detach().numpy()).sum())
    return float(tensor.abs().sum(dtype=torch.promote_types(tensor.dtype, torch.float32)))


def check_image_shape(data: LabelledImages, model: TakesImages) -> None:
    """ShapeError for images that came in a shape of their own, in which pixels lie in another order than the network's.

    Flat images have no such shape. Sizes of 1 change no order.
    """
    came, wanted = data.image_shape if isinstance(data, Split) else None, model.image_shape
    if came is None or wanted is None:
        return
    plain, expected = (tuple(size for size in shape if size != 1) for shape in (came, wanted))
    if len(plain) > 1 and len(expected) > 1 and plain != expected:
        raise ShapeError(
            f"images: expected shape (n, {model.inputs}) or (n, {', '.join(map(str, wanted))}), as the network has it, "
            f"found (n, {', '.join(map(str, came))}); transpose or reshape them first"
        )


def checked_labels(labels: Any, classes: int) -> Tensor:
    """Labels as an int64 tensor `(n,)`.

    Raises ShapeError for another shape or none at all, LabelValueError for labels outside [0, classes).
    """
    try:
        tensor = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # as torch says it of what is no array
        raise ShapeError(f"labels: expected integers of shape (n,), found {found(labels)}") from None
    if tensor.ndim != 1 or not len(tensor) or tensor.is_floating_point():
        raise ShapeError(f"labels: expected integers of shape (n,), found {tensor.dtype} of {tuple(tensor.shape)}")
    wrong = (tensor < 0) | (tensor >= classes)
    if wrong.any():
        raise LabelValueError(f"labels: expected values in [0, {classes}), found {int(tensor[wrong][0])}")
    return tensor.to(torch.int64)
