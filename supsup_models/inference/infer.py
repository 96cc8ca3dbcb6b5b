"""Which task do these images belong to? One-shot, short-list, binary, exhaustive and gradient inference, masks packed.

Wortsman et al. 2020, section 3.3 and algorithms 1 and 2. Nothing here ever sees a label or a true task, and the answer
does not depend on the order of the tasks (exact ties aside: they go to the earlier one).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskMatrix
from maskstore.torch import PackedMasks
from supsup_models._names import choose
from supsup_models.data import checked_images
from supsup_models.errors import InferenceError, ShapeError
from supsup_models.inference.calibration import Calibration
from supsup_models.inference.methods import descend, descend_each
from supsup_models.inference.objectives import Objective, make_objective, preference
from supsup_models.inference.rows import rows_of
from supsup_models.inference.superposition import (
    NO_EXTRAS,
    LayerTrace,
    Mixture,
    UnpackedLayer,
    checked_answers,
    image_derivatives,
    mask_derivatives,
    on_packed_bits,
    packed_image_derivatives,
    sketched_image_derivatives,
    superposed_weights,
    trace,
)
from supsup_models.networks import MaskedModel, MaskedNetwork, TaskExtras

SHORT_LIST = 4  # masks for which short-list computes the exact score
SKETCH_SHARE = 0.1  # of the first layer's neurons: of 250 tasks the best is on the list for 99.7 % of images
_MASKS_AN_IMAGE = 350  # so many times as many masks as images: packed dot products are the faster way to their scores
_CHUNK = 1024  # images that per-image inference works on at a time


@dataclass(frozen=True)
class Guess:
    """The answer of task inference: rows of the matrix, and how much each mask is preferred.

    For a batch as a whole `task` is an int and `scores` `(k,)`; per image `task` is `(b,)` int64 and `scores` `(b, k)`.
    Scores are float32, higher is more likely, and `task` is their argmax. Their scale belongs to the method: minus
    dL/dalpha for one-shot, minus the cost for exhaustive; for binary the number of rounds a mask survived, plus its
    rank among those dropped with it as a fraction below 1; for gradient the logarithm of alpha, up to a constant; for
    short-list -inf where a mask was not on an image's list.
    """

    task: int | NDArray[np.int64]
    scores: NDArray[np.float32]
    confidence: float | NDArray[np.float32] | None = None
    """With a calibration: the fraction of the task's own images that look less like it; below 0.01, none of these."""


def infer_task(
    model: MaskedModel,
    matrix: MaskMatrix,
    images: Any,
    method: str = "one-shot",
    objective: str | None = None,
    per_image: bool = False,
    calibration: Calibration | None = None,
    extras: TaskExtras = NO_EXTRAS,
) -> Guess:
    """Infer the task of unlabelled images `(b, inputs)`, one for the whole batch or one for each image.

    method: "one-shot" (a single gradient at the mean mask), "binary" (halves the candidates by the median of the
    gradient until one is left), "exhaustive" (every mask's own cost), "gradient" (descends on the masks' weights) or
    "short-list" (one-shot for the few masks that a sketch of its scores prefers; several times faster per image, and
    the same for a batch). objective: "H" or "G", by default `model.objective`. With a `calibration` the guess says how
    sure it is.

    `extras` are the masks' normalisation statistics by name, as a bank keeps them. Only a single mask has any, so
    exhaustive inference and the calibration use them; a superposition normalises with the statistics of the batch. A
    network of such layers therefore needs at least two images of one task, or with `per_image` "exhaustive" and
    `extras` (InferenceError). Other converted networks are asked image by image where `per_image`.

    Raises ShapeError or ImageValueError for images that do not fit, InferenceError for an empty matrix or for G without
    superfluous outputs, UnknownNameError for other methods and objectives.
    """
    infer = choose("inference method", method, _METHODS)
    if method == "exhaustive":
        infer = replace(infer, batch=partial(_exhaustive, extras=extras), each=partial(_exhaustive_each, extras=extras))
    cost = make_objective(objective or model.objective, classes=model.classes, outputs=model.outputs)
    if not len(matrix):
        raise InferenceError("task inference: expected at least one mask, found none")
    if matrix.spec != model.spec:
        raise ShapeError(f"masks: expected the layers of {model.spec!r}, found {matrix.spec!r}")
    by_itself = method == "exhaustive" and all(extras.get(name) for name in matrix.names)
    # gradients are needed here, so a caller's inference mode is left for a while, and its tensors are copied out of it
    with torch.inference_mode(False), torch.no_grad():
        tensor = checked_images(images, model)
        tensor = tensor.clone() if tensor.is_inference() else tensor
        if not by_itself and (per_image or len(tensor) == 1):
            _check_images_do_not_mix(model)
        if per_image:
            each = checked_answers(_scores_of_each(infer, model, matrix, tensor, cost)).float().cpu().numpy()
            guess = Guess(each.argmax(axis=1).astype(np.int64, copy=False), each)
        else:
            scores = checked_answers(infer.batch(model, matrix, tensor, cost)).float().cpu().numpy()
            guess = Guess(int(scores.argmax()), scores)
    if calibration is None:
        return guess
    return replace(guess, confidence=calibration.confidence(model, matrix, tensor, guess.task, extras))


