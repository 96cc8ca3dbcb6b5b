"""`MaskedNetwork`: an architecture with seeded, frozen weights; the mask is an argument of every call."""

from collections.abc import Sequence
from math import sqrt
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstore import MaskSpec
from maskstore.bank import MaskSource
from maskstore.priors import SeededScores
from supsup_models._names import choose
from supsup_models.errors import NetworkError, ShapeError, SparsityError
from supsup_models.networks import seeded
from supsup_models.networks.base import AnyMask, Extras, MaskedModel, check_gain
from supsup_models.networks.mlp import ARCHITECTURES, LayerFunction, MultilayerPerceptron
from supsup_models.networks.own_masks import OwnMasks
from supsup_models.networks.score_masks import keep_largest, threshold
from supsup_models.networks.sparsity import check_density, kept_weights

_META = {"model": str, "inputs": int, "outputs": int, "classes": int, "weight_gain": float, "seed": int}
"""What a bank says of its network, by kind; `densities` only of one that has any."""


class MaskedNetwork(MaskedModel):
    """A network of frozen ±c weights, regenerated from `seed`, whose only trained part is the mask it is called with.

    Args:
        arch: a name in `ARCHITECTURES`, or a `MultilayerPerceptron` of your own.
        inputs: values of an image.
        outputs: logits. More than the classes leaves superfluous outputs, which tell the right mask from a wrong one
            (Wortsman et al. 2020, section 3.4).
        seed: what all weights follow from, 0 <= seed < 2**64.
        classes: how many of the outputs are real, the first ones; None stands for all.
        weight_gain: scales the weights: c = weight_gain * sqrt(2 / fan_in).
        densities: one for each layer, in (0, 1]. A mask then keeps that share of the layer's weights, those of the
            largest scores, and c is divided by sqrt(density), so that activations keep their size. None: a mask keeps
            the weights whose score is not negative.

    All weights are one flat frozen buffer in spec order, `weights` `(spec.bits,)` float32; `layer_weights(flat)` views
    any flat tensor by layer.

    Raises:
        UnknownNameError: for an architecture that there is not.
        NetworkError: for sizes that no network has.
        SparsityError: for a density outside (0, 1] or too small for one weight.

    Examples:
        A new network needs a seed, its masks are stored in a bank, and the bank gives both back:

        >>> import tempfile, torch
        >>> from maskstore import MaskBank
        >>> from supsup_models import MaskedNetwork
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> mask = model.mask_of(model.initial_scores(task=0))  # not trained: every other weight
        >>> images = torch.ones(2, 64)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/masks.bank", model.spec, meta=model.bank_meta()) as bank:
        ...         bank.put("task-0", mask)
        ...     with MaskBank.open(f"{folder}/masks.bank") as bank:
        ...         again, stored = MaskedNetwork.from_bank(bank), bank["task-0"]
        >>> torch.equal(model(images, mask), again(images, stored))
        True
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
        self.spec = MaskSpec(arch.shapes(inputs, outputs))
        gains = [weight_gain] * len(self.spec)
        if densities is not None:
            if len(densities) != len(self.spec):
                raise NetworkError(f"network {arch.name}: expected {len(self.spec)} densities, found {len(densities)}")
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
        with torch.inference_mode(False):  # a caller's would leave weights that cannot train a mask
            flat = [seeded.weights(seed, i, layer.shape, gains[i]).reshape(-1) for i, layer in enumerate(self.spec)]
            # Not persistent: a state dict holds nothing, because the seed gives everything back.
            self.register_buffer("weights", torch.cat(flat), persistent=False)

    @classmethod
    def from_bank(cls, bank: MaskSource) -> Self:
        """The network whose masks a bank or shard holds, made again from what it says: no weight is stored.

        Args:
            bank: an open `MaskBank` or shard that was created with `meta=model.bank_meta()`, or by `supsup train`.

        Raises:
            NetworkError: for a bank that does not say what the network needs to be made again, or says something else
                than its masks do. A converted model (`supsup_models.convert`) needs its module, so it is refused too.

        Examples:
            >>> import tempfile
            >>> from maskstore import MaskBank
            >>> from supsup_models import MaskedNetwork
            >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=7)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     with MaskBank.create(f"{folder}/masks.bank", model.spec, meta=model.bank_meta()) as bank:
            ...         MaskedNetwork.from_bank(bank)
            MaskedNetwork(lenet-300-100, inputs=64, outputs=100, classes=10, seed=7, weight_gain=1.0, densities=None)
        """
        meta = bank.meta
        if others := sorted(meta.keys() & {"image_shape", "mask", "weights"}):
            raise NetworkError(f"bank: expected masks of a MaskedNetwork, found {others[0]!r} of a converted model")
        for name, kind in _META.items():
            if name not in meta:
                raise NetworkError(
                    f"bank: expected {name!r} in its meta, found {', '.join(sorted(meta)) or 'nothing'}; "
                    "meta=model.bank_meta() says all that its network needs"
                )
            if type(meta[name]) not in (kind, int):
                raise NetworkError(f"bank: expected {kind.__name__} as {name!r} in its meta, found {meta[name]!r:.40}")
        densities = meta.get("densities")
        if densities is not None and (type(densities) is not list or {*map(type, densities)} - {float, int}):
            raise NetworkError(f"bank: expected numbers as 'densities' in its meta, found {densities!r:.40}")
        own = MultilayerPerceptron(meta["model"], tuple(layer.shape[0] for layer in bank.spec.layers[:-1]))
        arch = ARCHITECTURES.get(own.name, own)
        sizes = {name: meta[name] for name in _META if name != "model"}
        shapes = arch.shapes(sizes["inputs"], sizes["outputs"])
        if list(shapes.items()) != list(bank.spec.shapes.items()):
            raise NetworkError(f"bank: expected masks of layers {shapes}, as its meta says, found {bank.spec!r}")
        return cls(arch, **sizes, densities=densities)

    def bank_meta(self) -> dict[str, Any]:
        """What a bank of this network's masks has to say of it, JSON-ready: `from_bank` makes the network from that."""
        named = {name: getattr(self, name) for name in ("inputs", "outputs", "classes", "weight_gain")}
        densities = {} if self.densities is None else {"densities": list(self.densities)}
        return {"model": self.architecture.name, **named, **densities, "seed": self.seed}

    def subnet(self, scores: Tensor) -> Tensor:
        """Threshold masks, `[s >= 0]`; with densities, the largest scores of each layer."""
        scores = self._flat(scores)
        if self.densities is None:
            return threshold(scores)
        return keep_largest(scores, tuple(layer.flat for layer in self.spec), self.kept)

    def prior(self, task: int) -> SeededScores:
        """Weights and scores both come from the seed."""
        return SeededScores(seed=self.seed, task=task)

    def run(self, images: Tensor, linear: LayerFunction) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)`, with `linear(l, a)` as layer l's linear output for input a."""
        self._check_shape(images)
        return self.architecture.run(images, linear)

    def _check_images(self, images: Tensor, weights: Tensor) -> None:
        """DeviceError or ShapeError for images that the weights cannot be multiplied with."""
        self.check_device(images)
        if images.dtype != weights.dtype:
            raise ShapeError(f"images: expected {weights.dtype}, that of the weights, found {images.dtype}")
        self._check_shape(images)

    def _check_shape(self, images: Tensor) -> None:
        """ShapeError unless images are `(b, inputs)`."""
        if images.ndim != 2 or images.shape[1] != self.inputs:
            raise ShapeError(f"images: expected shape (b, {self.inputs}), found {tuple(images.shape)}")

    def run_layers(self, images: Tensor, weights: Sequence[Tensor], extras: Extras = None) -> Tensor:
        """Logits `(b, outputs)` under given effective weights, one tensor a layer. ShapeError for any extras."""
        self._check_no_extras(extras)
        layers = self.checked_layers(weights)
        self._check_images(images, layers[0])
        return self.run(images, lambda index, activation: F.linear(activation, layers[index]))

    def run_own(self, images: Tensor, own: OwnMasks, extras: Sequence[Extras] = ()) -> Tensor:
        """As of any network, straight from the packed bits where that is possible."""
        if not own.fits(images, self.weights):
            return super().run_own(images, own, extras)
        layers = self.layer_weights(self.weights)
        with torch.no_grad():
            return self.run(images, lambda index, activation: own.linear(index, layers[index], activation))

    def forward(self, images: Tensor, mask: AnyMask = None) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)` under a packed `Mask` or a dict of bool arrays by layer.

        Raises ShapeError or DeviceError for images of another shape or dtype or on another device, and for a mask of
        another network; MissingMaskError without a mask.
        """
        self._check_images(images, self.weights)
        return self.run_with(images, self.masked_weights(self.needed_mask(mask)))

    def export(self, mask: AnyMask, extras: Extras = None) -> nn.Sequential:
        """One task as a plain module, with weights W * mask; None writes the full network.

        Its layers are named as those of `spec`. It needs nothing of this library. ShapeError for any extras.
        """
        self._check_no_extras(extras)
        module = self.architecture.module(self.inputs, self.outputs)
        for layer, weight in zip(self.spec, self.layer_weights(self.masked_weights(mask)), strict=True):
            part = module.get_submodule(layer.name)
            part.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        return module.eval()

    def _check_no_extras(self, extras: Extras) -> None:
        if extras:
            raise ShapeError(f"extras: expected none for a network without statistics, found {sorted(extras)[:4]}")

    def extra_repr(self) -> str:
        return (
            f"{self.architecture.name}, inputs={self.inputs}, outputs={self.outputs}, classes={self.classes}, "
            f"seed={self.seed}, weight_gain={self.weight_gain}, densities={self.densities}"
        )
