"""Training recipes: frozen settings, passed by hand, found by name in `RECIPES`.

`paper` is the published one: threshold masks, RMSProp with learning rate 1e-4, batches of 128, weights ±sqrt(2/fan_in)
(Wortsman et al. 2020, appendix on MNIST; the remaining settings are the defaults of torch's RMSprop).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import cos, inf, log2, pi
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from supsup_models._names import check, choose, expect, expect_within, found, number, whole_number
from supsup_models.data import checked_image_shape, checked_view_count
from supsup_models.errors import ArgumentTypeError, NetworkError
from supsup_models.networks import layer_densities
from supsup_models.training.optimisers import Adam, Optimiser, RMSProp

if TYPE_CHECKING:
    from supsup_models.networks import MaskedNetwork, MultilayerPerceptron

Schedule = Literal["constant", "cosine"]
_PUBLISHED = RMSProp()
OUTLIER_KINDS = ("fitting", "shuffled", "foreign", "composed")


@dataclass(frozen=True)
class OneShot:
    """What trains the one-shot score: S of `supsup_models.training.steps.sparse`.

    Args:
        weight: of the loss.
        start: share of the steps after which it counts.
        margin: the score to reach on the task's images, in standard deviations of the scores of random masks.
        below: the score to stay under on outliers, with the other sign.

    Raises:
        NetworkError: for a value out of its range.
    """

    weight: float
    start: float
    margin: float
    below: float

    def __post_init__(self) -> None:
        for name in ("weight", "margin", "below"):
            expect_within(lambda x: 0 <= x < inf, f"one-shot loss: expected {name} in [0, inf)", getattr(self, name))
        expect_within(lambda x: 0 <= x <= 1, "one-shot loss: expected start in [0, 1]", self.start)


@dataclass(frozen=True)
class Sparse:
    """Masks that keep a fixed share of each layer's weights, and training that pays for their bits.

    A mask that keeps a share p of the weights takes about H(p) bits a weight, where H is the entropy of a coin. So a
    sparse mask is small. The few weights that it keeps are scaled up to match (`MaskedNetwork`'s `densities`).
    Training starts dense and drops weights along a cubic schedule (Zhu and Gupta, "To prune, or not to prune", 2017).
    `supsup_models.training.steps.sparse` has the loss.
    """

    density: float
    """Share of all weights that a mask keeps; the layers share it out as `sparsity` says."""
    sparsity: str = "equal"
    start_density: float = 0.5
    """Of every layer at the first step, if the layer's own is not larger."""
    settled: float = 0.7
    """Share of the steps after which the densities are final."""
    floor: float = 0.0
    """Added to the root in Adam's step, in units of the root mean square of the layer's gradients
    (`supsup_models.training.steps.layer_adam`): scores of weights that hardly matter then hardly move. Converted
    networks of images have none."""
    rate_weight: float = 0.0
    """Price of a coded bit, in nats of cross-entropy."""
    novelty_weight: float = 0.0
    """Of the loss that asks for superfluous answers to outliers."""
    one_shot_weight: float = 0.0
    """Of the loss that asks for a one-shot score that tells the task's images from outliers."""
    one_shot_from: float = 0.3
    """Share of the steps after which that loss counts."""
    margin: float = 4.0
    """The one-shot score to reach, in standard deviations of the scores of random masks."""
    kept_density: float = 0.95
    """The density, the same in every layer, where the weights are those of a trained network: what is dropped costs."""
    on_images: OneShot | None = None
    """What takes the place of `one_shot_weight`, `one_shot_from` and `margin` in converted networks of images."""
    shuffled: float = 0.5
    """Share of a batch's images of which outliers are made, where a loss wants them."""
    outliers: Callable[..., Any] | str = "fitting"
    """How outliers are made: "shuffled", "foreign", "composed", "fitting", or a callable like
    `supsup_models.training.Outliers`; `training.steps.outliers` says more."""

    def __post_init__(self) -> None:
        number("sparse recipe", self.density)
        for name in ("start_density", "shuffled", "kept_density"):  # `densities` checks the density
            value = getattr(self, name)
            expect_within(lambda x: 0 < x <= 1, f"sparse recipe: expected {name} in (0, 1]", value)
        for name in ("settled", "one_shot_from"):
            value = getattr(self, name)
            expect_within(lambda x: 0 <= x <= 1, f"sparse recipe: expected {name} in [0, 1]", value)
        if not callable(self.outliers):
            check("kind of outliers", self.outliers, OUTLIER_KINDS)
        for name in ("floor", "rate_weight", "novelty_weight", "one_shot_weight", "margin"):
            value = getattr(self, name)
            expect_within(lambda x: 0 <= x < inf, f"sparse recipe: expected {name} in [0, inf)", value)

    def one_shot(self, *, on_images: bool) -> OneShot:
        """What trains the one-shot score in a network; `on_images` says whether it is a converted one of images."""
        if on_images and self.on_images is not None:
            return self.on_images
        return OneShot(self.one_shot_weight, self.one_shot_from, self.margin, 1.0)

    def densities(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[float, ...]:
        """Each layer's density; SparsityError for one that no layer can have."""
        return tuple(layer_densities(shapes, self.sparsity, self.density).values())


@dataclass(frozen=True)
class Kept:
    """Masks on the weights of a trained network, which keep nearly all of them.

    Training starts with all weights, and drops one only if the loss asks for it against a price
    (`supsup_models.training.steps.kept`). A task's own parameters, such as its head, are trained beside the mask.

    Args:
        dropped: the most that a mask drops, as a share of all weights, in [0, 1).
        price: what pulls scores back up, in units of a typical step; not negative.
        own_rate: learning rate of the task's own parameters, above 0.
        by_layer: the most that a mask drops of a layer, by the layer's name, as a share of its weights, in [0, 1]; 0
            keeps the layer whole. Layers without one share what `dropped` allows as training asks.

    Raises:
        NetworkError: for a value out of its range.

    Examples:
        >>> from supsup_models import Kept
        >>> round(Kept.for_bits(0.08).dropped, 4)
        0.0099
        >>> Kept(0.02, by_layer={"conv1": 0.0, "fc": 0.05}).by_layer["fc"]
        0.05
    """

    dropped: float = 0.01
    price: float = 0.05
    own_rate: float = 3e-3
    by_layer: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        expect_within(lambda x: 0 <= x < 1, "kept weights: expected dropped in [0, 1)", self.dropped)
        expect("by_layer", self.by_layer, Mapping, "shares by the names of layers, a dict")
        object.__setattr__(self, "by_layer", dict(self.by_layer))  # which nobody else changes
        for layer, share in self.by_layer.items():
            expect_within(lambda x: 0 <= x <= 1, f"kept weights: expected {layer!r:.80} of by_layer in [0, 1]", share)
        expect_within(lambda x: 0 <= x < inf, "kept weights: expected price in [0, inf)", self.price)
        expect_within(lambda x: 0 < x < inf, "kept weights: expected own_rate in (0, inf)", self.own_rate)

    @classmethod
    def for_bits(
        cls,
        bits: float,
        *,
        price: float = price,
        own_rate: float = own_rate,
        by_layer: Mapping[str, float] | None = None,
    ) -> "Kept":
        """The budget for masks of at most so many bits a weight, in (0, 1], before anything is known of the weights.

        NetworkError for other bits.
        """
        expect_within(lambda x: 0 < x <= 1, "kept weights: expected bits in (0, 1]", bits)
        low, high = 0.0, 0.5
        for _ in range(50):  # the entropy of a coin rises up to one half
            middle = (low + high) / 2
            entropy = -middle * log2(middle) - (1 - middle) * log2(1 - middle)
            low, high = (middle, high) if entropy < bits else (low, middle)
        return cls(low, price, own_rate, by_layer or {})


@dataclass(frozen=True)
class Recipe:
    """How one task's scores are trained.

    Args:
        name: what runs and errors call it.
        optimiser: `RMSProp` or `Adam`, with the learning rate of the first step.
        schedule: "constant", or "cosine", which lowers the rate to zero along half a cosine.
        batch_size: images a step.
        weight_gain: frozen weights are ± weight_gain * sqrt(2 / fan_in). It is a property of the network too, the same
            for all tasks.
        sparse: density and prices of sparse masks; None trains threshold masks, as dense as training leaves them.
        views: in how many views an image is shown, 1, 4 or 8; the mask learns to name the view with superfluous outputs
            (`supsup_models.Views`). That makes it sure of its own images and unsure of others.
        view_share: how many further views a step shows for each image of the batch.
        image_shape: channels, height and width of the images, which views and outliers need; `for_images` sets it. None
            takes the network's own, if it knows one.
        kept: budget and prices of masks on kept weights, for `convert(..., weights="keep")`; with Adam.

    Raises:
        UnknownNameError: for another schedule.
        NetworkError: for a batch size below 1, a weight gain that is not positive, or another number of views.

    Examples:
        >>> from supsup_models import Recipe, RMSProp
        >>> recipe = Recipe("mine", RMSProp(1e-3), schedule="cosine", batch_size=64)
        >>> [round(recipe.learning_rate(step, 100), 6) for step in (0, 50, 99)]
        [0.001, 0.0005, 0.0]
        >>> model = recipe.network("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> model.spec.bits
        50200
    """

    name: str
    optimiser: Optimiser = _PUBLISHED
    schedule: Schedule = "constant"
    batch_size: int = 128
    weight_gain: float = 1.0
    sparse: Sparse | None = None
    views: int = 1
    view_share: float = 1.5
    image_shape: tuple[int, ...] | None = None
    kept: Kept | None = None

    def __post_init__(self) -> None:
        expect("recipe's name", self.name, str, "a str")
        expect("optimiser", self.optimiser, (RMSProp, Adam), "RMSProp or Adam")
        if self.sparse is not None:
            expect("sparse", self.sparse, Sparse, "Sparse or None")
        if self.kept is not None:
            expect("kept", self.kept, Kept, "Kept or None")
            if self.sparse is not None or self.views != 1 or not isinstance(self.optimiser, Adam):
                raise NetworkError(
                    f"recipe {self.name!r}: expected Adam alone beside kept, found sparse masks or views"
                )
        check("schedule", self.schedule, get_args(Schedule))
        what = f"recipe {self.name!r}: expected"
        whole_number("batch_size", self.batch_size)
        expect_within(lambda x: x >= 1, f"{what} batch_size in [1, inf)", self.batch_size)
        expect_within(lambda x: 0 < x < inf, f"{what} weight_gain in (0, inf)", self.weight_gain)
        checked_view_count(self.views)
        expect_within(lambda x: 0 < x < inf, f"{what} view_share in (0, inf)", self.view_share)
        if self.views > 1 and self.sparse is not None:
            weight = max(self.sparse.one_shot(on_images=on_images).weight for on_images in (False, True))
            if weight:
                raise NetworkError(
                    f"recipe {self.name!r}: expected one_shot_weight 0 beside views, which use superfluous outputs, "
                    f"found {weight}"
                )

    def for_images(self, image_shape: tuple[int, ...]) -> "Recipe":
        """The recipe for images of a shape, `(channels, height, width)`, where its views or outliers need to know it.

        Raises:
            ShapeError: for images that have no such views.
        """
        needed = self.views > 1 or (self.sparse is not None and self.sparse.outliers in ("foreign", "composed"))
        if not needed:
            return self
        return replace(self, image_shape=checked_image_shape(f"recipe {self.name!r}", image_shape))

    def named_outputs(self, classes: int) -> int:
        """How many outputs stand for something: the classes, in every view."""
        return classes * self.views

    def network(
        self, arch: "str | MultilayerPerceptron", *, inputs: int, outputs: int, seed: int, classes: int | None = None
    ) -> "MaskedNetwork":
        """A `MaskedNetwork` for masks of this recipe: with its weight gain, and for sparse masks with its densities.

        Args are those of `MaskedNetwork`, and so are the errors.
        """
        from supsup_models.networks import ARCHITECTURES, MaskedNetwork  # torch; a recipe alone needs none

        found = choose("model", arch, ARCHITECTURES) if isinstance(arch, str) else arch
        densities = self.densities(found.shapes(inputs, outputs))
        return MaskedNetwork(
            found, inputs=inputs, outputs=outputs, seed=seed, classes=classes,
            weight_gain=self.weight_gain, densities=densities,
        )  # fmt: skip

    def densities(self, shapes: Mapping[str, tuple[int, ...]], *, trained: bool = False) -> tuple[float, ...] | None:
        """The density of each layer of a network for masks of this recipe; None where masks are not sparse.

        Args:
            shapes: each layer's shape by name.
            trained: whether the weights are those of a trained network, most of which a mask then keeps.

        Raises:
            SparsityError: for a density that no layer can have.
        """
        if self.sparse is None:
            return None
        return (self.sparse.kept_density,) * len(shapes) if trained else self.sparse.densities(shapes)

    def learning_rate(self, step: int, steps: int) -> float:
        """The rate of step number `step` of `steps`, from 0."""
        if self.schedule == "constant":
            return self.optimiser.learning_rate
        return self.optimiser.learning_rate * 0.5 * (1.0 + cos(pi * step / steps))


EDGE_POPUP = Recipe("edge-popup", Adam(1e-3))
"""For edge-popup masks on convolutional networks: the rate of the published SplitCIFAR100 runs."""

DENSE = Recipe("dense", RMSProp(3e-4), schedule="cosine")
"""Threshold masks that are more accurate than the paper's: on ten permuted-MNIST tasks 94.9 against 93.7 %. One-shot
inference still finds the task of every single image. Larger weights save bits but lose some of that: at 1.2 c masks
take 0.41 bits a parameter and reach 95.6 %, but on permuted digits only 96 % of single images find their task."""

DEFAULT = Recipe(
    "default",
    Adam(3e-2, betas=(0.9, 0.99)),
    schedule="cosine",
    sparse=Sparse(
        0.05,
        start_density=0.2,
        floor=0.5,
        novelty_weight=0.3,
        one_shot_weight=0.05,
        one_shot_from=0.0,
        on_images=OneShot(weight=0.2, start=0.1, margin=8.0, below=3.0),
    ),
)
"""Sparse masks: a fraction of the bits, and more accurate. One-shot inference works with the objective G."""

BACKBONE = Recipe("backbone", Adam(0.06, betas=(0.9, 0.99)), schedule="cosine", batch_size=32, kept=Kept())
"""For tasks on a trained network, converted with `weights="keep"`: masks that drop at most one weight in a hundred, and
heads and normalisation of their own."""

VIEWS = Recipe(
    "views",
    Adam(3e-2, betas=(0.9, 0.99)),
    schedule="cosine",
    batch_size=64,
    sparse=Sparse(0.05, start_density=0.2, novelty_weight=0.3, outliers="composed"),
    views=8,
)
"""Sparse masks for tasks that show other classes in the same way, as the split streams do. The best (task, class) pair
over several views names the task of a single image; one-shot inference finds fewer tasks."""

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {recipe.name: recipe for recipe in (Recipe("paper"), DENSE, DEFAULT, VIEWS, EDGE_POPUP, BACKBONE)}
)
"""All recipes by name: "paper", "dense", "default", "views", "edge-popup" and "backbone"."""


def named_recipe(recipe: Recipe | str) -> Recipe:
    """The recipe itself, or the one of a name. UnknownNameError for no such name, ArgumentTypeError for neither."""
    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str):
        raise ArgumentTypeError(f"recipe: expected a Recipe or the name of one, found {found(recipe)}")
    return choose("recipe", recipe, RECIPES)
