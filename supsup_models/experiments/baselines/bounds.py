"""Upper bound: a trained network for each task. Lower bound: one network trained on and on."""

from itertools import chain

from torch import Tensor

from supsup_models.data import Task
from supsup_models.experiments.baselines.base import (
    BaselineConfig,
    TaskByTask,
    float_bytes,
    initial_layers,
    run,
)


class UpperBound(TaskByTask):
    """Every task its own trained network; nothing is shared, so nothing is forgotten."""

    name = "upper bound"
    finds_tasks = True

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        self._networks: list[list[Tensor]] = []

    def _learn(self, task: Task) -> None:
        layers = initial_layers(self.config, number=self.tasks)
        self._descend(task, layers, lambda images: run(layers, images))
        self._networks.append(layers)

    def _logits(self, images: Tensor, task: int) -> Tensor:
        return run(self._networks[task], images)

    def bytes(self) -> int:
        return float_bytes(*chain.from_iterable(self._networks))


class LowerBound(TaskByTask):
    """One network, trained on each task in turn with the same outputs; it answers as for its last task."""

    name = "lower bound"
    finds_tasks = False

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        self._layers = initial_layers(config)

    def _learn(self, task: Task) -> None:
        self._descend(task, self._layers, lambda images: run(self._layers, images))

    def _logits(self, images: Tensor, task: int) -> Tensor:
        return run(self._layers, images)

    def bytes(self) -> int:
        return float_bytes(*self._layers)
