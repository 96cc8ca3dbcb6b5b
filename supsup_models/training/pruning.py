"""What a finished mask can do without: kept weights whose gradients were small to the end.

A mask of fixed density is filled up with weights that do nothing for the task: they lead to or from neurons that are
never on, or their scores began high and were never pulled down. The running square of the gradient by a mask bit
approximates the diagonal of the Fisher information, and so what it costs to drop the bit (LeCun, Denker and Solla,
"Optimal brain damage", NeurIPS 1989).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maskstore import Mask


def pruned(mask: Mask, squares: Sequence[Tensor], share: float) -> Mask:
    """The mask without a share of the kept weights of each layer, those with the smallest squares.

    Args:
        mask: of a finished training.
        squares: for each layer, the running square of the gradient by each mask bit, of any shape.
        share: of each layer's kept weights, in [0, 1); the number is rounded down.
    """
    flat = []
    for layer, square in zip(mask.spec, squares, strict=True):
        kept = torch.from_numpy(mask.layer(layer.name).reshape(-1).copy())
        places = kept.nonzero().squeeze(1)
        order = square.detach().reshape(-1).cpu()[places].argsort(stable=True)
        kept[places[order[: int(share * len(places))]]] = False
        flat.append(kept.numpy())
    return Mask.from_flat(np.concatenate(flat), mask.spec)