def _check_images_do_not_mix(model: MaskedModel) -> None:
    """InferenceError if the network's normalisation needs a batch."""
    mixing = next(iter(model.initial_statistics()), None)
    if mixing is not None:
        raise InferenceError(
            "per-image inference: expected a network that treats each image by itself, found batch statistics in "
            f"{mixing!r}; infer the task of whole batches (--images 16, --one-task), or exhaustively (--infer "
            "exhaustive), where each mask has statistics of its own"
        )


def _one_shot(model: MaskedModel, matrix: MaskMatrix, images: Tensor, objective: Objective) -> Tensor:
    return _asked_of(rows_of(model, matrix), model, images, objective)


def _asked_of(rows: PackedMasks, model: MaskedModel, images: Tensor, objective: Objective) -> Tensor:
    """One-shot preferences `(k,)` of some masks at their mean."""
    return preference(rows.dot(mask_derivatives(model, superposed_weights(model, rows), images, objective)))


def _trace_mean(model: MaskedNetwork, matrix: MaskMatrix, images: Tensor, objective: Objective) -> list[LayerTrace]:
    by_layer = model.layer_weights(superposed_weights(model, rows_of(model, matrix)))
    return trace(model, images, lambda index, a: model.layers[index].apply(a, by_layer[index]), objective)


