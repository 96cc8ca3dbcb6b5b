"""Weights times the packed bits of a mask: of many weights in one loop of our own, else by operations of torch."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import forward_ad

from maskstore import Mask
from maskstore.masks import bits

_MANY = 1 << 20  # weights, whose products take longer than to look for a quicker way


def masked_product(weights: Tensor, mask: Mask) -> Tensor:
    """W times a mask of as many bits, both flat."""
    with torch.inference_mode(False):  # weights that are kept must serve outside of a caller's inference mode
        result = torch.empty_like(weights)
    if (values := _numbers(weights)) is not None:
        from supsup_models.networks.mask_loops import times_bits

        products = result.numpy()
        for layer in mask.spec:
            times_bits(mask.words[layer.packed], values[layer.flat], products[layer.flat])
        return result
    for layer in mask.spec:  # one layer's bits at a time, which stay in the cache
        unpacked = bits.unpack(mask.words[layer.packed], layer.size).view("u1")
        result[layer.flat].copy_(torch.from_numpy(unpacked)).mul_(weights[layer.flat])
    return result


def _numbers(weights: Tensor) -> NDArray[np.float32] | None:
    """Weights as an array, for a loop of our own; None for few, and where torch has to follow what is done."""
    if weights.numel() < _MANY or weights.dtype != torch.float32 or weights.device.type != "cpu":
        return None
    try:
        return None if forward_ad.unpack_dual(weights).tangent is not None else weights.numpy()
    except RuntimeError:  # it needs a gradient, or a transform of torch.func is at work
        return None
