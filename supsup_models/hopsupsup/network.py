"""A frozen network whose hidden neurons, not its weights, are masked."""

from collections.abc import Sequence
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstore import Mask, MaskSpec
from maskstore.bits import unpack
from maskstore.philox import Role, random_packed_bits


class NeuronMaskedNetwork(nn.Module):
    """Fully connected, frozen, with one mask bit for each hidden neuron: the gain, 0 or 1, of its normalisation.

    Each hidden layer is linear, normalised with the statistics of the batch at hand (no bias, no running statistics, so
    nothing but the mask is kept per task), times the mask, then Swish; the last layer is linear and has no mask
    (Wortsman et al., NeurIPS 2020, section 3.5). Weights are signed constants ± sqrt(2 / fan_in) from the seed;
    `output_gain` scales those of the last layer. `spec` names the hidden layers "hidden.0", "hidden.1", ...
    """

    def __init__(
        self, widths: Sequence[int] = (784, 2048, 2048, 10), *, seed: int = 0, output_gain: float = 1.0
    ) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.seed = seed
        self.output_gain = output_gain
        self.spec = MaskSpec({f"hidden.{i}": (width,) for i, width in enumerate(self.widths[1:-1])})
        last = len(self.widths) - 2
        for layer in range(last + 1):
            gain = output_gain if layer == last else 1.0
            weight = _signed_constant(seed, layer, (self.widths[layer + 1], self.widths[layer]), gain)
            self.register_buffer(f"weight_{layer}", weight, persistent=False)

    def forward(self, images: Tensor, mask: Tensor | Mask) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)` under one mask: a `Mask`, or flat `(spec.bits,)` in [0, 1]."""
        flat = torch.from_numpy(mask.flat()).to(images) if isinstance(mask, Mask) else mask
        gains = torch.split(flat, list(self.widths[1:-1]))
        activation = images
        for layer, gain in enumerate(gains):
            z = F.linear(activation, self.get_buffer(f"weight_{layer}"))
            # gain times the normalised output, which is what batch norm without bias computes
            activation = F.silu(F.batch_norm(z, None, None, weight=gain, training=True))
        return F.linear(activation, self.get_buffer(f"weight_{len(gains)}"))


def _signed_constant(seed: int, layer: int, shape: tuple[int, int], gain: float) -> Tensor:
    size = shape[0] * shape[1]
    positive = torch.from_numpy(unpack(random_packed_bits(seed, Role.WEIGHT_SIGN, size, layer=layer), size))
    return ((positive.to(torch.float32) * 2 - 1) * (gain * sqrt(2 / shape[1]))).reshape(shape)
