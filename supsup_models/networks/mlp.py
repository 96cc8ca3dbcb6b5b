"""Fully connected networks: their layers, a pass under any effective weights, and the same pass by hand.

`run_perceptron` is the definition, for autograd and for layers of any kind. Training steps use `perceptron_forward` and
`perceptron_backward`: plain torch, in place where that saves a pass, no graph.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn

LayerFunction = Callable[[int, Tensor], Tensor]
"""Gives layer l's linear output for its input: `linear(l, activation)`. It brings the effective weights itself, W times
some mask. The output is linear in them, on which all inference in superposition rests."""


def run_perceptron(images: Tensor, linear: LayerFunction, layers: int) -> Tensor:
    """Logits `(b, outputs)` of images `(b, inputs)` through so many layers with ReLU between them."""
    activation = images
    for index in range(layers - 1):
        activation = torch.relu(linear(index, activation))
    return linear(layers - 1, activation)


def perceptron_forward(
    images: Tensor, weights: Sequence[Tensor], *, scales: Sequence[float] | None = None
) -> tuple[list[Tensor], Tensor]:
    """The input of every layer, and the logits; without a graph.

    Args:
        images: `(b, inputs)`, or `(T, b, inputs)` for T networks at once.
        weights: each layer's `(out, in)`, or `(T, out, in)`, in the images' dtype.
        scales: a factor of each layer's weights; None stands for 1.

    Returns:
        The layers' inputs `(..., b, in)`, and the logits `(..., b, outputs)` in float32 (float64 if the images are).
    """
    activations = [images]
    for index, weight in enumerate(weights[:-1]):
        activation = torch.matmul(activations[-1], weight.mT).relu_()
        activations.append(activation if scales is None else activation.mul_(scales[index]))
    logits = torch.matmul(activations[-1], weights[-1].mT).to(torch.promote_types(images.dtype, torch.float32))
    return activations, logits if scales is None else logits.mul_(scales[-1])


def perceptron_backward(
    delta: Tensor, activations: Sequence[Tensor], weights: Sequence[Tensor], *, scales: Sequence[float] | None = None
) -> list[Tensor]:
    """The gradient at the linear output of every layer, `(..., b, out)` each, from that at the logits, `delta`.

    `activations` are what `perceptron_forward` gave; `weights` and `scales` are what it was given. The gradient of the
    weights of layer l is `result[l].mT @ activations[l]`.
    """
    deltas = [delta.to(activations[0].dtype)]
    for index in range(len(weights) - 1, 0, -1):
        through = torch.matmul(deltas[0], weights[index])
        if scales is not None:
            through.mul_(scales[index])
        deltas.insert(0, torch.ops.aten.threshold_backward(through, activations[index], 0))
    return deltas


@dataclass(frozen=True)
class MultilayerPerceptron:
    """An architecture: linear layers without bias, ReLU between them. It holds no weights.

    Args:
        name: what runs and banks call it.
        hidden: the width of each hidden layer.

    Examples:
        >>> from supsup_models import MaskedNetwork
        >>> from supsup_models.networks import MultilayerPerceptron
        >>> small = MultilayerPerceptron("small", hidden=(32, 16))
        >>> small.shapes(inputs=64, outputs=10)
        {'fc1': (32, 64), 'fc2': (16, 32), 'fc3': (10, 16)}
        >>> MaskedNetwork(small, inputs=64, outputs=10, seed=0).spec.bits
        2720
    """

    name: str
    hidden: tuple[int, ...]

    def shapes(self, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """Each layer's shape `(out, in)` by name, fc1, fc2, ..., for images of `inputs` values and `outputs` logits."""
        sizes = pairwise((inputs, *self.hidden, outputs))
        return {f"fc{number}": (to, of) for number, (of, to) in enumerate(sizes, start=1)}

    def module(self, inputs: int, outputs: int) -> nn.Sequential:
        """The same as a plain module, with layers named alike, to be converted for other masks or weights."""
        parts: list[tuple[str, nn.Module]] = []
        for name, (to, of) in self.shapes(inputs, outputs).items():
            parts += [(name, nn.Linear(of, to, bias=False))]
            parts += [(f"relu{len(parts) // 2 + 1}", nn.ReLU())]
        return nn.Sequential(OrderedDict(parts[:-1]))

    def run(self, images: Tensor, linear: LayerFunction) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)`, where `linear` says what each layer's linear output is."""
        return run_perceptron(images, linear, len(self.hidden) + 1)


_HIDDEN = {"lenet-300-100": (300, 100), "fc-1024-1024": (1024, 1024)}
ARCHITECTURES: Mapping[str, MultilayerPerceptron] = MappingProxyType(
    {name: MultilayerPerceptron(name, hidden) for name, hidden in _HIDDEN.items()}
)
"""The fully connected networks of the MNIST experiments (Wortsman et al. 2020), by name."""
