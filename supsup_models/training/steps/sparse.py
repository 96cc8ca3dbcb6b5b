"""Training that pays for its bits: sparse masks, a price on coded bits, and task inference kept alive.

The loss of a batch of images x with labels y, and of outliers x' made of some of the same images, is

    CE(f(x), y) + rate_weight * bits(M) + novelty_weight * N(f(x')) + one_shot_weight * S(M; x, x').

**bits** is what the codec will need, under a model like that of the `mix` codec. Weight ij of a layer is kept with
probability p_ij = r_i c_j / d, where r_i, c_j and d are the shares kept of its row, its column and the layer. They are
computed anew every 5 steps. The derivative by M_ij is log2((1 - p_ij) / p_ij), less the same at the layer's density,
since the number of ones is fixed.

**N** asks for superfluous answers, all equally likely, to images of no task. Such answers then give a wrong mask away.
(Hendrycks, Mazeika and Dietterich, "Deep anomaly detection with outlier exposure", ICLR 2019. `outliers`, beside this
module, says how they are made. Outputs that a recipe's views name are not superfluous to them.)

**S** trains the mask for one-shot inference. Taken at the expected superposition (`superposition.expected_weights`)
instead of the mean of other tasks' masks, the derivative g(x) = dG/dM is a fixed function of the image, so the score of
one-shot inference, -<g(x), M>, is linear in the mask. As a z-score among random masks of the same densities,

    z(x) = -<g(x), M - d> / sqrt(sum_l d_l (1 - d_l) |g_l(x)|²),     S = softplus(margin - z(x)) + softplus(z(x') + 1).

No image or mask of another task is used. S changes slowly, so its derivative is computed every eighth step. It is
that of as many of the task's images as there are outliers, the last ones of the batch.

Scores move by `LayerAdam`, whose floor keeps weights that hardly matter from drifting into the mask.
"""

from collections.abc import Sequence
from math import log2, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore.kernels import compiles
from supsup_models.errors import NetworkError
from supsup_models.networks import (
    MaskedModel,
    MaskedNetwork,
    kept_weights,
    perceptron_backward,
    perceptron_forward,
)
from supsup_models.training.optimisers import Adam
from supsup_models.training.recipes import Recipe, Sparse
from supsup_models.training.steps import sparse_kernel
from supsup_models.training.steps.base import Step
from supsup_models.training.steps.kept_layers import KeptLayers, ShownImages
from supsup_models.training.steps.layer_adam import LayerAdam
from supsup_models.training.steps.outliers import Outliers, made_outliers

REFRESHED = 10  # steps between two looks for the thresholds that keep a density
PRICED = 5  # steps between two looks at the rows' and columns' shares
SCORED = 8  # steps between two looks at the one-shot score, whose derivative changes slowly
_PSEUDO = 8.0  # bits' worth of the layer's density in every row's and column's share: no share is ever zero


