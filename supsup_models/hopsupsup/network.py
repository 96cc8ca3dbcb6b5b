"""A frozen network whose hidden neurons, not its weights, are masked."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstore import Mask, MaskSpec
from supsup_models._names import check
from supsup_models.errors import NetworkError
from supsup_models.networks import seeded

Gate = Literal["normalisation", "output"]


class NeuronMaskedNetwork(nn.Module):
    """Fully connected, frozen, with one mask bit for each hidden neuron.

    Each hidden layer is linear, normalised with the statistics of the batch at hand (no bias, no running statistics, so
    nothing but the mask is kept per task) and put through Swish; the last layer is linear and has no mask (Wortsman et
    al., NeurIPS 2020, section 3.5). Weights are signed constants ± sqrt(2 / fan_in) from the seed; `output_gain` scales
    those of the last layer. `spec` names the hidden layers "hidden.0", "hidden.1", ...

    `gate` says where the mask multiplies: `"normalisation"`, as the gain of the normalisation (the paper's), or
    `"output"`, after Swish. For bits of 0 and 1 both are the same network, as Swish(0) = 0; they differ for soft masks
    and in the straight-through gradient, which after Swish is exactly what switching the neuron would change to first
    order, and trains better masks.
    """

    def __init__(
        self,
        widths: Sequence[int] = (784, 2048, 2048, 10),
        *,
        seed: int = 0,
        output_gain: float = 1.0,
        gate: Gate = "normalisation",
    ) -> None:
        super().__init__()
        if len(widths) < 3 or min(widths) < 1:
            raise NetworkError(
                f"widths: expected inputs, hidden layers and outputs of at least 1, found {tuple(widths)}"
            )
        check("gate", gate, get_args(Gate))
        self.widths = tuple(widths)
        self.seed = seed
        self.output_gain = output_gain
        self.gate = gate
        self.spec = MaskSpec({f"hidden.{i}": (width,) for i, width in enumerate(self.widths[1:-1])})
        last = len(self.widths) - 2
        for layer in range(last + 1):
            gain = output_gain if layer == last else 1.0
            weight = seeded.weights(seed, layer, (self.widths[layer + 1], self.widths[layer]), gain)
            self.register_buffer(f"weight_{layer}", weight, persistent=False)

    def forward(self, images: Tensor, mask: Tensor | Mask) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)` under one mask: a `Mask`, or flat `(spec.bits,)` in [0, 1]."""
        flat = torch.from_numpy(mask.flat()).to(images) if isinstance(mask, Mask) else mask
        gains = torch.split(flat, list(self.widths[1:-1]))
        activation = images
        for layer, gain in enumerate(gains):
            z = F.linear(activation, self.get_buffer(f"weight_{layer}"))
            if self.gate == "normalisation":
                # gain times the normalised output, which is what batch norm without bias computes
                activation = F.silu(F.batch_norm(z, None, None, weight=gain, training=True))
            else:
                activation = F.silu(F.batch_norm(z, None, None, training=True)) * gain
        return F.linear(activation, self.get_buffer(f"weight_{len(gains)}"))
