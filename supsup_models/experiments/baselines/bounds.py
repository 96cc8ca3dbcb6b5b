"""Upper bound: a trained network for each task. Lower bound: one network trained on and on."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supsup_models.data import Task
from supsup_models.experiments.baselines.base import (
    FLOAT_BYTES,
    Baseline,
    BaselineConfig,
    given,
    initial_layers,
    least_uncertain,
    numbers,
    run,
)
from supsup_models.experiments.baselines.training import descend


class UpperBound(Baseline):
    """Every task its own trained network; nothing is shared, so nothing is forgotten."""

    name = "upper bound"
    finds_tasks = True

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        self._networks: list[list[Tensor]] = []

    def _learn(self, task: Task) -> None:
        layers = initial_layers(self.config, number=self.tasks)
        descend(self.config, task, self.tasks, layers, lambda images: run(layers, images))
        self._networks.append(layers)

    def _predict(self, images: Tensor, task: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if task is not None:
            return given(task, run(self._networks[task], images))
        return least_uncertain(torch.stack([run(layers, images) for layers in self._networks]))

    def bytes(self) -> int:
        return FLOAT_BYTES * sum(numbers(layers) for layers in self._networks)


class LowerBound(Baseline):
    """One network, trained on each task in turn with the same outputs; it answers as for its last task."""

    name = "lower bound"
    finds_tasks = False

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        self._layers = initial_layers(config)

    def _learn(self, task: Task) -> None:
        descend(self.config, task, self.tasks, self._layers, lambda images: run(self._layers, images))

    def _predict(self, images: Tensor, task: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        assert task is not None
        return given(task, run(self._layers, images))

    def bytes(self) -> int:
        return FLOAT_BYTES * numbers(self._layers)
