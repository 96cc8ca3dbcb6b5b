"""The training step by hand, for threshold masks on multilayer perceptrons: the arithmetic of `AutogradStep`, in place.

It works over one flat buffer for all layers, in as few passes as possible, and never takes the gradient of the images.
A test holds both equal. One step can train T tasks at once: their scores are stacked and every product is a batched
one. That is for devices that one task leaves mostly idle.

In bfloat16 (where the processor multiplies it in hardware, four times faster) the masked weights are still exact. They
are ±c with one c a layer, and without biases ReLU lets the c of all layers pass to the end as one factor of the logits:
the products see only -1, 0 and +1. What is rounded are activations and deltas, to 8 bits. Scores and RMSProp's state
stay float32.
"""

import torch
from torch import Tensor

from maskstore.kernels import compiles
from supsup_models.errors import NetworkError
from supsup_models.networks import MaskedNetwork, perceptron_backward, perceptron_forward
from supsup_models.training.optimisers import RMSProp
from supsup_models.training.steps import rmsprop_kernel
from supsup_models.training.steps.base import Step


class FusedStep(Step):
    """Forward, backward and RMSProp; starts from a copy of `scores`, `(spec.bits,)` or `(T, spec.bits)`.

    With stacked scores, `step` takes images `(T, b, inputs)` and labels `(T, b)`, and returns the losses `(T,)`.

    `half` computes products in bfloat16; NetworkError if the network's weights are not ±c in every layer.
    """

    def __init__(self, model: MaskedNetwork, scores: Tensor, optimiser: RMSProp, *, half: bool = False) -> None:
        self._optimiser = optimiser
        self._half = half
        dtype = torch.bfloat16 if half else scores.dtype
        *stack, bits = scores.shape
        room = rmsprop_kernel.padded(bits)
        self._weights, self._scores = scores.new_zeros(room), scores.new_zeros(*stack, room)
        self._square_average = torch.zeros_like(self._scores)
        self._gradient, self._effective = (torch.zeros_like(self._scores, dtype=dtype) for _ in range(2))
        self._layers, self._layer_gradients = (
            [flat[..., layer.flat].view(*stack, *layer.shape) for layer in model.spec]
            for flat in (self._effective, self._gradient)
        )
        self.scores = self._scores[..., :bits]
        self.scores.copy_(scores)
        self._logit_scale = _common_scale(model) if half else 1.0
        self._weights[:bits] = model.weights.sign() if half else model.weights
        here = scores.device.type == "cpu" and scores.dtype == torch.float32
        self._compiled = not stack and here and compiles()
        self._mask()

    @torch.no_grad()
    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        activations, logits = perceptron_forward(images.to(self._effective.dtype), self._layers)
        if self._half:
            logits.mul_(self._logit_scale)
        self.logits = logits
        log_probabilities = torch.log_softmax(logits, dim=-1)
        chosen = labels.unsqueeze(-1)
        loss = -log_probabilities.gather(-1, chosen).mean(dim=(-2, -1))
        # d loss / d logits = (softmax - one hot) / b
        delta = log_probabilities.exp_().scatter_add_(-1, chosen, logits.new_full(chosen.shape, -1.0))
        deltas = perceptron_backward(delta.mul_(self._logit_scale / labels.shape[-1]), activations, self._layers)
        for at, activation, gradient in zip(deltas, activations, self._layer_gradients, strict=True):
            torch.matmul(at.mT, activation, out=gradient)
        self._update(rate)
        return loss

    def _update(self, rate: float) -> None:
        alpha, eps = self._optimiser.alpha, self._optimiser.eps
        if self._compiled:
            half = torch.uint16 if self._half else torch.float32
            rmsprop_kernel.update(
                self._gradient.view(half).numpy(),
                self._weights.numpy(),
                self._scores.numpy(),
                self._square_average.numpy(),
                self._effective.view(half).numpy(),
                learning_rate=rate,
                alpha=alpha,
                eps=eps,
            )
            return
        # straight through: dL/ds = dL/dM = dL/d(W M) * W
        gradient = self._gradient.to(self._scores.dtype) * self._weights
        self._square_average.mul_(alpha).addcmul_(gradient, gradient, value=1.0 - alpha)
        self._scores.addcdiv_(gradient, torch.sqrt(self._square_average).add_(eps), value=-rate)
        self._mask()

    def _mask(self) -> None:
        """The effective weights of the scores as they are."""
        # comparing into a float buffer is several times faster than into bool and multiplying by that
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
