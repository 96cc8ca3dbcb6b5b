"""Separate heads: one trunk for all tasks, a last layer for each (Wortsman et al. 2020, section 4).

The trunk is trained on the first task and frozen then, or random for ever.
"""

from torch import Tensor

from supsup_models.data import Task
from supsup_models.experiments.baselines.base import (
    SEED_BYTES,
    BaselineConfig,
    TaskByTask,
    float_bytes,
    initial_layers,
    run,
)


class SeparateHeads(TaskByTask):
    """A frozen trunk and a trained head a task."""

    finds_tasks = True

    def __init__(self, config: BaselineConfig, *, trained_trunk: bool) -> None:
        super().__init__(config)
        self.name = f"separate heads, {'trained' if trained_trunk else 'random'} trunk"
        self._trained_trunk = trained_trunk
        self._trunk = initial_layers(config)[:-1]
        self._heads: list[Tensor] = []

    def _learn(self, task: Task) -> None:
        head = initial_layers(self.config, number=self.tasks)[-1]
        trained = [*self._trunk, head] if self._trained_trunk and not self.tasks else [head]
        self._descend(task, trained, lambda images: run([*self._trunk, head], images))
        self._heads.append(head)

    def _logits(self, images: Tensor, task: int) -> Tensor:
        return run([*self._trunk, self._heads[task]], images)

    def bytes(self) -> int:
        trunk = float_bytes(*self._trunk) if self._trained_trunk else SEED_BYTES
        return trunk + float_bytes(*self._heads)
