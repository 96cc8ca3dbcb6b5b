"""Frozen weights and initial scores from a seed: the same numbers on every machine, device and version.

The mapping is normative (`docs/format.md`, "Seeded streams"): the bank's entropy coder conditions on the same random
integers (`maskstore.priors.SeededScores`). A layer's index is its position in the `MaskSpec`; values fill the layer's
tensor in C order. Everything is drawn on the host as numpy arrays; other devices get copies.

Signed-constant weights: Ramanujan et al., "What's hidden in a randomly weighted neural network?", CVPR 2020.
"""

from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor

from maskstore.masks import bits
from maskstore.philox import Role, random_packed_bits, random_uniform


def fan_in(shape: tuple[int, ...]) -> int:
    """Inputs that one output of a layer sees: the product of all sizes but the first."""
    return prod(shape[1:])


def weight_sign(seed: int, layer: int, shape: tuple[int, ...]) -> Tensor:
    """Signs of a layer's frozen weights: float32 tensor of `shape`, +1 where the random bit is set, -1 elsewhere."""
    size = prod(shape)
    positive = bits.unpack(random_packed_bits(seed, Role.WEIGHT_SIGN, size, layer=layer), size)
    return torch.from_numpy(np.where(positive, np.float32(1), np.float32(-1))).reshape(shape)


def weights(seed: int, layer: int, shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """A layer's frozen weights, float32 of `shape`: ± gain * c, c = sqrt(2 / fan_in) (signed Kaiming)."""
    return weight_sign(seed, layer, shape) * float(np.float32(gain * sqrt(2.0 / fan_in(shape))))


def kaiming_weights(seed: int, layer: int, shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """A layer's frozen weights, float32 of `shape`: uniform in ± gain * sqrt(6 / fan_in) (He et al., ICCV 2015).

    Their standard deviation is gain * sqrt(2 / fan_in), that of the signed constants, and so are their signs:
    sign(w) from WEIGHT_SIGN, |w| from INIT. Uniform, not normal, because that takes exact arithmetic only.
    """
    size = prod(shape)
    magnitude = np.abs(random_uniform(seed, Role.INIT, size, layer=layer)) * (gain * sqrt(6.0 / fan_in(shape)))
    return weight_sign(seed, layer, shape) * torch.from_numpy(magnitude.astype(np.float32)).reshape(shape)


def initial_scores(seed: int, layer: int, shape: tuple[int, ...], task: int) -> Tensor:
    """Scores a layer starts task number `task` from: float32 of `shape`, uniform in (-1, 1) / sqrt(fan_in), never 0."""
    uniform = random_uniform(seed, Role.SCORE, prod(shape), layer=layer, stream=task)
    return torch.from_numpy((uniform * (1.0 / sqrt(fan_in(shape)))).astype(np.float32)).reshape(shape)
