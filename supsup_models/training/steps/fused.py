"""One training step of a task's scores, written twice.

`AutogradStepper` is the definition: straight-through masks under torch's autograd and torch's own optimiser.
`FusedStepper` is what runs: the same arithmetic for multilayer perceptrons by hand, in place, over one flat buffer for
all layers, in as few passes as possible, and without the gradient of the images. A test holds them equal.

In bfloat16 (where the processor multiplies it in hardware, four times faster) the masked weights are still exact. They
are ±c with one c a layer, and without biases ReLU lets the c of all layers pass to the end as one factor of the logits:
the products see only -1, 0 and +1. What is rounded are activations and deltas, to 8 bits. Scores and RMSProp's state
stay float32.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstore.kernels import cpu_features
from supsup_models.errors import NetworkError
from supsup_models.networks import MaskedModel, MaskedNetwork
from supsup_models.training.recipes import Optimiser, RMSProp
from supsup_models.training.steps import rmsprop_kernel as rmsprop


class Stepping(Enum):
    """Which implementation of a training step to use."""

    FUSED = "fused"
    BFLOAT16 = "bfloat16"
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
    """Forward, backward and RMSProp for a multilayer perceptron, by hand.

    `half` computes products in bfloat16; NetworkError if the network's weights are not ±c in every layer.
    """

    def __init__(self, model: MaskedNetwork, scores: Tensor, optimiser: RMSProp, *, half: bool = False) -> None:
        self._optimiser = optimiser
        self._half = half
        dtype = torch.bfloat16 if half else scores.dtype
        size = scores.numel()
        room = rmsprop.padded(size)
        self._weights, self._scores = scores.new_zeros(room), scores.new_zeros(room)
        self._square_average = scores.new_zeros(room)
        self._gradient = scores.new_zeros(room, dtype=dtype)
        self._effective = scores.new_zeros(room, dtype=dtype)
        self._layers = model.layer_weights(self._effective[:size])
        self._layer_gradients = model.layer_weights(self._gradient[:size])
        self.scores = self._scores[:size]
        self.scores.copy_(scores)
        self._logit_scale = _common_scale(model) if half else 1.0
        self._weights[:size] = model.weights.sign() if half else model.weights
        self._compiled = scores.device.type == "cpu" and scores.dtype == torch.float32
        # comparing into a float buffer is several times faster than into bool and multiplying by that
        torch.ge(self._scores, 0, out=self._effective).mul_(self._weights)

    @torch.no_grad()
    def step(self, images: Tensor, labels: Tensor, learning_rate: float) -> Tensor:
        activations = [images.to(self._effective.dtype)]
        for weight in self._layers[:-1]:
            activations.append(torch.mm(activations[-1], weight.t()).relu_())
        logits = torch.mm(activations[-1], self._layers[-1].t())
        if self._half:
            logits = logits.float().mul_(self._logit_scale)
        log_probabilities = torch.log_softmax(logits, dim=1)
        chosen = labels.unsqueeze(1)
        loss = -log_probabilities.gather(1, chosen).mean()

        # d loss / d logits = (softmax - one hot) / b, then back through each layer
        batch = images.shape[0]
        delta = log_probabilities.exp_().scatter_add_(1, chosen, log_probabilities.new_full((batch, 1), -1.0))
        delta = delta.mul_(self._logit_scale / batch).to(self._effective.dtype)
        for index in range(len(self._layers) - 1, -1, -1):
            torch.mm(delta.t(), activations[index], out=self._layer_gradients[index])
            if index:
                through = torch.mm(delta, self._layers[index])
                delta = torch.ops.aten.threshold_backward(through, activations[index], 0)
        self._update(learning_rate)
        return loss

    def _update(self, learning_rate: float) -> None:
        alpha, eps = self._optimiser.alpha, self._optimiser.eps
        if self._compiled:
            half = torch.uint16 if self._half else torch.float32
            rmsprop.update(
                self._gradient.view(half).numpy(),
                self._weights.numpy(),
                self._scores.numpy(),
                self._square_average.numpy(),
                self._effective.view(half).numpy(),
                learning_rate=learning_rate,
                alpha=alpha,
                eps=eps,
            )
            return
        # straight through: dL/ds = dL/dM = dL/d(W M) * W
        gradient = self._gradient.to(self._scores.dtype) * self._weights
        self._square_average.mul_(alpha).addcmul_(gradient, gradient, value=1.0 - alpha)
        self._scores.addcdiv_(gradient, torch.sqrt(self._square_average).add_(eps), value=-learning_rate)
        torch.ge(self._scores, 0, out=self._effective).mul_(self._weights)


def _common_scale(model: MaskedNetwork) -> float:
    """The product over layers of c, where all weights of a layer are ±c."""
    product = 1.0
    for weight in model.layer_weights(model.weights):
        c = float(weight.reshape(-1)[0].abs()) if weight.numel() else 1.0
        if not bool((weight.abs() == c).all()):
            raise NetworkError("bfloat16 training: expected weights ±c with one c a layer, found others")
        product *= c
    return product


def fastest(model: MaskedModel) -> Stepping:
    """bfloat16 for float32 networks on processors with instructions for it, float32 elsewhere."""
    bfloat16 = bool(cpu_features() & {"amx-bf16", "avx512bf16"})
    here = model.device.type == "cpu" and model.weights.dtype == torch.float32
    return Stepping.BFLOAT16 if bfloat16 and here else Stepping.FUSED


def make_stepper(stepping: Stepping, model: MaskedModel, scores: Tensor, optimiser: Optimiser) -> Stepper:
    """A stepper of the kind asked for, starting from `scores` (copied).

    `AUTOGRAD` also where nobody wrote a fused one: for converted networks, and for Adam.
    """
    if stepping is not Stepping.AUTOGRAD and isinstance(model, MaskedNetwork) and isinstance(optimiser, RMSProp):
        return FusedStepper(model, scores, optimiser, half=stepping is Stepping.BFLOAT16)
    return AutogradStepper(model, scores, optimiser)
