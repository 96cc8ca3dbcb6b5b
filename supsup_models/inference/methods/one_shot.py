"""One-shot inference: a single gradient at the mean mask (Wortsman et al. 2020, section 3.3), and its short-list form.

For one image the short list asks a sketch of the scores which few masks are worth an exact score. In a converted
network the one-shot score itself is the sketch: the few masks that it prefers run by themselves, as in exhaustive
inference. Where masks are sparse both scores decide, since each errs on other images than the other one
(`docs/rate.md`, "Any network").
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstore.torch import PackedMasks
from supsup_models.inference.objectives import Entropy, Objective, preference
from supsup_models.inference.per_image import (
    LayerTrace,
    UnpackedLayer,
    image_derivatives,
    on_packed_bits,
    packed_image_derivatives,
    sketched_image_derivatives,
    trace,
)
from supsup_models.inference.superposition import Superposition, checked_answers, mask_derivatives
from supsup_models.networks import Extras, MaskedModel, MaskedNetwork, logits_along

SHORT_LIST = 4  # masks for which short-list computes the exact score
SKETCH_SHARE = 0.1  # of the first layer's neurons: of 250 tasks the best is on the list for 99.7 % of images
_FEW = 128  # images in a forward-mode pass, whose activations are all kept
MASKS_AN_IMAGE = 350  # with so many times more masks than images, packed dot products give scores faster


def of_batch(mixed: Superposition[MaskedModel], images: Tensor, objective: Objective) -> Tensor:
    """One-shot preferences `(k,)` for a batch as a whole."""
    return preferences(mixed.model, mixed.masks, mixed.weights(), images, objective, mixed.statistics())


def preferences(
    model: MaskedModel,
    masks: PackedMasks,
    superposed: Tensor,
    images: Tensor,
    objective: Objective,
    statistics: Extras = None,
) -> Tensor:
    """Preferences `(k,)` of some masks by the gradient at given superposed weights."""
    return preference(masks.dot(mask_derivatives(model, superposed, images, objective, statistics)))


def leaders(mixed: Superposition[MaskedModel], batches: Sequence[Tensor], objective: Objective, error: float) -> Tensor:
    """Preferences `(batches, k)`, of which only those of the best masks of each batch are exact."""
    weights, statistics, masks = mixed.weights(), mixed.statistics(), mixed.masks
    usual = mixed.usual(objective) if mixed.matrix.mapped else None
    found = []
    for images in batches:
        wanted = preference(mask_derivatives(mixed.model, weights, images, objective, statistics))
        found.append(masks.leader(wanted, error=error, usual=usual).products)
    return torch.stack(found)


def of_each(mixed: Superposition[Any], images: Tensor, objective: Objective) -> Tensor:
    """One-shot preferences `(b, k)`, each image by itself; images must not mix in the network."""
    model, matrix = mixed.model, mixed.matrix
    if not isinstance(model, MaskedNetwork):
        if len(images) <= len(matrix):
            return torch.stack([of_batch(mixed, image, objective) for image in images.split(1)])
        return preference(torch.cat([_derivatives_by_mask(mixed, few, objective) for few in images.split(_FEW)]))
    if on_packed_bits(model) and len(images) <= max(1, len(matrix) // MASKS_AN_IMAGE):
        return torch.stack([of_batch(mixed, image, objective) for image in images.split(1)])
    traced = _traced(mixed, images, objective)
    if on_packed_bits(model):
        return preference(packed_image_derivatives(model, matrix, traced))
    everyone = torch.arange(len(images), device=images.device)
    listed = [(mask, everyone) for mask in range(len(matrix))]
    return preference(image_derivatives(model, UnpackedLayer(model, matrix), traced, listed, len(matrix)))


def _derivatives_by_mask(mixed: Superposition[MaskedModel], images: Tensor, objective: Objective) -> Tensor:
    """dL_b/dalpha_i for each image b and mask i, `(b, k)`: one forward-mode pass a mask, any network."""
    weights, statistics = mixed.weights(), mixed.statistics()
    found = []
    for mask in range(len(mixed.matrix)):
        direction = mixed.model.masked_weights(mixed.matrix[mask])
        logits, tangents = logits_along(mixed.model, weights, direction, images, statistics)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(objective.cost(logits.requires_grad_()).sum(), logits)
        found.append((slope * tangents).sum(dim=1))
    return checked_answers(torch.stack(found, dim=1))


def short_list_of_each(mixed: Superposition[Any], images: Tensor, objective: Objective) -> Tensor:
    """One-shot preferences `(b, k)` of the few masks that look best to a sketch for each image; -inf for others.

    The sketch sees the first layer through a share of its neurons, those with the largest gradient. It sees all of them
    where masks are sparse, since few neurons then see enough of a mask. For a converted network see the module.
    """
    model, matrix = mixed.model, mixed.matrix
    if not isinstance(model, MaskedNetwork):
        return _exhaustive_among_few(mixed, images, objective, of_each(mixed, images, objective))
    if not on_packed_bits(model):  # a pass over the bits is not the cheap part there
        return of_each(mixed, images, objective)
    share = SKETCH_SHARE if model.densities is None else 1.0
    traced = _traced(mixed, images, objective)
    sketch = preference(sketched_image_derivatives(model, matrix, traced, share))
    listed = sketch.topk(min(SHORT_LIST, len(matrix)), dim=1).indices.sort(dim=1).values
    exact = preference(packed_image_derivatives(model, matrix, traced, listed))
    return torch.full_like(sketch, -torch.inf).scatter_(1, listed, exact)


def short_list_of_batch(mixed: Superposition[Any], images: Tensor, objective: Objective) -> Tensor:
    """Preferences `(k,)` for a batch as a whole: one-shot; in a converted network as `short_list_of_each`."""
    first = of_batch(mixed, images, objective)
    if isinstance(mixed.model, MaskedNetwork):
        return first
    return _exhaustive_among_few(mixed, images, objective, first.expand(len(images), -1)).mean(dim=0)


def _exhaustive_among_few(
    mixed: Superposition[MaskedModel], images: Tensor, objective: Objective, first: Tensor
) -> Tensor:
    """Scores of each image for the few masks that are best by the one-shot scores `first`, `(b, k)`; -inf for others.

    That is minus the cost under the mask itself. For sparse masks, whose one-shot scores are trained, it is minus the
    entropy in nats plus the one-shot score, in units of the root mean square of the image's scores for all masks.
    """
    model, matrix = mixed.model, mixed.matrix
    sparse = model.densities is not None
    deciding = Entropy() if sparse else objective
    listed = first.topk(min(SHORT_LIST, len(matrix)), dim=1).indices
    scores = torch.full_like(first, -torch.inf)
    for mask in listed.unique().tolist():
        chosen = (listed == mask).any(dim=1).nonzero()[:, 0]
        extras = model.needed_extras(mixed.extras.get(matrix.names[mask]))
        logits = model.run_with(images[chosen], model.masked_weights(matrix[mask]), extras)
        scores[chosen, mask] = checked_answers(preference(deciding.cost(logits)))
    if sparse:
        scores += first / first.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-30)
    return scores


def _traced(mixed: Superposition[MaskedNetwork], images: Tensor, objective: Objective) -> list[LayerTrace]:
    """The pass of every image at the mean mask."""
    model, by_layer = mixed.model, mixed.model.layer_weights(mixed.weights())
    return trace(model, images, lambda index, a: F.linear(a, by_layer[index]), objective)
