"""The definition of a step for sparse masks: the loss of `sparse.py` under torch's autograd, for any network.

What is special to networks other than a `MaskedNetwork`:

- **Normalisation.** Images of the task train with the statistics of their batch and keep the running ones, as in any
  training. Outliers run with those running statistics, as images of other tasks will at inference.
- **The score at the expected superposition.** There, weights are W times the densities, and normalisation layers use
  `MaskedModel.mixture_statistics`, which are fixed. The inner product of an image's score with a mask, <g(x), M - d>,
  is a forward-mode derivative along W (M - d). The pull of all images on the mask is one backward pass of their
  weighted costs.
- **The spread among random masks** is that of <g, r> for a few seeded random directions r with the variance of a random
  mask, one number for the task's images and one for each kind of outliers. A `MaskedNetwork` has the exact spread of
  each image.
- **Other weights**, `Sparse.on_images`: the score has to tell tasks that are much more alike than permutations are. As
  many of the task's images are scored as there are outliers.
- **The last layer** of a network of images is wide, and most of its weights lead to superfluous outputs. The losses
  that make tasks known would take nearly all places of the mask there, and leave the classes a few dozen weights each.
  So half of the places that the layer keeps belong to the classes, but at most half of the classes' weights are kept.
"""

from contextlib import AbstractContextManager, nullcontext
from math import inf, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstore.masks import bits
from maskstore.philox import Role, random_packed_bits
from supsup_models.networks import MaskedModel, MaskedNetwork, kept_weights, load_forward_mode, logits_along
from supsup_models.training.foreign_images import KINDS
from supsup_models.training.recipes import Recipe
from supsup_models.training.steps.autograd import ALONE
from supsup_models.training.steps.base import Step
from supsup_models.training.steps.by_place import ByPlace
from supsup_models.training.steps.layer_adam import LayerAdam
from supsup_models.training.steps.sparse import (
    PRICED,
    REFRESHED,
    SCORED,
    OutliersOfSteps,
    bit_prices,
    check_sparse,
    densities_at,
    one_shot_pull,
)

_PROBES = 8
_REMEASURED = 25  # steps between two looks at the spread, while densities change