class SparseStep(Step):
    """Trains the scores of a sparse mask for a multilayer perceptron; see the module for the loss.

    Scores are scaled so that every layer's initial ones are uniform in ±1/2, whatever its fan-in: one rate suits all.
    Products see weights of -1, 0 and +1, exact in bfloat16 too (`half`), and each layer's c comes as a factor after.
    """

    def __init__(
        self, model: MaskedNetwork, scores: Tensor, recipe: Recipe, *, task: int, steps: int, half: bool = False
    ) -> None:
        sparse, config = check_sparse(model, recipe)
        assert model.densities is not None  # `check_sparse` says so
        self._outliers = OutliersOfSteps(model, recipe, task, one_shot=sparse.one_shot_weight)
        self._named = recipe.named_outputs(model.classes)
        self._model, self._sparse, self._steps, self._task = model, sparse, steps, task
        self._densities = model.densities
        self.scores = scores.clone()
        for layer in model.layer_weights(self.scores):
            layer.mul_(sqrt(layer[0].numel()) / 2)
        self.scores.grad = torch.zeros_like(self.scores)
        dtype = torch.bfloat16 if half else scores.dtype
        self._constants = [float(weights.reshape(-1)[0].abs()) for weights in model.layer_weights(model.weights)]
        self._signs = model.layer_weights(model.weights.sign().to(dtype))
        self._masked = model.layer_weights(torch.empty_like(model.weights, dtype=dtype))  # signs times the mask
        self._products = model.layer_weights(torch.empty_like(model.weights, dtype=dtype))
        self._layer_scores = model.layer_weights(self.scores)
        self._gradients = model.layer_weights(self.scores.grad)
        self._optimiser = LayerAdam(self._layer_scores, self._gradients, config, floor=sparse.floor)
        self._layers: KeptLayers | None = None  # where loops are compiled
        self._turned_signs = self._signs[0].t().contiguous()
        self._background: float | None = None  # of the task's first images
        self._flat: list[tuple[NDArray[np.float32], ...]] = []  # of each layer products, signs and gradients
        if model.device.type == "cpu" and dtype == torch.float32 and len(self._signs) > 1 and compiles():
            self._layers = KeptLayers(self._signs)
            layers = zip(self._products, self._signs, self._gradients, strict=True)
            self._flat = [tuple(one.reshape(-1).numpy() for one in layer) for layer in layers]
        self._thresholds = [0.0] * len(self._densities)
        self._widths = [0.0] * len(self._densities)  # how far from the last thresholds the next ones are looked for
        self._prices: list[Tensor] = []
        self._pulls: list[Tensor] = []
        self._done = 0

    @torch.no_grad()
    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        densities = densities_at(self._done / self._steps, self._sparse, self._densities)
        self._choose(densities)
        # weights are scaled to the density of the moment, which ends at the network's own
        scales = [c * sqrt(p / d) for c, p, d in zip(self._constants, self._densities, densities, strict=True)]
        shown = self._with_outliers(images.to(self._masked[0].dtype))
        if self._layers is None:
            activations, logits = perceptron_forward(shown, self._masked, scales=scales)
            loss, delta = self._answers(logits, labels)
            deltas = perceptron_backward(delta, activations, self._masked, scales=scales)
            _multiply(deltas, activations, self._products)
            first = None
        else:
            seen = self._seen(shown)
            first, logits = self._layers.forward(seen, self._layer_scores, self._thresholds, scales)
            loss, delta = self._answers(logits, labels)
            self._layers.backward(seen, delta, scales, self._products)
        self.logits = logits[: len(labels)]
        pulled = self._sparse.one_shot_weight and self._done >= self._sparse.one_shot_from * self._steps
        if pulled and (not self._pulls or self._done % SCORED == 0):
            self._pulls = self._one_shot_pulls(shown, densities, len(images), first)
        squares = self._take_gradients(scales, pulled=bool(pulled))
        if self._sparse.rate_weight:
            self._add_prices()
            squares = None
        self._optimiser.step(rate, squares)
        self._done += 1
        return loss

    def _seen(self, shown: Tensor) -> ShownImages:
        if self._background is None:
            self._background = float(shown.median())
        return ShownImages(shown, self._background)

    def _take_gradients(self, scales: list[float], *, pulled: bool) -> list[float] | None:
        """The scores' gradients, from the products and the pulls; where loops are compiled, their sums of squares."""
        if self._layers is not None:
            squares = []
            loop = sparse_kernel.gradients_with_pull if pulled else sparse_kernel.gradients
            for index, (scale, (products, signs_of, out)) in enumerate(zip(scales, self._flat, strict=True)):
                more = [self._pulls[index].reshape(-1).numpy()] if pulled else []
                squares.append(float(loop(products, *more, signs_of, np.float32(scale), out)))
            return squares
        if pulled:
            for product, pull, scale in zip(self._products, self._pulls, scales, strict=True):
                product.add_(pull, alpha=1.0 / scale)
        for gradient, product, signs, scale in zip(self._gradients, self._products, self._signs, scales, strict=True):
            torch.mul(product, signs, out=product)  # straight through: dL/ds = dL/dM = dL/d(W M) * W
            gradient.copy_(product).mul_(scale)
        return None

    def _choose(self, densities: tuple[float, ...]) -> None:
        """The signs that are kept at these densities; thresholds are looked for now and then."""
        for index, scores in enumerate(self._layer_scores):
            if self._done % REFRESHED == 0:
                self._thresholds[index] = self._threshold(index, densities[index])
            if index or self._layers is None or self._sparse.rate_weight:  # compiled loops do not see the first mask
                torch.ge(scores, self._thresholds[index], out=self._masked[index]).mul_(self._signs[index])

    def _threshold(self, index: int, density: float) -> float:
        """The score from which on a layer keeps a share of its weights."""
        flat = self._layer_scores[index].reshape(-1)
        count = kept_weights(flat.numel(), density)
        if self._layers is None:
            return float(flat.kthvalue(flat.numel() - count + 1).values)
        last = self._thresholds[index]
        found = sparse_kernel.threshold(flat.numpy(), count, last, self._widths[index])
        self._widths[index] = 2.0 * abs(found - last) + 1e-3
        return found

    def _with_outliers(self, images: Tensor) -> Tensor:
        """The images, and where a loss wants them outliers made of the first of them."""
        made = self._outliers(images, self._done)
        return torch.cat([images, made]) if len(made) else images

    def _answers(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The cross-entropy of the first `len(labels)` images, and the gradient of CE and N at all logits."""
        own, named = len(labels), self._named
        logarithms = torch.log_softmax(logits, dim=1)
        chosen = labels.unsqueeze(1)
        loss = -logarithms[:own].gather(1, chosen).mean()
        delta = logarithms.exp_()
        delta[:own].scatter_add_(1, chosen, delta.new_full(chosen.shape, -1.0)).div_(own)
        if len(logits) > own:
            delta[own:, named:] -= 1.0 / (self._model.outputs - named)
            delta[own:] *= self._sparse.novelty_weight / (len(logits) - own)
        return loss, delta

    def _one_shot_pulls(
        self, shown: Tensor, densities: tuple[float, ...], own: int, first: Tensor | None
    ) -> list[Tensor]:
        """The weighted gradient of S by W M of each layer, from as many of the task's images as there are outliers.

        The first `own` images shown are the task's. `first`, the first layer's sums of kept signs of the images shown,
        is given where loops are compiled.
        """
        expected = [c * p for c, p in zip(self._constants, self._densities, strict=True)]
        left_out = max(0, 2 * own - len(shown))
        shown, own = shown[left_out:], own - left_out
        seen, whole = None, shown[:0]
        if first is None:
            at, logits = perceptron_forward(shown, self._signs, scales=expected)
        else:
            seen = self._seen(shown)
            whole = seen.times(self._turned_signs)
            rest, logits = perceptron_forward(whole.relu().mul_(expected[0]), self._signs[1:], scales=expected[1:])
            at = [shown, *rest]
        cost = torch.softmax(logits, dim=1)
        cost[:, : self._model.classes] = 0.0
        deltas = perceptron_backward(cost, at, self._signs, scales=expected)
        inner = logits.new_zeros(len(logits))
        variance = logits.new_zeros(len(logits))
        for index, (c, density) in enumerate(zip(self._constants, densities, strict=True)):
            # <g, M - d> of a layer is delta . (a (W (M - d))^T), here in units of c
            if first is not None and not index:
                beyond = torch.sub(first[left_out:], whole, alpha=density)
            else:
                beyond = torch.mm(at[index], torch.sub(self._masked[index], self._signs[index], alpha=density).t())
            inner += c * (deltas[index] * beyond).sum(dim=1, dtype=inner.dtype)
            squares = [one.to(logits.dtype).square().sum(dim=1) for one in (deltas[index], at[index])]
            variance += squares[0] * squares[1] * (c * c * density * (1.0 - density))
        pull = one_shot_pull(inner, variance.sqrt_().clamp_(min=1e-30), own, self._sparse.margin)
        pull *= self._sparse.one_shot_weight
        pulls = [torch.empty_like(signs) for signs in self._signs]
        weighted = [
            delta * (pull * c).unsqueeze(1).to(delta.dtype) for delta, c in zip(deltas, self._constants, strict=True)
        ]
        if seen is not None:
            seen.outer(weighted[0], pulls[0])
        _multiply(weighted, at, pulls, first=0 if seen is None else 1)
        return pulls

    def _add_prices(self) -> None:
        """Add the rate's derivative by every bit of the masks."""
        if self._done % PRICED == 0:
            self._prices = [bit_prices(masked.abs().to(self.scores.dtype)) for masked in self._masked]
        for gradient, price in zip(self._gradients, self._prices, strict=True):
            gradient.add_(price, alpha=self._sparse.rate_weight)


def _multiply(deltas: Sequence[Tensor], activations: Sequence[Tensor], out: Sequence[Tensor], first: int = 0) -> None:
    """From layer `first` on, the sum over the images of the outer products of what comes back and what went in."""
    for index in range(first, len(out)):
        torch.mm(deltas[index].t(), activations[index], out=out[index])


def check_sparse(model: MaskedModel, recipe: Recipe) -> tuple[Sparse, Adam]:
    """A recipe's sparse settings and its Adam; NetworkError if it lacks one, or the network is not for sparse masks."""
    sparse, config = recipe.sparse, recipe.optimiser
    if sparse is None or model.densities is None or not isinstance(config, Adam):
        raise NetworkError(
            f"recipe {recipe.name!r}: expected Adam, a density and a network of densities, found {config}, "
            f"{sparse} and densities {model.densities}"
        )
    if (sparse.novelty_weight or sparse.one_shot_weight) and recipe.named_outputs(model.classes) >= model.outputs:
        views = "" if recipe.views == 1 else f" in {recipe.views} views"
        raise NetworkError(
            f"recipe {recipe.name!r}: expected superfluous outputs (classes < outputs), "
            f"found {model.classes} classes{views}, {model.outputs} outputs"
        )
    return sparse, config


class OutliersOfSteps:
    """Outliers for each step of a recipe that wants any, made of the first images of its batch."""

    def __init__(self, model: MaskedModel, recipe: Recipe, task: int, *, one_shot: float) -> None:
        sparse = recipe.sparse
        assert sparse is not None  # `check_sparse` says so
        self._make: Outliers | None = None
        if sparse.novelty_weight or one_shot:
            self._make = made_outliers(sparse.outliers, recipe.image_shape or model.image_shape)
        self._seed, self._task, self._batch, self._share = model.seed, task, recipe.batch_size, sparse.shuffled

    def __call__(self, images: Tensor, step: int) -> Tensor:
        """`(n, inputs)`, none where no loss wants any."""
        if self._make is None:
            return images[:0]
        own = images[: max(1, round(min(len(images), self._batch) * self._share))]
        return self._make(own, seed=self._seed, task=self._task, step=step).to(images.dtype)


def one_shot_pull(inner: Tensor, spread: Tensor, own: int, margin: float, below: float = 1.0) -> Tensor:
    """dS / d<g, M> of each image `(b,)`, S being averaged over the first `own` images and over the outliers."""
    z = -inner / spread
    slope = torch.empty_like(z)
    slope[:own] = torch.sigmoid(margin - z[:own]) / own  # softplus falls with z, and z with <g, M>
    slope[own:] = -torch.sigmoid(z[own:] + below) / max(1, len(z) - own)
    return slope / spread


def densities_at(progress: float, sparse: Sparse, final: tuple[float, ...]) -> tuple[float, ...]:
    """Each layer's density after a share `progress` of the steps: cubic from the start density to the final one."""
    left = (1.0 - min(1.0, progress / sparse.settled)) ** 3 if sparse.settled else 0.0
    return tuple(density + max(0.0, sparse.start_density - density) * left for density in final)


def bit_prices(mask: Tensor) -> Tensor:
    """What one more bit costs at each place of a mask, less what it costs at the layer's density: float `(out, in)`.

    The mask is `(out, in)` of 0.0 and 1.0; costs are in coded bits, under the codec's model p_ij = r_i c_j / d (see the
    module). They are negative in rows and columns that keep many weights.
    """
    density = float(mask.mean())
    rows = (mask.sum(dim=1) + _PSEUDO * density) / (mask.shape[1] + _PSEUDO)
    columns = (mask.sum(dim=0) + _PSEUDO * density) / (mask.shape[0] + _PSEUDO)
    kept = (rows.unsqueeze(1) * columns / max(density, 1e-12)).clamp_(1e-4, 0.9)
    own = min(max(density, 1e-4), 0.9)
    return torch.log2((1.0 - kept) / kept).sub_(log2((1.0 - own) / own))
