"""One step of training a mask on the weights of a trained network: nearly all ones, and what it drops has a price.

To drop a weight w is to move it by -w, so a mask can follow training only where training wants a small weight to cross
zero: a large one would go too far. So the score of a weight starts at |w|, in units of the root mean square of its
layer, never rises above that, and moves as Adam would move |w|. A weight whose score falls below 0 is dropped:

    s = min(s0, s - rate (m / (sqrt(v) + r) - price))

m and v are Adam's running mean and square of sign(w) dL/dw, r is the root mean square of the layer's. So a weight that
hardly matters hardly moves, the price pulls all back up, and only those are dropped whose loss keeps asking for it.

No mask drops more than `Kept.dropped` of all weights: of more, the lowest scores are dropped. That is a budget of bits,
because a mask that drops a share p takes at most H(p) bits a weight, where H is the entropy of a coin. The layers share
it as the scores come, but for those that have a limit of their own (`Kept.by_layer`).

The parameters of the task's own, such as its head, are trained beside it by Adam.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from supsup_models._names import check
from supsup_models.errors import NetworkError
from supsup_models.networks import MaskedModel
from supsup_models.training.optimisers import Adam
from supsup_models.training.recipes import Recipe
from supsup_models.training.steps.autograd import ALONE
from supsup_models.training.steps.base import Step
from supsup_models.training.steps.by_place import ByPlace

_REFRESHED = 5  # steps between two looks for the lowest scores


class KeptStep(Step):
    """Trains the mask and the own parameters of a task on kept weights; see the module."""

    def __init__(self, model: MaskedModel, recipe: Recipe, *, classes: int | None) -> None:
        config = recipe.optimiser
        if recipe.kept is None or not isinstance(config, Adam):
            raise NetworkError(f"recipe {recipe.name!r}: expected Adam and kept weights, found others")
        self._model, self._kept, self._config = model, recipe.kept, config
        tiny = torch.finfo(model.weights.dtype).tiny  # a layer of zeros
        sizes = (w.abs() / w.square().mean().sqrt().clamp_min(tiny) for w in model.layer_weights(model.weights))
        self._start = torch.cat([size.reshape(-1) for size in sizes])
        self.scores = self._start.clone()
        self.statistics = model.initial_extras(classes)
        self._run = ByPlace(model, self.statistics)
        own = [self.statistics[name].requires_grad_() for name in model.own_parameters]
        self._own = torch.optim.Adam(own, lr=recipe.kept.own_rate) if own else None
        self._own_share = recipe.kept.own_rate / config.learning_rate
        self._mean, self._square = torch.zeros_like(self.scores), torch.zeros_like(self.scores)
        self._most = round(recipe.kept.dropped * model.spec.bits)
        limits = recipe.kept.by_layer
        for name in limits:
            check("layer of `by_layer`", name, list(model.spec.shapes))
        self._most_of = [int(limits.get(layer.name, 1.0) * layer.size + 1e-9) for layer in model.spec]
        self._below = [0.0] * len(model.spec)
        self._done = 0

    @property
    def final_scores(self) -> Tensor:
        """The scores, moved so that those below zero are dropped."""
        self._find_lowest()
        layers = zip(self._model.layer_weights(self.scores), self._below, strict=True)
        return torch.cat([(scores - below).reshape(-1) for scores, below in layers])

    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        model = self._model
        if self._done % _REFRESHED == 0:
            self._find_lowest()
        effective = self._effective().requires_grad_()
        with ALONE, torch.enable_grad(), model.training_mode(self._done):
            logits = self._run(images, effective, self.statistics)
            loss = F.cross_entropy(logits, labels)
            if self._own is not None:
                self._own.zero_grad()
            loss.backward()
        assert effective.grad is not None
        self._move(effective.grad.mul_(model.weights.sign()), rate)
        if self._own is not None:
            for group in self._own.param_groups:
                group["lr"] = rate * self._own_share
            self._own.step()
        self._done += 1
        self.logits = logits.detach()
        return loss.detach()

    def _move(self, gradient: Tensor, rate: float) -> None:
        first, second = self._config.betas
        steps = self._done + 1
        self._mean.lerp_(gradient, 1.0 - first)
        self._square.lerp_(gradient.square_(), 1.0 - second)
        whole, of_square = 1.0 - first**steps, 1.0 - second**steps
        parts = (self.scores, self._start, self._mean, self._square)
        for scores, start, mean, square in zip(*map(self._model.layer_weights, parts), strict=True):
            root = (square / of_square).sqrt_()
            floor = float((square.mean() / of_square).sqrt()) + self._config.eps
            scores.sub_((mean / whole).div_(root.add_(floor)).sub_(self._kept.price), alpha=rate)
            torch.minimum(scores, start, out=scores)

    def _effective(self) -> Tensor:
        result = torch.empty_like(self.scores)
        parts = (self._model.layer_weights(each) for each in (result, self.scores, self._model.weights))
        for out, scores, weights, below in zip(*parts, self._below, strict=True):
            out.copy_(weights).masked_fill_(scores < below, 0.0)
        return result

    def _find_lowest(self) -> None:
        """Below which score a weight of each layer is dropped: zero, or less where that would be too many."""
        lowest = [scores[scores < 0] for scores in self._model.layer_weights(self.scores)]
        self._below = [_threshold(scores, most) for scores, most in zip(lowest, self._most_of, strict=True)]
        within = [scores[scores < below] for scores, below in zip(lowest, self._below, strict=True)]
        of_all = _threshold(torch.cat(within), self._most)
        self._below = [min(below, of_all) for below in self._below]


def _threshold(scores: Tensor, most: int) -> float:
    """Below which value at most so many of some negative scores lie: zero if all do."""
    return float(scores.kthvalue(most + 1).values) if len(scores) > most else 0.0
