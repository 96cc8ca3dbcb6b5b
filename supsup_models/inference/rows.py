"""The packed masks of a matrix where the network is; each network's last ones are kept."""

from weakref import WeakKeyDictionary

import torch

from maskstore import MaskMatrix
from maskstore.torch import PackedMasks
from supsup_models.networks import MaskedModel

_LAST: WeakKeyDictionary[MaskedModel, tuple[MaskMatrix, PackedMasks]] = WeakKeyDictionary()


def rows_of(model: MaskedModel, matrix: MaskMatrix) -> PackedMasks:
    """The masks of a matrix for a network: on its device if that is CUDA, on the host otherwise."""
    device = model.device if model.device.type == "cuda" else torch.device("cpu")
    of, masks = _LAST.get(model, (None, None))
    if masks is None or of is not matrix or masks.device != device:
        masks = PackedMasks.of(matrix, device)
        _LAST[model] = matrix, masks
    return masks
