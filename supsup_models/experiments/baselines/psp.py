"""PSP: parameter superposition (Cheung et al., "Superposition of many models into one", NeurIPS 2019).

Layer l of task t computes W_l C_t x, where the context C_t is an orthogonal matrix from the seed: a diagonal of random
signs ("binary"), or a random rotation ("rotation"). Training adds each task's changes, seen through its context, to the
one set of weights that all tasks share: the weights are the sum of what all tasks learned, and another task's part
looks like noise under one's own context.
"""

import numpy as np
import torch
from torch import Tensor

from maskstore.philox import Role, random_uniform
from supsup_models._names import check
from supsup_models.data import Task
from supsup_models.experiments.baselines.base import (
    SEED_BYTES,
    BaselineConfig,
    TaskByTask,
    float_bytes,
    initial_layers,
    random_signs,
)
from supsup_models.networks import run_perceptron

CONTEXTS = ("binary", "rotation")


class PSP(TaskByTask):
    """One set of weights, a context for each task. Contexts come from the seed and cost nothing."""

    finds_tasks = True

    def __init__(self, config: BaselineConfig, *, context: str = "binary") -> None:
        super().__init__(config)
        check("context", context, CONTEXTS)
        self.name = "PSP" if context == "binary" else "PSP, rotations"
        self._context = context
        self._weights = initial_layers(config)

    def _learn(self, task: Task) -> None:
        contexts = self.contexts(self.tasks)
        self._descend(task, self._weights, lambda images: self._run(contexts, images))

    def contexts(self, task: int) -> list[Tensor]:
        """The context of each layer: `(in,)` signs, or an orthogonal matrix `(in, in)`."""
        result = []
        for layer, (_, size) in enumerate(self.config.shapes()):
            stream = 1 << 25 | task  # apart from those that weights are drawn from
            if self._context == "binary":
                result.append(random_signs(self.config, size, layer=layer, stream=stream))
                continue
            one, other = random_uniform(
                self.config.seed, Role.INIT, 2 * size * size, layer=layer, stream=stream
            ).reshape(2, size, size)
            normal = np.sqrt(-2 * np.log(np.abs(one))) * np.cos(np.pi * other)  # Box-Muller: rotations must be uniform
            q, r = np.linalg.qr(normal)
            result.append(torch.from_numpy((q * np.sign(np.diag(r))).astype(np.float32)))
        return result

    def _run(self, contexts: list[Tensor], images: Tensor) -> Tensor:
        def linear(index: int, activation: Tensor) -> Tensor:
            context = contexts[index]
            seen = activation * context if context.ndim == 1 else activation @ context.T
            return seen @ self._weights[index].T

        return run_perceptron(images, linear, len(contexts))

    def _logits(self, images: Tensor, task: int) -> Tensor:
        return self._run(self.contexts(task), images)

    def bytes(self) -> int:
        return SEED_BYTES + float_bytes(*self._weights)
