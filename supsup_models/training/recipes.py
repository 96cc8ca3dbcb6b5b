"""Training recipes: frozen, passed by hand, found by name.

`paper` is the published one: threshold masks, RMSProp with learning rate 1e-4, batches of 128, weights ±sqrt(2/fan_in)
(Wortsman et al. 2020, appendix on MNIST; the remaining settings are the defaults of torch's RMSprop).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, inf, pi
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from supsup_models._names import check, choose
from supsup_models.errors import NetworkError
from supsup_models.networks import layer_densities

if TYPE_CHECKING:
    from supsup_models.networks import MaskedNetwork, MultilayerPerceptron

SCHEDULES = ("constant", "cosine")
_INTERVALS: Mapping[str, Callable[[float], bool]] = {
    "(0, inf)": lambda value: 0 < value < inf,
    "[0, inf)": lambda value: 0 <= value < inf,
    "[1, inf)": lambda value: 1 <= value < inf,
    "[0, 1)": lambda value: 0 <= value < 1,
    "[0, 1]": lambda value: 0 <= value <= 1,
    "(0, 1]": lambda value: 0 < value <= 1,
}


def _check_in(interval: str, what: str, **values: float) -> None:
    """NetworkError for a value outside of an interval, which a NaN always is."""
    for name, value in values.items():
        if not _INTERVALS[interval](value):
            raise NetworkError(f"{what}: expected {name} in {interval}, found {value}")


@dataclass(frozen=True)
class RMSProp:
    """`v = alpha v + (1 - alpha) g²; s = s - lr g / (sqrt(v) + eps)`, torch's defaults."""

    learning_rate: float = 1e-4
    alpha: float = 0.99
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _check_in("(0, inf)", "RMSProp", learning_rate=self.learning_rate)
        _check_in("[0, 1)", "RMSProp", alpha=self.alpha)
        _check_in("[0, inf)", "RMSProp", eps=self.eps)


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba, ICLR 2015, with torch's defaults but for the rate."""

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        first, second = self.betas
        _check_in("(0, inf)", "Adam", learning_rate=self.learning_rate)
        _check_in("[0, 1)", "Adam", first_beta=first, second_beta=second)
        _check_in("[0, inf)", "Adam", eps=self.eps)


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
        what = "sparse recipe"  # `densities` checks the density
        _check_in("(0, 1]", what, start_density=self.start_density, shuffled=self.shuffled)
        _check_in("[0, 1]", what, settled=self.settled, one_shot_from=self.one_shot_from)
        _check_in("[0, inf)", what, rate_weight=self.rate_weight, novelty_weight=self.novelty_weight)
        _check_in("[0, inf)", what, one_shot_weight=self.one_shot_weight, margin=self.margin)

    def densities(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[float, ...]:
        """Each layer's density; SparsityError for one that no layer can have."""
        return tuple(layer_densities(shapes, self.sparsity, self.density).values())


@dataclass(frozen=True)
class Recipe:
    """How one task's scores are trained."""

    name: str
    optimiser: Optimiser = RMSProp()
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: int = 128
    weight_gain: float = 1.0
    """Frozen weights are ± weight_gain * sqrt(2 / fan_in): a property of the network, the same for all tasks."""
    sparse: Sparse | None = None
    """None: threshold masks, as dense as training leaves them."""

    def __post_init__(self) -> None:
        check("schedule", self.schedule, SCHEDULES)
        _check_in("[1, inf)", f"recipe {self.name!r}", batch_size=self.batch_size)
        _check_in("(0, inf)", f"recipe {self.name!r}", weight_gain=self.weight_gain)

    def network(
        self, arch: "str | MultilayerPerceptron", *, inputs: int, outputs: int, seed: int, classes: int | None = None
    ) -> "MaskedNetwork":
        """A `MaskedNetwork` for masks of this recipe: with its weight gain, and for sparse masks with its densities."""
        from supsup_models.networks import ARCHITECTURES, MaskedNetwork  # torch; a recipe alone needs none

        found = choose("model", arch, ARCHITECTURES) if isinstance(arch, str) else arch
        shapes = {layer.name: layer.shape for layer in found.layers(inputs, outputs)}
        densities = None if self.sparse is None else self.sparse.densities(shapes)
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
