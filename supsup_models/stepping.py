"""One training step of a task's scores, written twice.

`AutogradStepper` is the definition: straight-through masks under torch's autograd and torch's own optimiser.
`FusedStepper` is what runs: the same arithmetic for multilayer perceptrons by hand, in place, over one flat buffer for
all layers, in as few passes as possible, and without the gradient of the images. A test holds them equal.

Both keep the effective weights W * M, `flat` over all layers, in step with their scores.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from supsup_models.networks import MaskedModel, MaskedNetwork
from supsup_models.recipes import Optimiser, RMSProp


class Stepping(Enum):
    """Which implementation of a training step to use."""

    FUSED = "fused"
    AUTOGRAD = "autograd"


class Stepper(ABC):
    """Trains flat scores `(spec.bits,)` in place, and the task's normalisation statistics, if any, with them."""

    scores: Tensor
    statistics: Mapping[str, Tensor] = MappingProxyType({})

    @abstractmethod
    def step(self, images: Tensor, labels: Tensor, learning_rate: float) -> Tensor:
        """One update from images `(b, inputs)` and labels `(b,)` int64; returns the mean cross-entropy before it."""


class AutogradStepper(Stepper):
    """The definition, for any network and optimiser."""

    def __init__(self, model: MaskedModel, scores: Tensor, optimiser: Optimiser) -> None:
        self.scores = scores.clone().requires_grad_()
        self.statistics = model.initial_statistics()
        self._model = model
        self._optimiser = _torch_optimiser(self.scores, optimiser)
        self._steps = 0

    def step(self, images: Tensor, labels: Tensor, learning_rate: float) -> Tensor:
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate
        self._optimiser.zero_grad()
        with torch.enable_grad(), self._model.training_mode(self._steps):
            logits = self._model.run_with(images, self._model.effective_weights(self.scores), self.statistics)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
        self._optimiser.step()
        self._steps += 1
        return loss.detach()


def _torch_optimiser(scores: Tensor, config: Optimiser) -> torch.optim.Optimizer:
    if isinstance(config, RMSProp):
        return torch.optim.RMSprop([scores], lr=config.learning_rate, alpha=config.alpha, eps=config.eps)
    return torch.optim.Adam([scores], lr=config.learning_rate, betas=config.betas, eps=config.eps)


class FusedStepper(Stepper):
    """Forward, backward and RMSProp for a multilayer perceptron, by hand."""

    def __init__(self, model: MaskedNetwork, scores: Tensor, optimiser: RMSProp) -> None:
        self.scores = scores.clone()
        self._weights = model.weights
        self._optimiser = optimiser
        self._square_average = torch.zeros_like(scores)
        self._gradient = torch.empty_like(scores)
        self._scratch = torch.empty_like(scores)
        self._effective = torch.empty_like(scores)
        self._layers = model.layer_weights(self._effective)
        self._layer_gradients = model.layer_weights(self._gradient)
        self._refresh()

    @torch.no_grad()
    def step(self, images: Tensor, labels: Tensor, learning_rate: float) -> Tensor:
        activations = [images]
        for weight in self._layers[:-1]:
            activations.append(torch.mm(activations[-1], weight.t()).relu_())
        log_probabilities = torch.log_softmax(torch.mm(activations[-1], self._layers[-1].t()), dim=1)
        chosen = labels.unsqueeze(1)
        loss = -log_probabilities.gather(1, chosen).mean()

        # d loss / d logits = (softmax - one hot) / b, then back through each layer
        batch = images.shape[0]
        delta = log_probabilities.exp_().scatter_add_(1, chosen, log_probabilities.new_full((batch, 1), -1.0))
        delta.div_(batch)
        for index in range(len(self._layers) - 1, -1, -1):
            torch.mm(delta.t(), activations[index], out=self._layer_gradients[index])
            if index:
                delta = torch.mm(delta, self._layers[index]).mul_(activations[index] > 0)
        self._update(learning_rate)
        return loss

    def _update(self, learning_rate: float) -> None:
        gradient = self._gradient.mul_(self._weights)  # straight through: dL/ds = dL/dM = dL/d(W M) * W
        alpha = self._optimiser.alpha
        self._square_average.mul_(alpha).addcmul_(gradient, gradient, value=1.0 - alpha)
        torch.sqrt(self._square_average, out=self._scratch).add_(self._optimiser.eps)
        self.scores.addcdiv_(gradient, self._scratch, value=-learning_rate)
        self._refresh()

    def _refresh(self) -> None:
        # comparing into a float buffer is several times faster than into bool and multiplying by that
        torch.ge(self.scores, 0, out=self._effective).mul_(self._weights)


def make_stepper(stepping: Stepping, model: MaskedModel, scores: Tensor, optimiser: Optimiser) -> Stepper:
    """A stepper of the kind asked for, starting from `scores` (copied).

    `AUTOGRAD` also where nobody wrote a fused one: for converted networks, and for Adam.
    """
    if stepping is not Stepping.AUTOGRAD and isinstance(model, MaskedNetwork) and isinstance(optimiser, RMSProp):
        return FusedStepper(model, scores, optimiser)
    return AutogradStepper(model, scores, optimiser)
