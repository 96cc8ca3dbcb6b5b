"""What a maskable layer does with a weight tensor that someone else chose."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer without bias. It holds no weights: each caller brings its effective weight, W times some mask.

    `shape` is `(out, in)`.
    """

    name: str
    shape: tuple[int, int]

    def apply(self, activation: Tensor, weight: Tensor) -> Tensor:
        """`(b, in)`, `(out, in)` -> `(b, out)`; linear in the weight, on which all inference in superposition rests."""
        return F.linear(activation, weight)

    def transposed(self, delta: Tensor, weight: Tensor) -> Tensor:
        """Gradient of the input given the gradient `delta` of the output: `(b, out)`, `(out, in)` -> `(b, in)`."""
        return delta @ weight
