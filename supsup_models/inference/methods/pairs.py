"""The best pair of a task and a class: what each mask says of every class, over several views of an image.

The evidence for class c of mask t is the mean over the views v of log p_t(v * classes + c | view v of the image), where
p_t is the softmax over all outputs. Masks that were trained with views name the view of their own images, so the
evidence is near 0 for an image of their task, and far below for others. With one view it is log p_t(c | image).
"""

import torch
from torch import Tensor

from supsup_models.data import Views
from supsup_models.inference.labelling import class_evidence
from supsup_models.inference.objectives import Objective
from supsup_models.inference.per_image import UnpackedLayer
from supsup_models.inference.superposition import Superposition
from supsup_models.networks import Extras, MaskedModel, MaskedNetwork


def of_batch(mixed: Superposition[MaskedModel], images: Tensor, objective: Objective) -> Tensor:
    """The mean over a batch of each image's best evidence under each mask, `(k,)`."""
    return of_each(mixed, images, objective).mean(dim=0)


def of_each(mixed: Superposition[MaskedModel], images: Tensor, objective: Objective) -> Tensor:
    """Each image's best evidence under each mask, `(b, k)`. The objective has no part in it."""
    model, matrix, views = mixed.model, mixed.matrix, mixed.views
    unpacked = UnpackedLayer(model, matrix) if isinstance(model, MaskedNetwork) else None
    scores = images.new_empty(len(images), len(matrix))
    for mask, name in enumerate(matrix.names):
        if isinstance(model, MaskedNetwork) and unpacked is not None:
            linear = unpacked.linear(mask)
            logits = torch.stack([model.run(each, linear) for each in shown(images, views)])
            of_classes = class_evidence(logits, model.classes)
        else:
            weights = model.masked_weights(matrix[mask])
            of_classes = evidence(model, images, weights, mixed.extras.get(name), views)
        scores[:, mask] = of_classes.amax(dim=1)
    return scores


def evidence(model: MaskedModel, images: Tensor, weights: Tensor, extras: Extras, views: Views | None) -> Tensor:
    """What a mask of these effective weights says of each class, `(b, classes)`, in nats."""
    logits = [model.run_with(each, weights, extras) for each in shown(images, views)]
    return class_evidence(torch.stack(logits), model.classes)


def shown(images: Tensor, views: Views | None) -> Tensor:
    """All views of images: `(b, inputs)` -> `(count, b, inputs)`."""
    return images[None] if views is None else views(images)
