"""Synaptic intelligence (Zenke et al., "Continual learning through synaptic intelligence", ICML 2017).

A weight's importance is what its own moves took off the loss, divided by how far it went, squared.
"""

import torch
from torch import Tensor

from supsup_models.data import Task
from supsup_models.experiments.baselines.regularised import Regularised

_DAMPING = 0.1  # xi in the paper: keeps weights that did not move from counting without bound


class SynapticIntelligence(Regularised):
    """Importance summed along the path of training."""

    name = "SI"

    def _train(self, task: Task, layers: list[Tensor]) -> list[Tensor]:
        first, last = ([layer.clone() for layer in layers] for _ in range(2))
        gain, gradients = ([torch.zeros_like(layer) for layer in layers] for _ in range(2))

        def credit_step() -> None:
            for total, gradient, layer, at in zip(gain, gradients, layers, last, strict=True):
                total -= gradient * (layer.detach() - at)
                at.copy_(layer.detach())

        def follow() -> None:
            credit_step()  # the one before: its gradients are still there
            for gradient, layer in zip(gradients, layers, strict=True):
                assert layer.grad is not None
                gradient.copy_(layer.grad)

        self._descend_anchored(task, layers, follow)
        credit_step()
        return [
            2 * total.clamp(min=0) / ((layer - start) ** 2 + _DAMPING)
            for total, layer, start in zip(gain, layers, first, strict=True)
        ]
