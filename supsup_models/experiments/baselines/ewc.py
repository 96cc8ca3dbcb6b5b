"""Online EWC (Kirkpatrick et al., PNAS 2017; online: Schwarz et al., "Progress & compress", ICML 2018).

Importance is the diagonal of the Fisher information, of the model's own answers; that of earlier tasks fades by gamma.
"""

import torch
from torch import Tensor

from supsup_models.data import Task
from supsup_models.experiments.baselines.regularised import Regularised
from supsup_models.networks import perceptron_backward, perceptron_forward

_FISHER_IMAGES = 256


class OnlineEWC(Regularised):
    """Elastic weight consolidation with one running Fisher diagonal."""

    name = "online EWC"

    def _train(self, task: Task, layers: list[Tensor]) -> list[Tensor]:
        self._descend_anchored(task, layers)
        return fisher_diagonal(layers, task.train.images(slice(0, _FISHER_IMAGES)))


def fisher_diagonal(layers: list[Tensor], images: Tensor) -> list[Tensor]:
    """Mean over images `(b, in)` of E_y (d log p(y) / dW)², y as likely as the model says, in the layers' shapes.

    A weight's gradient for one image is the product of what goes in and what comes back, so its square is the product
    of squares, and the mean over images one matrix product a layer. The expectation is taken over every class: the
    likeliest one alone, which a trained network is sure of, would leave almost nothing.
    """
    activations, logits = perceptron_forward(images, layers)
    squared = [activation**2 for activation in activations]
    probabilities = torch.softmax(logits, dim=1)
    result = [torch.zeros_like(layer) for layer in layers]
    for answer in range(probabilities.shape[1]):
        delta = -probabilities
        delta[:, answer] += 1
        weight = (probabilities[:, answer] / len(images)).unsqueeze(1)
        deltas = perceptron_backward(delta, activations, layers)
        for total, at, square in zip(result, deltas, squared, strict=True):
            total += (weight * at**2).T @ square
    return result
