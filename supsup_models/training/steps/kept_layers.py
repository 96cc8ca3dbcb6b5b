"""The products of a perceptron in sparse training, in float32 on the host, without work for what is zero.

Two kinds of zeros save most of a step's arithmetic: weights that the mask leaves out, and pixels of the background,
which are four of five in MNIST. Activations lie turned, `(units, b)`, so that each weight kept meets a row of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from supsup_models.training.steps.listed_products import Lists, turned_copy

_MOSTLY = 0.5  # with a larger share of other values than the background, dense products are faster than lists
_LOOKED_AT = 16  # every so many images is counted


class ShownImages:
    """Images `(b, inputs)` and what a first layer computes with them; only what is not the background is read."""

    def __init__(self, images: Tensor, background: float) -> None:
        some = images[::_LOOKED_AT]
        listed = int((some != background).sum()) < _MOSTLY * some.numel()
        self._images, self._background = images, background
        self.turned = turned_copy(images.numpy())
        self._listed = Lists.of(self.turned, background) if listed else None

    def times(self, turned_weights: Tensor) -> Tensor:
        """The products with weights `(inputs, out)`, `(b, out)`."""
        if self._listed is None:
            return torch.mm(self._images, turned_weights)
        found = Lists.of(self._images.numpy(), self._background).times(turned_weights.numpy())
        return torch.from_numpy(found).contiguous()

    def outer(self, delta: Tensor, out: Tensor) -> None:
        """The transpose of `delta` `(b, out)` times the images, into `out` `(out, inputs)`."""
        if self._listed is None:
            torch.mm(delta.t(), self._images, out=out)
        else:
            self._listed.times_turned(delta.numpy(), out.numpy())


class KeptLayers:
    """Forward and backward pass through the weights that masks keep.

    Args:
        signs: The signs of each layer's weights, `(out, in)` float32.
    """

    def __init__(self, signs: Sequence[Tensor]) -> None:
        self._signs = [layer.numpy() for layer in signs]
        self._kept: list[Lists] = []
        self._activations: list[Tensor] = []

    def forward(
        self, shown: ShownImages, scores: Sequence[Tensor], thresholds: Sequence[float], scales: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """The first layer's sums of kept signs `(b, out)`, and the logits `(b, outputs)`."""
        every = zip(scores, thresholds, self._signs, strict=True)
        self._kept = [Lists.kept(layer.numpy(), threshold, signs) for layer, threshold, signs in every]
        first = products = torch.from_numpy(self._kept[0].times(shown.turned))
        self._activations = []
        for kept, scale in zip(self._kept[1:], scales, strict=False):
            self._activations.append(products.relu().mul_(scale))
            products = torch.from_numpy(kept.times(self._activations[-1].numpy()))
        return first.t(), products.t().mul(scales[-1]).contiguous()

    def backward(self, shown: ShownImages, delta: Tensor, scales: Sequence[float], gradients: Sequence[Tensor]) -> None:
        """From the gradient at the logits `(b, outputs)`, that at each layer's effective weights, into `gradients`."""
        turned = delta.t().contiguous()
        for index in range(len(gradients) - 1, 0, -1):
            activation = self._activations[index - 1]
            torch.mm(turned, activation.t(), out=gradients[index])
            through = torch.from_numpy(self._kept[index].transposed_times(turned.numpy(), len(activation)))
            turned = torch.ops.aten.threshold_backward(through.mul_(scales[index]), activation, 0)
        shown.outer(turned.t(), gradients[0])
