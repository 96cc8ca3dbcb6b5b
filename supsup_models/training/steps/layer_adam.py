"""Adam whose `eps` follows the gradients of each layer, so that a weight which hardly matters hardly moves.

Adam divides the gradient of a score by that score's own running root mean square. So a weight that the task hardly
needs moves as fast as one that it needs much, and noise or a weak extra loss decides where it goes. For a sparse mask
this is harmful: a useless weight that drifts above the threshold takes the place of a useful one, and the longer the
training, the more of them do. With an `eps` about as large as the root mean square r of the layer's gradients, the step
is rate * m / (sqrt(v) + floor * r): a score moves by how much its weight matters.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore.kernels import compiles
from supsup_models.training.optimisers import Adam
from supsup_models.training.steps import sparse_kernel


class LayerAdam:
    """Adam over the scores of several layers, which it changes in place.

    `scores` and `gradients` hold a tensor for each layer; `step` reads the gradients of the moment. `floor` is what is
    added to the root, in units of the layer's root mean square gradient; where it is 0, this is Adam. The last layer
    has none: its superfluous outputs have small gradients, and matter all the same.
    """

    def __init__(self, scores: Sequence[Tensor], gradients: Sequence[Tensor], config: Adam, *, floor: float) -> None:
        for layer, gradient in zip(scores, gradients, strict=True):
            layer.grad = gradient
        self._gradients, self._config, self._floor = gradients, config, floor
        groups = [{"params": [layer]} for layer in scores]
        self._adam = torch.optim.Adam(groups, betas=config.betas, eps=config.eps, fused=True)
        self._squares, self._weight = [0.0] * len(scores), 0.0
        self._done = 0
        here = all(layer.device.type == "cpu" and layer.dtype == torch.float32 for layer in (*scores, *gradients))
        self._arrays: list[tuple[NDArray[np.float32], ...]] = []  # flat: scores, gradients, mean, square
        if here and compiles():
            for layer, gradient in zip(scores, gradients, strict=True):
                moments = torch.zeros_like(layer), torch.zeros_like(layer)
                self._arrays.append(tuple(one.view(-1).numpy() for one in (layer, gradient, *moments)))

    def step(self, rate: float, sums_of_squares: Sequence[float] | None = None) -> None:
        """One update at a learning rate; who knows the sum of the squares of each layer's gradient gives them."""
        kept = self._config.betas[1]
        self._weight = kept * self._weight + (1.0 - kept)
        for index, (group, gradient) in enumerate(zip(self._adam.param_groups, self._gradients, strict=True)):
            group["lr"], group["eps"] = rate, self._config.eps
            if self._floor and index + 1 < len(self._gradients):
                sums = float(gradient.norm()) ** 2 if sums_of_squares is None else sums_of_squares[index]
                square = sums / gradient.numel()
                self._squares[index] = kept * self._squares[index] + (1.0 - kept) * square
                group["eps"] = self._config.eps + self._floor * (self._squares[index] / self._weight) ** 0.5
        if not self._arrays:
            self._adam.step()
            return
        self._done += 1
        for arrays, group in zip(self._arrays, self._adam.param_groups, strict=True):
            sparse_kernel.adam(*arrays, rate, *self._config.betas, group["eps"], self._done)
