"""The prototypes of a task on kept weights: what task inference compares images with, in one pass for all tasks."""

import numpy as np
import torch
from numpy.typing import NDArray

from supsup_models.data import LabelledImages, checked_images, checked_labels
from supsup_models.errors import NoFeaturesError
from supsup_models.networks import MaskedModel

IMAGES = 512
"""The most images that prototypes are the means of."""
_CHUNK = 64  # images that run through the network at a time


def class_prototypes(model: MaskedModel, data: LabelledImages) -> NDArray[np.float32] | None:
    """The mean features of each class of a task, `(classes, features)`; classes without an image have none.

    At most 512 images are looked at, evenly spread over the data. None for a network whose masked layers have no
    outputs that could be looked at, such as one that takes their weights alone.
    """
    count = len(data.labels)
    rows = torch.arange(count) if count <= IMAGES else torch.linspace(0, count - 1, IMAGES, dtype=torch.float64).long()
    data = data.to(model.device)
    labels = checked_labels(data.labels, model.classes)[rows.to(data.labels.device)]
    shown = (checked_images(data.images(part.to(model.device)), model) for part in rows.split(_CHUNK))
    try:
        parts = [model.features(images) for images in shown]
    except NoFeaturesError:
        return None
    features = torch.cat(parts).double()
    means = [features[labels == each].mean(dim=0) for each in labels.unique().tolist()]
    return torch.stack(means).float().cpu().numpy()
