"""Adam whose `eps` follows the gradients of each layer, so that a weight which hardly matters hardly moves.

Adam divides the gradient of a score by that score's own running root mean square. So a weight that the task hardly
needs moves as fast as one that it needs much, and noise or a weak extra loss decides where it goes. For a sparse mask
this is harmful: a useless weight that drifts above the threshold takes the place of a useful one, and the longer the
training, the more of them do. With an `eps` about as large as the root mean square r of the layer's gradients, the step
is rate * m / (sqrt(v) + floor * r): a score moves by how much its weight matters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from supsup_models.training.recipes import Adam


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

    def step(self, rate: float) -> None:
        """One update at a learning rate."""
        kept = self._config.betas[1]
        self._weight = kept * self._weight + (1.0 - kept)
        for index, (group, gradient) in enumerate(zip(self._adam.param_groups, self._gradients, strict=True)):
            group["lr"] = rate
            if self._floor and index + 1 < len(self._gradients):
                square = float(gradient.norm()) ** 2 / gradient.numel()
                self._squares[index] = kept * self._squares[index] + (1.0 - kept) * square
                group["eps"] = self._config.eps + self._floor * (self._squares[index] / self._weight) ** 0.5
        self._adam.step()
