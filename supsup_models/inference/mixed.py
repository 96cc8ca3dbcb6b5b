"""Images of one batch under many masks: those that share a mask together, the others straight from packed bits."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore.kernels import compiles
from supsup_models.networks import Extras, MaskedModel, OwnMasks

_TOGETHER = 8  # images from which on a mask is unpacked for them
_CHUNK = 32  # images that run together: what is between two layers stays small


def run_mixed(
    model: MaskedModel, images: Tensor, own: OwnMasks, extras: Sequence[Extras] | Mapping[int, Extras] = ()
) -> Tensor:
    """Logits `(b, outputs)` of checked images `(b, inputs)`, each under its own mask, without gradient.

    `extras` are the normalisation statistics of the rows of `own` that are used; empty for a network without any.
    """
    counts = np.bincount(own.chosen, minlength=len(own.rows))
    shared = counts >= (_TOGETHER if compiles() else 1)
    result = images.new_empty(len(images), model.outputs)
    with torch.no_grad():
        for row in np.flatnonzero(shared).tolist():
            chosen = torch.from_numpy(np.flatnonzero(own.chosen == row)).to(images.device)
            weights = model.masked_weights(own.mask(row))
            result[chosen] = model.run_with(images[chosen], weights, extras[row] if extras else None)
        alone = np.flatnonzero(~shared[own.chosen])
        for start in range(0, len(alone), _CHUNK):
            some: NDArray[np.int64] = alone[start : start + _CHUNK]
            chosen = torch.from_numpy(some).to(images.device)
            rows, own_rows = np.unique(own.chosen[some], return_inverse=True)
            part = OwnMasks(own.spec, own.rows[rows], own_rows) if extras else own.some(some)
            result[chosen] = model.run_own(
                images[chosen], part, [extras[row] for row in rows.tolist()] if extras else ()
            )
    return result
