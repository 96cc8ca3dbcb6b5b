"""Images and labels that a caller gives, checked before anything is computed from them."""

from math import isfinite
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from supsup_models.errors import ImageValueError, LabelValueError, ShapeError


class TakesImages(Protocol):
    """What a network says about the images it takes."""

    @property
    def inputs(self) -> int:
        """Values of an image."""

    @property
    def weights(self) -> Tensor:
        """Its weights, whose dtype and device images get."""


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
    if tensor.is_complex() or tensor.layout is not torch.strided:
        raise ShapeError(f"images: expected real numbers in a dense tensor, found {tensor.dtype}, {tensor.layout}")
    return tensor


def checked_images(images: Any, model: TakesImages) -> Tensor:
    """Images as a tensor `(b, inputs)` of the network's dtype on its device.

    Raises ShapeError for another shape, none at all or what are no real numbers, ImageValueError for NaN or infinity.
    """
    tensor = image_tensor(images)
    if tensor.ndim != 2 or tensor.shape[1] != model.inputs or not len(tensor):
        raise ShapeError(f"images: expected shape (b, {model.inputs}) with b >= 1, found {tuple(tensor.shape)}")
    tensor = tensor.to(model.weights).resolve_neg()  # half of a conjugate may be a view that numpy does not take
    # one cheap pass says whether a slower look is needed: a sum is finite unless a term is not (or it overflows)
    if not isfinite(_sum(tensor)) and not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor).all(dim=1)).nonzero()[0])
        raise ImageValueError(f"images: expected finite values, found NaN or infinity in image {bad}")
    return tensor


def _sum(tensor: Tensor) -> float:
    """The sum of a tensor, on the host by numpy: to wake torch's threads takes ten times as long as a batch's sum."""
    if tensor.device.type == "cpu" and tensor.dtype == torch.float32:
        with np.errstate(all="ignore"):
            return float(tensor.detach().numpy().sum())
    return float(tensor.sum())


def checked_labels(labels: Any, classes: int) -> Tensor:
    """Labels as an int64 tensor `(n,)`.

    Raises ShapeError for another shape or none at all, LabelValueError for labels outside [0, classes).
    """
    tensor = torch.as_tensor(labels)
    if tensor.ndim != 1 or not len(tensor) or tensor.is_floating_point():
        raise ShapeError(f"labels: expected integers of shape (n,), found {tensor.dtype} of {tuple(tensor.shape)}")
    wrong = (tensor < 0) | (tensor >= classes)
    if wrong.any():
        raise LabelValueError(f"labels: expected values in [0, {classes}), found {int(tensor[wrong][0])}")
    return tensor.to(torch.int64)
