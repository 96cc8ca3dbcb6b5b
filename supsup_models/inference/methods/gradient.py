"""Task inference by descending on alpha, the masks' weights in the superposition (Wortsman et al. 2020, section 3.3).

One-shot inference asks once, at the mean mask, which weight to raise. Here the weights are raised and the question is
asked again, of a superposition that is less and less of a mixture. Steps are multiplicative, alpha := alpha *
exp(-rate * gradient), then divided by their sum: the re-normalisation to the simplex is then exact, weights stay
positive, and the order of the masks plays no part (exponentiated gradient: Kivinen & Warmuth 1997). The first step
ranks the masks as one-shot does, but in networks of given densities, where one-shot asks at the expected superposition.
Gradients are in units of that first step's spread: a superposition that is certain already has small gradients, mostly
noise, and must not be moved by them.

Weights are kept as logarithms up to a constant; a mask that is far behind drops out of the superposition, and comes
back if those ahead of it fall.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supsup_models.inference.methods.one_shot import preferences
from supsup_models.inference.objectives import Objective, preference
from supsup_models.inference.per_image import Mixture, UnpackedLayer, image_derivatives, trace
from supsup_models.inference.superposition import Superposition
from supsup_models.networks import MaskedModel, MaskedNetwork

STEPS = 12
RATE = 2.0  # a step multiplies the best mask's weight by e**RATE, relative to an average mask's
_WINDOW = 7.0  # masks with less than e**-7 of the best one's weight are left out of the superposition
_DECIDED = 0.99  # weight at which a mask has won


def of_batch(mixed: Superposition[MaskedModel], images: Tensor, objective: Objective) -> Tensor:
    """log alpha, up to a constant, `(k,)`, for a batch as a whole; one packed weighted sum and dot a step."""
    model, masks = mixed.model, mixed.masks

    def downhill(undecided: Tensor, alpha: Tensor) -> Tensor:
        flat = masks.weighted_sum(alpha[0]).to(model.weights).mul_(model.weights)
        return preferences(model, masks, flat, images, objective)[None].cpu().double()

    return _descend(torch.zeros(1, len(masks), dtype=torch.float64), downhill)[0]


def of_each(mixed: Superposition[Any], images: Tensor, objective: Objective) -> Tensor:
    """log alpha, up to a constant for each image, `(b, k)`; every image has weights of its own."""
    model, k = mixed.model, len(mixed.matrix)
    if not isinstance(model, MaskedNetwork):
        return torch.stack([of_batch(mixed, image, objective) for image in images.split(1)])
    unpacked = UnpackedLayer(model, mixed.matrix)

    def downhill(undecided: Tensor, alpha: Tensor) -> Tensor:
        mixture = Mixture(model, unpacked, alpha)
        traced = trace(model, images[undecided], mixture, objective)
        return preference(image_derivatives(model, unpacked, traced, mixture.images_of, k))

    return _descend(images.new_zeros(len(images), k), downhill)


def _descend(logs: Tensor, downhill: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """All steps for each row of log alpha `(b, k)` by itself, in place.

    `downhill` gives minus the gradient `(n, k)` at the weights alpha `(n, k)` of the rows `(n,)` that are undecided.
    """
    undecided = torch.arange(len(logs), device=logs.device)
    spread: Tensor | None = None
    for _ in range(STEPS):
        alpha = _weights(logs[undecided])
        found = downhill(undecided, alpha)
        spread = _spread(found) if spread is None else spread
        logs[undecided] = _raised(logs[undecided], found, alpha > 0, spread[undecided])
        undecided = undecided[_weights(logs[undecided]).amax(dim=1) <= _DECIDED]
        if not len(undecided):
            break
    return logs


def _weights(logs: Tensor) -> Tensor:
    """alpha on the simplex, `(b, k)`: the softmax of its logarithms over those within the window."""
    ahead = logs > logs.amax(dim=1, keepdim=True) - _WINDOW
    return torch.softmax(torch.where(ahead, logs, -torch.inf), dim=1)


def _spread(downhill: Tensor) -> Tensor:
    """How far the best is ahead of the mean, `(b, k)` -> `(b, 1)`; never 0."""
    ahead = downhill.amax(dim=1, keepdim=True) - downhill.mean(dim=1, keepdim=True)
    return ahead.clamp(min=torch.finfo(downhill.dtype).tiny)


def _raised(logs: Tensor, downhill: Tensor, mixed: Tensor, spread: Tensor) -> Tensor:
    """Logarithms after one step along `downhill` `(b, k)`, defined where a mask was `mixed` in; the others stay."""
    best = torch.where(mixed, downhill, -torch.inf).amax(dim=1, keepdim=True)
    below = torch.where(mixed, best - downhill, 0.0)
    return logs - RATE * below / spread
