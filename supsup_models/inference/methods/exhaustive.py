"""Exhaustive inference: every mask's own cost, one forward pass a mask."""

from torch import Tensor

from supsup_models.inference.objectives import Objective, preference
from supsup_models.inference.per_image import UnpackedLayer
from supsup_models.inference.superposition import Superposition
from supsup_models.networks import MaskedModel, MaskedNetwork


def of_batch(mixed: Superposition[MaskedModel], images: Tensor, objective: Objective) -> Tensor:
    """Minus the mean cost of a batch under each mask, `(k,)`."""
    return of_each(mixed, images, objective).mean(dim=0)


def of_each(mixed: Superposition[MaskedModel], images: Tensor, objective: Objective) -> Tensor:
    """Minus the cost of each image under each mask, `(b, k)`.

    Under a mask without extras, images mix in normalisation layers.
    """
    model, matrix = mixed.model, mixed.matrix
    unpacked = UnpackedLayer(model, matrix) if isinstance(model, MaskedNetwork) else None
    scores = images.new_empty(len(images), len(matrix))
    for mask, name in enumerate(matrix.names):
        if isinstance(model, MaskedNetwork) and unpacked is not None:
            logits = model.run(images, unpacked.linear(mask))
        else:
            logits = model.run_with(images, model.masked_weights(matrix[mask]), mixed.extras.get(name))
        scores[:, mask] = preference(objective.cost(logits))
    return scores
