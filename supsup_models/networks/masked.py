"""`MaskedNetwork`: an architecture with seeded, frozen weights; the mask is an argument of every call."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from maskstore import Mask, MaskSpec
from supsup_models import random_init
from supsup_models.errors import NetworkError, ShapeError
from supsup_models.names import choose
from supsup_models.networks.mlp import ARCHITECTURES, LayerFunction, MultilayerPerceptron

AnyMask = Mask | Mapping[str, Tensor] | None


class MaskedNetwork(nn.Module):
    """A network of frozen ±c weights, regenerated from `seed`, whose only trained part is the mask it is called with.

    `arch` is a name in `ARCHITECTURES` or a `MultilayerPerceptron` of your own. `outputs` logits, of which the first
    `classes` (default: all) are real; the others are the superfluous neurons of Wortsman et al. 2020, section 3.4.
    `weight_gain` scales the weights: c = weight_gain * sqrt(2 / fan_in).

    All weights are one flat frozen buffer in spec order, `weights` `(spec.bits,)`; `layer_weights(flat)` views any flat
    tensor by layer. `forward` is `run` with one choice of what a layer computes; training, superposition and
    per-image inference are the same `run` with others.
    """

    weights: Tensor

    def __init__(
        self,
        arch: str | MultilayerPerceptron,
        *,
        inputs: int,
        outputs: int,
        seed: int,
        classes: int | None = None,
        weight_gain: float = 1.0,
    ) -> None:
        super().__init__()
        if isinstance(arch, str):
            arch = choose("model", arch, ARCHITECTURES)
        classes = outputs if classes is None else classes
        if inputs < 1 or not 1 <= classes <= outputs:
            raise NetworkError(
                f"network {arch.name}: expected inputs >= 1 and 1 <= classes <= outputs, "
                f"found inputs {inputs}, classes {classes}, outputs {outputs}"
            )
        self.architecture = arch
        self.inputs, self.outputs, self.classes = inputs, outputs, classes
        self.seed = seed
        self.weight_gain = weight_gain
        self.layers = arch.layers(inputs, outputs)
        self.spec = MaskSpec({layer.name: layer.shape for layer in self.layers})
        flat = [random_init.weights(seed, index, layer.shape, weight_gain) for index, layer in enumerate(self.layers)]
        # Not persistent: a state dict holds nothing, because the seed gives everything back.
        self.register_buffer("weights", torch.cat([weight.reshape(-1) for weight in flat]), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.weights.device

    def layer_weights(self, flat: Tensor) -> list[Tensor]:
        """Views by layer, in their shapes, of a flat tensor over all layers `(spec.bits,)`."""
        return [flat[layer.flat].view(layer.shape) for layer in self.spec]

    def initial_scores(self, task: int) -> Tensor:
        """Scores that training of task number `task` starts from, flat `(spec.bits,)`, on the network's device."""
        scores = [random_init.initial_scores(self.seed, l, layer.shape, task) for l, layer in enumerate(self.layers)]  # noqa: E741
        return torch.cat([score.reshape(-1) for score in scores]).to(self.weights)

    def masked_weights(self, mask: AnyMask) -> Tensor:
        """W times a mask, flat `(spec.bits,)`; None is the full network.

        Raises SpecError for a mask of other layers or shapes.
        """
        if mask is None:
            return self.weights
        if not isinstance(mask, Mask):
            mask = Mask.from_dense({name: layer.detach().cpu() for name, layer in mask.items()}, self.spec)
        elif mask.spec != self.spec:
            raise ShapeError(f"mask: expected the layers of {self.spec!r}, found {mask.spec!r}")
        bits = torch.from_numpy(mask.flat()).to(self.device)
        return bits.to(self.weights.dtype).mul_(self.weights)

    def run(self, images: Tensor, linear: LayerFunction) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)`, with `linear(l, a)` as layer l's linear output for input a."""
        if images.ndim != 2 or images.shape[1] != self.inputs:
            raise ShapeError(f"images: expected shape (b, {self.inputs}), found {tuple(images.shape)}")
        return self.architecture.run(images, linear)

    def run_with(self, images: Tensor, flat_weights: Tensor) -> Tensor:
        """Logits `(b, outputs)` under given effective weights, flat `(spec.bits,)`."""
        by_layer = self.layer_weights(flat_weights)
        return self.run(images, lambda index, activation: self.layers[index].apply(activation, by_layer[index]))

    def forward(self, images: Tensor, mask: AnyMask = None) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)` under a packed `Mask`, a dict of bool tensors, or no mask."""
        return self.run_with(images, self.masked_weights(mask))

    def extra_repr(self) -> str:
        return (
            f"{self.architecture.name}, inputs={self.inputs}, outputs={self.outputs}, classes={self.classes}, "
            f"seed={self.seed}, weight_gain={self.weight_gain}"
        )
