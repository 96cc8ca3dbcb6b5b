"""Noise images that follow from nothing but their shape: what a mixture of masks is normalised with."""

from functools import cache
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstore.philox import Role, random_uniform

_IMAGES = 128
_SIDES = (1, 3, 7)  # of the squares that noise is averaged over: images have detail of all sizes
_SEED = 0  # for all networks the same images


def noise_images(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Images `(128, *shape)` of zero mean and unit variance, the sum of noise of three sizes of detail.

    Shapes without rows and columns get noise without detail. `like` gives the dtype and the device.
    """
    return _noise(shape).to(like)


@cache
def _noise(shape: tuple[int, ...]) -> Tensor:
    sides = _SIDES if len(shape) == 3 else _SIDES[:1]
    total = torch.zeros(_IMAGES, *shape)
    for index, side in enumerate(sides):
        drawn = random_uniform(_SEED, Role.SAMPLE, _IMAGES * prod(shape), stream=index + 1)
        noise = torch.from_numpy(drawn.astype("float32")).view(_IMAGES, *shape)
        if side > 1:
            noise = F.avg_pool2d(noise, side, stride=1, padding=side // 2, count_include_pad=False)
        total += noise / noise.std()
    return (total - total.mean()) / total.std()
