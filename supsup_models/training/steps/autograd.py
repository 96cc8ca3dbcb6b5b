"""The definition of a training step: straight-through masks under torch's autograd and torch's own optimiser."""

from contextlib import AbstractContextManager, nullcontext
from threading import Lock

import torch
import torch.nn.functional as F
from torch import Tensor

from supsup_models.networks import MaskedModel, MaskedNetwork
from supsup_models.training.optimisers import Optimiser, RMSProp
from supsup_models.training.steps.base import Step
from supsup_models.training.steps.by_place import ByPlace

ALONE = Lock()
"""Held for a step of a network whose modules change while it trains (training mode, torch's random stream for dropout):
such networks take turns, step by step, so that threads that train them get what one gets."""


class AutogradStep(Step):
    """For any network and optimiser; starts from a copy of `scores`."""

    def __init__(self, model: MaskedModel, scores: Tensor, optimiser: Optimiser, *, classes: int | None = None) -> None:
        self.scores = scores.clone().requires_grad_()
        self.statistics = model.initial_extras(classes)
        own = [self.statistics[name].requires_grad_() for name in model.own_parameters]
        self._model, self._run = model, ByPlace(model, self.statistics)
        self._optimiser = _torch_optimiser([self.scores, *own], optimiser)
        self._done = 0
        self._turn: AbstractContextManager[object] = nullcontext() if isinstance(model, MaskedNetwork) else ALONE

    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad()
        with self._turn, torch.enable_grad(), self._model.training_mode(self._done):
            logits = self._run(images, self._model.effective_weights(self.scores), self.statistics)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
        self._optimiser.step()
        self._done += 1
        self.logits = logits.detach()
        return loss.detach()


def _torch_optimiser(trained: list[Tensor], config: Optimiser) -> torch.optim.Optimizer:
    if isinstance(config, RMSProp):
        return torch.optim.RMSprop(trained, lr=config.learning_rate, alpha=config.alpha, eps=config.eps)
    return torch.optim.Adam(trained, lr=config.learning_rate, betas=config.betas, eps=config.eps)
