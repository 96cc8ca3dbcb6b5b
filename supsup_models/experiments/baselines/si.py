"""Synaptic intelligence (Zenke et al., "Continual learning through synaptic intelligence", ICML 2017).

A weight's importance is what its own moves took off the loss, divided by how far it went, squared.
"""

import torch
from torch import Tensor

from supsup_models.data import Task
from supsup_models.experiments.baselines.base import BaselineConfig
from supsup_models.experiments.baselines.regularised import Regularised

_DAMPING = 0.1  # xi in the paper: keeps weights that did not move from counting without bound


class SynapticIntelligence(Regularised):
    """Importance summed along the path of training."""

    name = "SI"

    def __init__(self, config: BaselineConfig, *, strength: float = 10.0) -> None:
        super().__init__(config, strength=strength)
        self._followed: list[Tensor] = []
        self._gradients: list[Tensor] = []
        self._last: list[Tensor] = []
        self._gain: list[Tensor] = []

    def _start(self, layers: list[Tensor]) -> None:
        self._followed = layers
        self._last = [layer.detach().clone() for layer in layers]
        self._gain = [torch.zeros_like(layer) for layer in self._last]

    def _saw_gradient(self) -> None:
        self._gradients = [
            torch.zeros_like(each) if each.grad is None else each.grad.clone() for each in self._followed
        ]

    def _stepped(self) -> None:
        for gain, gradient, now, last in zip(self._gain, self._gradients, self._followed, self._last, strict=True):
            current = now.detach()
            gain -= gradient * (current - last)
            last.copy_(current)

    def _important(self, task: Task, layers: list[Tensor], before: list[Tensor]) -> list[Tensor]:
        return [
            2 * gain.clamp(min=0) / ((layer - start) ** 2 + _DAMPING)
            for gain, layer, start in zip(self._gain, layers, before, strict=True)
        ]

    def _kept(self, importance: list[Tensor]) -> list[Tensor]:
        return importance
