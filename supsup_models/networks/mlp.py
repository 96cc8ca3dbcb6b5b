"""The fully connected networks of the MNIST experiments."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn

from supsup_models.networks.layers import LinearLayer

LayerFunction = Callable[[int, Tensor], Tensor]
"""Gives layer l's linear output for its input: `linear(l, activation)`."""


@dataclass(frozen=True)
class MultilayerPerceptron:
    """Linear layers without bias, ReLU between them."""

    name: str
    hidden: tuple[int, ...]

    def layers(self, inputs: int, outputs: int) -> tuple[LinearLayer, ...]:
        """The layers for images of `inputs` values and `outputs` logits: fc1, fc2, ..."""
        sizes = pairwise((inputs, *self.hidden, outputs))
        return tuple(LinearLayer(f"fc{l}", (to, of)) for l, (of, to) in enumerate(sizes, start=1))  # noqa: E741

    def module(self, inputs: int, outputs: int) -> nn.Sequential:
        """The same as a plain module, with layers named alike, to be converted for other masks or weights."""
        parts: list[tuple[str, nn.Module]] = []
        for layer in self.layers(inputs, outputs):
            parts += [(layer.name, nn.Linear(layer.shape[1], layer.shape[0], bias=False))]
            parts += [(f"relu{len(parts) // 2 + 1}", nn.ReLU())]
        return nn.Sequential(OrderedDict(parts[:-1]))

    def run(self, images: Tensor, linear: LayerFunction) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)`, where `linear` says what each layer's linear output is."""
        activation = images
        for index in range(len(self.hidden)):
            activation = torch.relu(linear(index, activation))
        return linear(len(self.hidden), activation)


ARCHITECTURES: Mapping[str, MultilayerPerceptron] = MappingProxyType(
    {
        architecture.name: architecture
        for architecture in (
            MultilayerPerceptron("lenet-300-100", (300, 100)),
            MultilayerPerceptron("fc-1024-1024", (1024, 1024)),
        )
    }
)