class DefinedStep(Step):
    """Trains the scores of a sparse mask for any network; see the module."""

    def __init__(self, model: MaskedModel, scores: Tensor, recipe: Recipe, *, task: int, steps: int) -> None:
        self._sparse, config = check_sparse(model, recipe)
        assert model.densities is not None  # `check_sparse` says so
        self._model, self._task, self._steps, self._densities = model, task, steps, model.densities
        shape = model.image_shape
        shows_images = not isinstance(model, MaskedNetwork) and shape is not None and len(shape) == 3
        self._one_shot = self._sparse.one_shot(on_images=shows_images)
        self._outliers = OutliersOfSteps(model, recipe, task, one_shot=self._one_shot.weight)
        self._named = recipe.named_outputs(model.classes)
        self.statistics = model.initial_statistics()
        self._run = ByPlace(model, self.statistics)
        self.scores = scores.clone()
        for layer in model.layer_weights(self.scores):
            layer.mul_(sqrt(layer[0].numel()) / 2)
        self.scores.grad = self._gradient = torch.zeros_like(self.scores)
        scores_of, gradients_of = model.layer_weights(self.scores), model.layer_weights(self._gradient)
        floor = 0.0 if shows_images else self._sparse.floor
        self._optimiser = LayerAdam(scores_of, gradients_of, config, floor=floor)
        self._expected = model.weights * self._by_layer(self._densities)
        self._at_expected = model.mixture_statistics(self._expected)
        load_forward_mode()
        self._spread: list[float] = []
        self._measured_at = -_REMEASURED
        self._parts = [[slice(0, layer.numel())] for layer in scores_of]
        last = scores_of[-1]
        if shows_images and self._one_shot.weight and last.shape[0] == model.outputs > self._named:
            real = self._named * last[0].numel()
            self._parts[-1] = [slice(0, real), slice(real, last.numel())]
        self._thresholds = [[0.0] * len(parts) for parts in self._parts]
        self._prices = torch.empty(0)
        self._pull: Tensor | None = None
        self._done = 0
        self._turn: AbstractContextManager[object] = nullcontext() if isinstance(model, MaskedNetwork) else ALONE

    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        densities = densities_at(self._done / self._steps, self._sparse, self._densities)
        mask = self._mask(densities)
        # weights are scaled to the density of the moment, which ends at the network's own
        gains = [sqrt(final / now) for final, now in zip(self._densities, densities, strict=True)]
        scaled = self._model.weights * self._by_layer(gains)
        others = self._outliers(images, self._done)
        with self._turn, torch.enable_grad():
            effective = (scaled * mask).requires_grad_()
            logits, strange = self._answers(images, others, effective)
            loss = F.cross_entropy(logits, labels)
            total = loss
            if len(others) and self._sparse.novelty_weight:
                superfluous = torch.log_softmax(strange, dim=1)[:, self._named :]
                total = loss - self._sparse.novelty_weight * superfluous.mean()
            (gradient,) = torch.autograd.grad(total, effective)
        gradient *= scaled  # straight through: dL/ds = dL/dM = dL/d(W M) * W
        if self._one_shot.weight and self._done >= self._one_shot.start * self._steps:
            if self._pull is None or self._done % SCORED == 0:
                self._pull = self._one_shot_gradient(images, others, mask, densities) * self._one_shot.weight
            gradient += self._pull
        if self._sparse.rate_weight:
            if self._done % PRICED == 0:
                prices = [bit_prices(layer.flatten(1)).reshape(-1) for layer in self._model.layer_weights(mask)]
                self._prices = torch.cat(prices)
            gradient.add_(self._prices, alpha=self._sparse.rate_weight)
        self._gradient.copy_(gradient)
        self._optimiser.step(rate)
        self._done += 1
        self.logits = logits.detach()
        return loss.detach()

    def _answers(self, images: Tensor, others: Tensor, effective: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the task's images in training, and of the outliers as at inference."""
        if not self.statistics:  # images do not mix
            with self._model.training_mode(self._done):
                logits = self._run(torch.cat([images, others]), effective)
            return logits[: len(images)], logits[len(images) :]
        with self._model.training_mode(self._done):
            logits = self._run(images, effective, self.statistics)
        if not (len(others) and self._sparse.novelty_weight):
            return logits, logits[:0]
        return logits, self._run(others, effective, self.statistics)

    def _mask(self, densities: tuple[float, ...]) -> Tensor:
        """The largest scores of each layer at these densities, as 0.0 and 1.0, flat."""
        mask = torch.empty_like(self._model.weights)
        layers = map(self._model.layer_weights, (self.scores.detach(), mask))
        for index, (scores, chosen, density) in enumerate(zip(*layers, densities, strict=True)):
            counts = _shared_out(kept_weights(scores.numel(), density), self._parts[index])
            for number, (part, count) in enumerate(zip(self._parts[index], counts, strict=True)):
                own = scores.reshape(-1)[part]
                if self._done % REFRESHED == 0:
                    smallest = float(own.kthvalue(len(own) - count + 1).values) if count else inf
                    self._thresholds[index][number] = smallest
                torch.ge(own, self._thresholds[index][number], out=chosen.reshape(-1)[part])
        return mask

    @property
    def final_scores(self) -> Tensor:
        """The scores; where the parts of a layer have thresholds of their own, 1.0 for what is kept and 0.0 beside."""
        final = self.scores.detach().clone()
        for layer, parts, density in zip(self._model.layer_weights(final), self._parts, self._densities, strict=True):
            flat = layer.reshape(-1)
            if len(parts) > 1:
                counts = _shared_out(kept_weights(flat.numel(), density), parts)
                for part, count in zip(parts, counts, strict=True):
                    chosen = flat[part].topk(count).indices
                    flat[part] = torch.zeros_like(flat[part]).index_fill_(0, chosen, 1.0)
        return final

    def _by_layer(self, values: tuple[float, ...] | list[float]) -> Tensor:
        """A number for each layer, repeated for all of its weights, flat."""
        layers = self._model.layer_weights(self._model.weights)
        return torch.cat([one.new_full((one.numel(),), value) for one, value in zip(layers, values, strict=True)])

    def _one_shot_gradient(self, images: Tensor, others: Tensor, mask: Tensor, densities: tuple[float, ...]) -> Tensor:
        """dS/dM, flat."""
        images = images[-len(others) :]
        own, shown = len(images), torch.cat([images, others])
        density = self._by_layer(densities)
        spread = self._spreads(shown, own, density)
        with self._turn, torch.enable_grad():
            expected, logits, inner = self._along(shown, self._model.weights * (mask - density))
            pull = one_shot_pull(inner, spread, own, self._one_shot.margin, self._one_shot.below)
            (gradient,) = torch.autograd.grad((pull * self._costs(logits)).sum(), expected)
        return gradient * self._model.weights

    def _spreads(self, shown: Tensor, own: int, density: Tensor) -> Tensor:
        """The standard deviation of each image's <g, M - d> among random masks, `(b,)`."""
        deviation = (density * (1.0 - density)).sqrt() * self._model.weights
        if isinstance(self._model, MaskedNetwork):
            gradients = torch.func.vmap(torch.func.grad(self._cost_of_one), in_dims=(None, 0))(self._expected, shown)
            spread: Tensor = (gradients * deviation).square().sum(dim=1).sqrt().clamp(min=1e-30)
            return spread
        settled = self._done >= self._sparse.settled * self._steps + _REMEASURED
        kinds = [0] * own + [1 + number % KINDS for number in range(len(shown) - own)]
        if not self._spread or (not settled and self._done - self._measured_at >= _REMEASURED):
            found = [self._along(shown, deviation * self._random_signs(probe))[2] for probe in range(_PROBES)]
            squares = torch.stack(found).square().mean(dim=0)
            groups = [[index for index, kind in enumerate(kinds) if kind == one] for one in range(1 + KINDS)]
            self._spread = [max(float(squares[group].mean().sqrt()), 1e-30) if group else 1.0 for group in groups]
            self._measured_at = self._done
        return shown.new_tensor([self._spread[kind] for kind in kinds])

    def _random_signs(self, probe: int) -> Tensor:
        size = self._model.spec.bits
        packed = random_packed_bits(self._model.seed, Role.SAMPLE, size, layer=probe + 1, stream=self._task)
        return torch.from_numpy(bits.unpack(packed, size).astype("float32")).to(self._model.weights).mul_(2.0).sub_(1.0)

    def _cost_of_one(self, weights: Tensor, image: Tensor) -> Tensor:
        return self._costs(self._model.run_with(image[None], weights))[0]

    def _costs(self, logits: Tensor) -> Tensor:
        """G of each image: a cost whose gradient is the softmax at the superfluous outputs."""
        real = logits[:, : self._model.classes].detach()
        costs: Tensor = torch.logsumexp(torch.cat([real, logits[:, self._model.classes :]], dim=1), dim=1)
        return costs

    def _along(self, shown: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The expected weights, the logits with their graph to these, and <g(x), direction / W> of each image."""
        with torch.enable_grad():
            expected = self._expected.clone().requires_grad_()
            logits, tangents = logits_along(self._model, expected, direction, shown, self._at_expected)
        inner = torch.softmax(logits.detach(), dim=1) * tangents
        return expected, logits, inner[:, self._model.classes :].sum(dim=1)


def _shared_out(count: int, parts: list[slice]) -> list[int]:
    """How many weights each part of a layer keeps: half of them the first of two, but at most half of its own."""
    if len(parts) == 1:
        return [count]
    first, second = (part.stop - part.start for part in parts)
    own = max(1, count - second, min(count // 2, first // 2))
    return [own, count - own]
