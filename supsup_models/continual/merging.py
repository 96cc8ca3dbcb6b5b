"""Do two masks serve the same data? Judged on a few recent unlabelled images of one of them.

Two masks trained from different scores on the same data have little in common bit by bit, so their outputs are
compared: the other mask must be as sure of these images as it is of its own data, and both must label most of them
alike. Either alone is fooled: by masks that are surely wrong, or by tasks with few classes.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from maskstore import Mask
from supsup_models.continual.allocation import Allocator, Candidate, mean_entropy
from supsup_models.networks import MaskedNetwork


def label_agreement(model: MaskedNetwork, one: Mask, other: Mask, images: Tensor) -> float:
    """Fraction of images `(b, inputs)` that two masks give the same likeliest output."""
    with torch.no_grad():
        same = model(images, one).argmax(dim=1) == model(images, other).argmax(dim=1)
    return float(same.float().mean())


def find_twin(
    model: MaskedNetwork,
    allocator: Allocator,
    mask: Mask,
    others: Iterable[tuple[str, Candidate]],
    images: Tensor,
    *,
    untrained: Mask,
    agreement: float,
) -> str | None:
    """The name of the first of `others` that serves the images as `mask`, whose data they are, does; None if none."""
    ceiling = mean_entropy(model, untrained, images)
    for name, candidate in others:
        if (
            allocator.serves(candidate, images, ceiling)
            and label_agreement(model, mask, candidate.mask, images) >= agreement
        ):
            return name
    return None
