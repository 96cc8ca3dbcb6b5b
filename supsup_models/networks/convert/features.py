"""What a frozen network itself sees in images: a short vector an image, from the outputs of its masked layers.

Of each layer's output, the root mean square over places is taken, one number a channel, and scaled to length 1. An
output without places is taken as it is. All layers together are projected to `FEATURES` numbers by random signs that
the seed gives (Achlioptas, "Database-friendly random projections", 2003): distances between images stay nearly the
same. No mask and no task has a part in it, so one pass serves all tasks.
"""

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskstore.philox import Role, random_packed_bits
from supsup_models.errors import NoFeaturesError
from supsup_models.networks.convert.call_copy import CallCopy

FEATURES = 256
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TINY = 1e-12  # the length of the output of a layer that is silent


class LayerOutputs:
    """The outputs of a call's layers, pooled, as the call leaves them.

    Args:
        copy: The module's copy for the call.
        names: Of the masked parameters, each the first of its names in the state dict.
        images: How many images the call is of.
    """

    def __init__(self, copy: CallCopy, names: tuple[str, ...], images: int) -> None:
        self._images = images
        self._pooled: dict[str, Tensor] = {}
        for path in dict.fromkeys(name.rpartition(".")[0] for name in names):
            layer = copy.submodule(path)
            layer._forward_hooks = OrderedDict(layer._forward_hooks)  # a copy shares them with the module
            layer.register_forward_hook(self._keeper(path))

    def _keeper(self, path: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            found = output[0] if isinstance(output, tuple) and output else output
            if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != self._images:
                return  # nothing that belongs to each image
            by_channel = found.detach() if isinstance(module, _CONVOLUTIONS) else found.detach().movedim(-1, 1)
            many = by_channel.ndim > 2
            self._pooled[path] = by_channel.flatten(2).square().mean(dim=2).sqrt() if many else by_channel

        return keep

    def projected(self, seed: int) -> Tensor:
        """The features of each image, `(b, FEATURES)`. NoFeaturesError where no layer gave an output for each image."""
        total: Tensor | None = None
        for index, pooled in enumerate(self._pooled.values()):
            unit = pooled / pooled.norm(dim=1, keepdim=True).clamp_min(_TINY)
            part = unit @ _signs(seed, index, unit.shape[1]).to(unit)
            total = part if total is None else total + part
        if total is None:
            raise NoFeaturesError("features: expected masked layers whose outputs belong to one image each, found none")
        return total.div(FEATURES**0.5)


def _signs(seed: int, layer: int, channels: int) -> Tensor:
    """Random signs `(channels, FEATURES)`, int8."""
    packed = random_packed_bits(seed, Role.FEATURE, channels * FEATURES, layer=layer)
    bits = np.unpackbits(packed.astype("<u8").view(np.uint8), bitorder="little")[: channels * FEATURES]
    return torch.from_numpy(2 * bits.astype(np.int8) - 1).view(channels, FEATURES)
