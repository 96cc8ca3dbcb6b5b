"""Binary inference: halve the candidates by the median of the gradient until one is left (Wortsman et al. 2020,
algorithm 2)."""

from collections.abc import Callable
from itertools import count
from typing import Any

import torch
from torch import Tensor

from supsup_models.inference.methods import one_shot
from supsup_models.inference.objectives import Objective, preference
from supsup_models.inference.per_image import Mixture, UnpackedLayer, image_derivatives, trace
from supsup_models.inference.superposition import Superposition, superposed_weights
from supsup_models.networks import MaskedModel, MaskedNetwork


def of_batch(mixed: Superposition[MaskedModel], images: Tensor, objective: Objective) -> Tensor:
    """For a batch as a whole, the number of rounds that each mask survived plus its rank in the last, `(k,)`."""
    model, masks = mixed.model, mixed.masks
    first = one_shot.of_batch(mixed, images, objective)[None].cpu()

    def scores(undecided: Tensor, candidates: Tensor) -> Tensor:
        rows = candidates[0].nonzero()[:, 0]
        chosen = masks.select(rows.tolist())
        found = one_shot.preferences(model, chosen, superposed_weights(model, chosen), images, objective)
        return torch.full_like(first, torch.nan).index_copy_(1, rows, found[None].cpu())

    return _halve(first, scores if model.densities is None else None)[0]


def of_each(mixed: Superposition[Any], images: Tensor, objective: Objective) -> Tensor:
    """As `of_batch`, each image by itself: `(b, k)`."""
    model = mixed.model
    if model.densities is not None:
        return _halve(one_shot.of_each(mixed, images, objective), None)
    if not isinstance(model, MaskedNetwork):
        return torch.stack([of_batch(mixed, image, objective) for image in images.split(1)])
    unpacked = UnpackedLayer(model, mixed.matrix)

    def scores(undecided: Tensor, candidates: Tensor) -> Tensor:
        chosen = candidates.to(images.dtype)
        mixture = Mixture(model, unpacked, chosen / chosen.sum(dim=1, keepdim=True))
        traced = trace(model, images[undecided], mixture, objective)
        return preference(image_derivatives(model, unpacked, traced, mixture.images_of, candidates.shape[1]))

    return _halve(one_shot.of_each(mixed, images, objective), scores)


def _halve(first: Tensor, later: Callable[[Tensor, Tensor], Tensor] | None) -> Tensor:
    """The rounds of algorithm 2, for each row by itself: scores `(b, k)` of the first round -> final scores `(b, k)`.

    `later` scores the masks in later rounds, given the rows `(n,)` that are still undecided and their candidates
    `(n, k)`; None where no round moves the superposition, as in networks of given densities.
    """
    candidates, result = torch.ones_like(first, dtype=torch.bool), torch.zeros_like(first)
    for round_number in count():
        undecided = (candidates.sum(dim=1) > 1).nonzero()[:, 0]
        if not len(undecided):
            break
        before = candidates[undecided]
        scores = first[undecided] if later is None or not round_number else later(undecided, before)
        kept = median_split(scores, before)
        dropped = before & ~kept
        # masks that are dropped together get the round, plus their rank among them as a fraction below 1
        rank = torch.where(dropped, scores, torch.inf).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
        placed = torch.where(dropped, round_number + rank / before.sum(dim=1, keepdim=True), result[undecided])
        won = kept & (kept.sum(dim=1, keepdim=True) == 1)
        result[undecided] = torch.where(won, round_number + 1.0, placed.to(result.dtype))
        candidates[undecided] = kept
    return result


def median_split(scores: Tensor, candidates: Tensor) -> Tensor:
    """One halving of algorithm 2 for every row: keep the candidates whose score is above the candidates' median.

    scores `(b, k)` (anything where not a candidate), candidates `(b, k)` bool -> kept `(b, k)` bool, at least one and,
    of two or more, always fewer. Where ties leave nothing above the median, the best are kept, and of candidates that
    are all equal the first.
    """
    count = candidates.sum(dim=1, keepdim=True)
    lowest = torch.where(candidates, scores, torch.inf).sort(dim=1).values
    median = (lowest.gather(1, (count - 1) // 2) + lowest.gather(1, count // 2)) / 2
    kept = candidates & (scores > median)
    stuck = ~kept.any(dim=1, keepdim=True)
    if stuck.any():
        masked = torch.where(candidates, scores, -torch.inf)
        best = candidates & (scores == masked.amax(dim=1, keepdim=True))
        all_tied = best.sum(dim=1, keepdim=True) == count
        first = torch.zeros_like(kept).scatter_(1, candidates.int().argmax(dim=1, keepdim=True), True)
        kept = torch.where(stuck, torch.where(all_tied, first, best), kept)
    return kept
