"""Binary inference: halve the candidates by the median of the gradient until one is left (Wortsman et al. 2020,
algorithm 2)."""

import torch
from torch import Tensor

from supsup_models.inference.methods import one_shot
from supsup_models.inference.objectives import Objective, preference
from supsup_models.inference.per_image import Mixture, UnpackedLayer, image_derivatives, trace
from supsup_models.inference.superposition import Superposition, mask_derivatives, superposed_weights
from supsup_models.networks import MaskedModel, MaskedNetwork


def of_batch(mixed: Superposition[MaskedModel], images: Tensor, objective: Objective) -> Tensor:
    """For a batch as a whole, the number of rounds that each mask survived plus its rank in the last, `(k,)`."""
    model, masks, weights = mixed.model, mixed.masks, mixed.weights()
    candidates = torch.ones(1, len(masks), dtype=torch.bool)
    result = torch.zeros(1, len(masks))
    round_number = 0
    while int(candidates.sum()) > 1:
        rows = candidates[0].nonzero()[:, 0]
        chosen = masks if round_number == 0 else masks.select(rows.tolist())
        if round_number and model.densities is None:  # no round moves the expected superposition
            weights = superposed_weights(model, chosen)
        scores = torch.full((1, len(masks)), torch.nan)
        scores[0, rows] = preference(chosen.dot(mask_derivatives(model, weights, images, objective))).cpu()
        kept = median_split(scores, candidates)
        _place(result, scores, candidates, candidates & ~kept, round_number)
        candidates = kept
        round_number += 1
    result[candidates] = round_number
    return result[0]


def of_each(mixed: Superposition[MaskedNetwork], images: Tensor, objective: Objective) -> Tensor:
    """As `of_batch`, each image by itself: `(b, k)`."""
    model, k = mixed.model, len(mixed.matrix)
    unpacked = UnpackedLayer(model, mixed.matrix)
    candidates = torch.ones(len(images), k, dtype=torch.bool, device=images.device)
    result = images.new_zeros(len(images), k)
    first = one_shot.of_each(mixed, images, objective)
    round_number = 0
    while True:
        undecided = (candidates.sum(dim=1) > 1).nonzero()[:, 0]
        if not len(undecided):
            break
        if round_number == 0 or model.densities is not None:  # no round moves the expected superposition
            scores = first[undecided]
        else:
            chosen = candidates[undecided].to(images.dtype)
            mixture = Mixture(model, unpacked, chosen / chosen.sum(dim=1, keepdim=True))
            traced = trace(model, images[undecided], mixture, objective)
            scores = preference(image_derivatives(model, unpacked, traced, mixture.images_of, k))
        before = candidates[undecided]
        kept = median_split(scores, before)
        placed = result[undecided]
        _place(placed, scores, before, before & ~kept, round_number)
        result[undecided] = placed
        candidates[undecided] = kept
        round_number += 1
        decided = kept.sum(dim=1) == 1
        result[undecided[decided]] = torch.where(kept[decided], float(round_number), result[undecided[decided]])
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


def _place(result: Tensor, scores: Tensor, candidates: Tensor, dropped: Tensor, round_number: int) -> None:
    """Write the final score of the masks dropped in a round: the round, plus their rank in it as a fraction below 1."""
    ranked = torch.where(dropped, scores, torch.inf)
    rank = ranked.argsort(dim=1, stable=True).argsort(dim=1, stable=True).to(result.dtype)
    fraction = rank / candidates.sum(dim=1, keepdim=True)
    result[:] = torch.where(dropped, round_number + fraction, result)
