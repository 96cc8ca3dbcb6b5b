"""`MaskedNetwork`: an architecture with seeded, frozen weights; the mask is an argument of every call."""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from maskstore import MaskSpec
from maskstore.priors import SeededScores
from supsup_models._names import choose
from supsup_models.errors import NetworkError, ShapeError, SparsityError
from supsup_models.networks import seeded as random_init
from supsup_models.networks.base import AnyMask, Extras, MaskedModel, check_gain
from supsup_models.networks.mlp import ARCHITECTURES, LayerFunction, MultilayerPerceptron
from supsup_models.networks.score_masks import keep_largest, threshold
from supsup_models.networks.sparsity import check_density, kept_weights


class MaskedNetwork(MaskedModel):
    """A network of frozen ±c weights, regenerated from `seed`, whose only trained part is the mask it is called with.

    `arch` is a name in `ARCHITECTURES` or a `MultilayerPerceptron` of your own. `outputs` logits, of which the first
    `classes` (default: all) are real; the others are the superfluous neurons of Wortsman et al. 2020, section 3.4.
    `weight_gain` scales the weights: c = weight_gain * sqrt(2 / fan_in).

    With `densities`, one for each layer, a mask keeps that share of the layer's weights (those of the largest scores),
    and c is divided by sqrt(density), so that activations keep their size. Without, masks are thresholds of scores.
    SparsityError for a density outside (0, 1] or too small for one weight.

    All weights are one flat frozen buffer in spec order, `weights` `(spec.bits,)`; `layer_weights(flat)` views any flat
    tensor by layer. `forward` is `run` with one choice of what a layer computes; training, superposition and
    per-image inference are the same `run` with others.
    """

    def __init__(
        self,
        arch: str | MultilayerPerceptron,
        *,
        inputs: int,
        outputs: int,
        seed: int,
        classes: int | None = None,
        weight_gain: float = 1.0,
        densities: Sequence[float] | None = None,
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
        check_gain(weight_gain)
        self.architecture = arch
        self.inputs, self.outputs, self.classes = inputs, outputs, classes
        self.seed = seed
        self.weight_gain = weight_gain
        self.layers = arch.layers(inputs, outputs)
        self.spec = MaskSpec({layer.name: layer.shape for layer in self.layers})
        gains = [weight_gain] * len(self.layers)
        if densities is not None:
            if len(densities) != len(self.layers):
                raise NetworkError(
                    f"network {arch.name}: expected {len(self.layers)} densities, found {len(densities)}"
                )
            for layer, density in zip(self.spec, densities, strict=True):
                check_density(f"density of {layer.name}", density)
                if density * layer.size < 0.5:  # the weights are scaled to a density that the mask could not have
                    raise SparsityError(
                        f"density of {layer.name}: expected to keep at least one of {layer.size} weights, "
                        f"found {density:g}"
                    )
            self.densities = tuple(float(density) for density in densities)
            self.kept = tuple(map(kept_weights, (layer.size for layer in self.spec), self.densities))
            gains = [weight_gain / sqrt(density) for density in self.densities]
        flat = [random_init.weights(seed, i, layer.shape, gains[i]) for i, layer in enumerate(self.layers)]
        # Not persistent: a state dict holds nothing, because the seed gives everything back.
        self.register_buffer("weights", torch.cat([weight.reshape(-1) for weight in flat]), persistent=False)

    def initial_scores(self, task: int) -> Tensor:
        """Scores that training of task number `task` starts from, flat `(spec.bits,)`, on the network's device."""
        scores = [random_init.initial_scores(self.seed, l, layer.shape, task) for l, layer in enumerate(self.layers)]  # noqa: E741
        return torch.cat([score.reshape(-1) for score in scores]).to(self.weights)

    def subnet(self, scores: Tensor) -> Tensor:
        """Threshold masks, `[s >= 0]`; with densities, the largest scores of each layer."""
        if self.densities is None:
            return threshold(scores)
        return keep_largest(scores, tuple(layer.flat for layer in self.spec), self.kept)

    def mean_scores(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Weights in more than half of the masks start above the threshold."""
        return (2.0 * mean - 1.0).mul_(scale)

    def prior(self, task: int) -> SeededScores:
        """Weights and scores both come from the seed."""
        return SeededScores(seed=self.seed, task=task)

    def run(self, images: Tensor, linear: LayerFunction) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)`, with `linear(l, a)` as layer l's linear output for input a."""
        if images.ndim != 2 or images.shape[1] != self.inputs:
            raise ShapeError(f"images: expected shape (b, {self.inputs}), found {tuple(images.shape)}")
        return self.architecture.run(images, linear)

    def run_layers(self, images: Tensor, weights: Sequence[Tensor], extras: Extras = None) -> Tensor:
        """Logits `(b, outputs)` under given effective weights, one tensor a layer. ShapeError for any extras."""
        if extras:
            raise ShapeError(f"extras: expected none for a network without statistics, found {sorted(extras)[:4]}")
        return self.run(images, lambda index, activation: self.layers[index].apply(activation, weights[index]))

    def forward(self, images: Tensor, mask: AnyMask = None) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)` under a packed `Mask`, a dict of bool tensors, or no mask.

        Raises ShapeError or DeviceError for images of another shape or dtype or on another device, and for a mask of
        another network.
        """
        self.check_device(images)
        if images.dtype != self.weights.dtype:
            raise ShapeError(f"images: expected {self.weights.dtype}, that of the weights, found {images.dtype}")
        return self.run_with(images, self.masked_weights(mask))

    def extra_repr(self) -> str:
        return (
            f"{self.architecture.name}, inputs={self.inputs}, outputs={self.outputs}, classes={self.classes}, "
            f"seed={self.seed}, weight_gain={self.weight_gain}, densities={self.densities}"
        )