def _one_shot_each(model: MaskedNetwork, matrix: MaskMatrix, images: Tensor, objective: Objective) -> Tensor:
    if on_packed_bits(model) and len(images) <= max(1, len(matrix) // _MASKS_AN_IMAGE):
        return torch.stack([_one_shot(model, matrix, image, objective) for image in images.split(1)])
    traced = _trace_mean(model, matrix, images, objective)
    if on_packed_bits(model):
        return preference(packed_image_derivatives(model, matrix, traced))
    everyone = torch.arange(len(images), device=images.device)
    listed = [(mask, everyone) for mask in range(len(matrix))]
    return preference(image_derivatives(model, UnpackedLayer(model, matrix), traced, listed, len(matrix)))


def short_list(
    model: MaskedNetwork,
    matrix: MaskMatrix,
    images: Tensor,
    objective: Objective,
    *,
    length: int = SHORT_LIST,
    share: float | None = None,
) -> Tensor:
    """One-shot preferences `(b, k)` of the `length` masks that look best to a sketch for each image; -inf for others.

    The sketch sees the first layer through the `share` of its neurons with the largest gradient; through all of them
    where masks are sparse, since few neurons then see enough of a mask.
    """
    if not on_packed_bits(model):  # a pass over the bits is not the cheap part there
        return _one_shot_each(model, matrix, images, objective)
    if share is None:
        share = SKETCH_SHARE if model.densities is None else 1.0
    traced = _trace_mean(model, matrix, images, objective)
    sketch = preference(sketched_image_derivatives(model, matrix, traced, share))
    listed = sketch.topk(min(length, len(matrix)), dim=1).indices.sort(dim=1).values
    exact = preference(packed_image_derivatives(model, matrix, traced, listed))
    return torch.full_like(sketch, -torch.inf).scatter_(1, listed, exact)


def _exhaustive(
    model: MaskedModel, matrix: MaskMatrix, images: Tensor, objective: Objective, extras: TaskExtras = NO_EXTRAS
) -> Tensor:
    return _exhaustive_each(model, matrix, images, objective, extras).mean(dim=0)


def _exhaustive_each(
    model: MaskedModel, matrix: MaskMatrix, images: Tensor, objective: Objective, extras: TaskExtras = NO_EXTRAS
) -> Tensor:
    """Every mask's own cost; images that mix in normalisation layers do so under masks without `extras`."""
    unpacked = UnpackedLayer(model, matrix) if isinstance(model, MaskedNetwork) else None
    scores = images.new_empty(len(images), len(matrix))
    for mask, name in enumerate(matrix.names):
        if isinstance(model, MaskedNetwork) and unpacked is not None:
            logits = model.run(images, unpacked.linear(mask))
        else:
            logits = model.run_with(images, model.masked_weights(matrix[mask]), extras.get(name))
        scores[:, mask] = preference(objective.cost(logits))
    return scores


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


def _binary(model: MaskedModel, matrix: MaskMatrix, images: Tensor, objective: Objective) -> Tensor:
    everything = rows_of(model, matrix)
    candidates = torch.ones(1, len(matrix), dtype=torch.bool)
    result = torch.zeros(1, len(matrix))
    round_number = 0
    while int(candidates.sum()) > 1:
        rows = candidates[0].nonzero()[:, 0]
        chosen = everything if round_number == 0 else everything.select(rows.tolist())
        scores = torch.full((1, len(matrix)), torch.nan)
        scores[0, rows] = _asked_of(chosen, model, images, objective).cpu()
        kept = median_split(scores, candidates)
        _place(result, scores, candidates, candidates & ~kept, round_number)
        candidates = kept
        round_number += 1
    result[candidates] = round_number
    return result[0]


def _binary_each(model: MaskedNetwork, matrix: MaskMatrix, images: Tensor, objective: Objective) -> Tensor:
    k = len(matrix)
    unpacked = UnpackedLayer(model, matrix)
    candidates = torch.ones(len(images), k, dtype=torch.bool, device=images.device)
    result = images.new_zeros(len(images), k)
    first = _one_shot_each(model, matrix, images, objective)
    round_number = 0
    while True:
        undecided = (candidates.sum(dim=1) > 1).nonzero()[:, 0]
        if not len(undecided):
            break
        if round_number == 0 or model.densities is not None:  # no round moves the expected superposition
            scores = first[undecided]
        else:
            chosen = candidates[undecided].to(images.dtype)
            mixed = Mixture(model, unpacked, chosen / chosen.sum(dim=1, keepdim=True))
            traced = trace(model, images[undecided], mixed, objective)
            scores = preference(image_derivatives(model, unpacked, traced, mixed.images_of, k))
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


@dataclass(frozen=True)
class _Method:
    """A way to infer: for a batch as a whole `(k,)`, and for each image `(b, k)`.

    The latter takes a `MaskedNetwork`, or any network where `each_of_any`.
    """

    batch: Callable[[MaskedModel, MaskMatrix, Tensor, Objective], Tensor]
    each: Callable[[Any, MaskMatrix, Tensor, Objective], Tensor]
    each_of_any: bool = False


_METHODS = {
    "one-shot": _Method(_one_shot, _one_shot_each),
    "binary": _Method(_binary, _binary_each),
    "exhaustive": _Method(_exhaustive, _exhaustive_each, each_of_any=True),
    # for a batch as a whole one packed dot is cheaper than a list
    "short-list": _Method(_one_shot, short_list),
    "gradient": _Method(descend, descend_each),
}
METHODS = tuple(_METHODS)


def _scores_of_each(
    infer: _Method, model: MaskedModel, matrix: MaskMatrix, images: Tensor, objective: Objective
) -> Tensor:
    """Preferences `(b, k)`: by a method's own way for images, or where it has none for the network one at a time."""
    if infer.each_of_any or isinstance(model, MaskedNetwork):
        return torch.cat([infer.each(model, matrix, chunk, objective) for chunk in images.split(_CHUNK)])
    return torch.stack([infer.batch(model, matrix, image, objective) for image in images.split(1)])
