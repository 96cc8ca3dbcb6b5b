"""Training recipes: frozen, passed by hand, found by name.

`paper` is the published one: threshold masks, RMSProp with learning rate 1e-4, batches of 128, weights ±sqrt(2/fan_in)
(Wortsman et al. 2020, appendix on MNIST; the remaining settings are the defaults of torch's RMSprop).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, inf, pi
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

from supsup_models._names import check, choose
from supsup_models.errors import NetworkError
from supsup_models.networks import layer_densities

if TYPE_CHECKING:
    from supsup_models.networks import MaskedNetwork, MultilayerPerceptron

Schedule = Literal["constant", "cosine"]


def _expect(holds: bool, what: str, found: float) -> None:
    """NetworkError unless a setting is as expected; comparisons with NaN never hold."""
    if not holds:
        raise NetworkError(f"{what}, found {found}")


@dataclass(frozen=True)
class RMSProp:
    """`v = alpha v + (1 - alpha) g²; s = s - lr g / (sqrt(v) + eps)`, torch's defaults."""

    learning_rate: float = 1e-4
    alpha: float = 0.99
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _expect(0 < self.learning_rate < inf, "RMSProp: expected learning_rate in (0, inf)", self.learning_rate)
        _expect(0 <= self.alpha < 1, "RMSProp: expected alpha in [0, 1)", self.alpha)
        _expect(0 <= self.eps < inf, "RMSProp: expected eps in [0, inf)", self.eps)


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba, ICLR 2015, with torch's defaults but for the rate."""

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _expect(0 < self.learning_rate < inf, "Adam: expected learning_rate in (0, inf)", self.learning_rate)
        for beta in self.betas:
            _expect(0 <= beta < 1, "Adam: expected betas in [0, 1)", beta)
        _expect(0 <= self.eps < inf, "Adam: expected eps in [0, inf)", self.eps)


Optimiser = RMSProp | Adam


@dataclass(frozen=True)
class Sparse:
    """Masks that keep a fixed share of each layer's weights, and training that pays for their bits.

    A mask of density p costs about H(p) bits a weight, whatever scores it came from, and what is random about a mask
    of density one half is not paid for in accuracy; so the budget is spent on few weights, scaled up to match
    (`MaskedNetwork`'s `densities`). Training starts dense and drops weights along a cubic schedule (Zhu and Gupta,
    "To prune, or not to prune", 2017). `supsup_models.training.steps.sparse` has the loss.
    """

    density: float
    """Share of all weights that a mask keeps; the layers share it out as `sparsity` says."""
    sparsity: str = "equal"
    start_density: float = 0.5
    """Of every layer at the first step, if the layer's own is not larger."""
    settled: float = 0.7
    """Share of the steps after which the densities are final."""
    rate_weight: float = 0.0
    """Price of a coded bit, in nats of cross-entropy."""
    novelty_weight: float = 0.0
    """Of the loss that asks for superfluous answers to images with shuffled values."""
    one_shot_weight: float = 0.0
    """Of the loss that asks for a one-shot score that tells the task's images from shuffled ones."""
    one_shot_from: float = 0.3
    """Share of the steps after which that loss counts: earlier it would choose weights before the task does."""
    margin: float = 4.0
    """The one-shot score to reach, in standard deviations of the scores of random masks."""
    shuffled: float = 0.5
    """Share of a batch's images that are shown shuffled as well, where a loss wants them."""

    def __post_init__(self) -> None:
        for name in ("start_density", "shuffled"):  # `densities` checks the density
            value = getattr(self, name)
            _expect(0 < value <= 1, f"sparse recipe: expected {name} in (0, 1]", value)
        for name in ("settled", "one_shot_from"):
            value = getattr(self, name)
            _expect(0 <= value <= 1, f"sparse recipe: expected {name} in [0, 1]", value)
        for name in ("rate_weight", "novelty_weight", "one_shot_weight", "margin"):
            value = getattr(self, name)
            _expect(0 <= value < inf, f"sparse recipe: expected {name} in [0, inf)", value)

    def densities(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[float, ...]:
        """Each layer's density; SparsityError for one that no layer can have."""
        return tuple(layer_densities(shapes, self.sparsity, self.density).values())


@dataclass(frozen=True)
class Recipe:
    """How one task's scores are trained."""

    name: str
    optimiser: Optimiser = RMSProp()
    schedule: Schedule = "constant"
    batch_size: int = 128
    weight_gain: float = 1.0
    """Frozen weights are ± weight_gain * sqrt(2 / fan_in): a property of the network, the same for all tasks."""
    sparse: Sparse | None = None
    """None: threshold masks, as dense as training leaves them."""

    def __post_init__(self) -> None:
        check("schedule", self.schedule, get_args(Schedule))
        _expect(self.batch_size >= 1, f"recipe {self.name!r}: expected batch_size in [1, inf)", self.batch_size)
        _expect(0 < self.weight_gain < inf, f"recipe {self.name!r}: expected weight_gain in (0, inf)", self.weight_gain)

    def network(
        self, arch: "str | MultilayerPerceptron", *, inputs: int, outputs: int, seed: int, classes: int | None = None
    ) -> "MaskedNetwork":
        """A `MaskedNetwork` for masks of this recipe: with its weight gain, and for sparse masks with its densities."""
        from supsup_models.networks import ARCHITECTURES, MaskedNetwork  # torch; a recipe alone needs none

        found = choose("model", arch, ARCHITECTURES) if isinstance(arch, str) else arch
        densities = None if self.sparse is None else self.sparse.densities(found.shapes(inputs, outputs))
        return MaskedNetwork(
            found, inputs=inputs, outputs=outputs, seed=seed, classes=classes,
            weight_gain=self.weight_gain, densities=densities,
        )  # fmt: skip

    def learning_rate(self, step: int, steps: int) -> float:
        """The rate of step number `step` of `steps`, from 0."""
        if self.schedule == "constant":
            return self.optimiser.learning_rate
        return self.optimiser.learning_rate * 0.5 * (1.0 + cos(pi * step / steps))


EDGE_POPUP = Recipe("edge-popup", Adam(1e-3))
"""For edge-popup masks on convolutional networks: the rate of the published SplitCIFAR100 runs."""

DENSE = Recipe("dense", RMSProp(3e-4), schedule="cosine")
"""Threshold masks, more accurate than the paper's, with task inference intact: on ten permuted-MNIST tasks 94.9 against
93.7 %, and one-shot finds the task of every single image. Larger weights would save bits and cost that: at 1.2 c 0.41
bits a parameter and 95.6 %, but on permuted digits only 96 % of single images' tasks."""

DEFAULT = Recipe(
    "default",
    Adam(3e-2, betas=(0.9, 0.99)),
    schedule="cosine",
    sparse=Sparse(0.05, start_density=0.2, novelty_weight=0.3, one_shot_weight=0.02),
)
"""Sparse masks: a fraction of the bits, and more accurate; one-shot inference with G intact."""

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {recipe.name: recipe for recipe in (Recipe("paper"), DENSE, DEFAULT, EDGE_POPUP)}
)
