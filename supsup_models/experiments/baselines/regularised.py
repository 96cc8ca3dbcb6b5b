"""What EWC and SI share: one network whose outputs grow with the tasks, and a pull towards what earlier tasks need.

The answer is one of all tasks' classes, so it names the task too (the class-incremental setting in which their
published figures for permuted MNIST were measured: van de Ven & Tolias, "Three scenarios for continual learning",
2019).
"""

from abc import abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from supsup_models.data import Task
from supsup_models.errors import InferenceError
from supsup_models.experiments.baselines.base import (
    Answers,
    Baseline,
    BaselineConfig,
    float_bytes,
    given,
    initial_layers,
    run,
)


class Regularised(Baseline):
    """`strength / 2 * sum importance * (weight - anchor)²` is added to each later task's loss.

    The importance is summed over the tasks so far; that of earlier tasks fades by `gamma` with each new one.
    """

    finds_tasks = True

    def __init__(self, config: BaselineConfig, *, strength: float = 10.0, gamma: float = 1.0) -> None:
        super().__init__(config)
        if not strength > 0:
            raise InferenceError(f"{self.name}: expected a strength above 0, found {strength}")
        self.strength, self.gamma = strength, gamma
        *self._trunk, head = initial_layers(config)
        self._head = head[:0]
        self._importance = [torch.zeros_like(layer) for layer in self._layers()]
        self._anchor = [layer.clone() for layer in self._layers()]

    def _layers(self) -> list[Tensor]:
        return [*self._trunk, self._head]

    def _learn(self, task: Task) -> None:
        self._head = torch.cat([self._head, initial_layers(self.config, number=self.tasks)[-1]])
        for kept in (self._importance, self._anchor):  # the new outputs matter to no earlier task
            kept[-1] = F.pad(kept[-1], (0, 0, 0, self.config.classes))
        layers = self._layers()
        importance = self._train(task, layers)
        self._importance = [self.gamma * old + new for old, new in zip(self._importance, importance, strict=True)]
        self._anchor = [layer.clone() for layer in layers]

    @abstractmethod
    def _train(self, task: Task, layers: list[Tensor]) -> list[Tensor]:
        """Train the layers by `_descend_anchored`; how much each weight matters to the task, in the layers' shapes."""

    def _descend_anchored(self, task: Task, layers: list[Tensor], follow: Callable[[], None] | None = None) -> None:
        """Train the layers on a task; `follow` sees each step's gradients of the cross-entropy alone."""

        def before_step() -> None:
            if follow is not None:
                follow()
            terms = zip(self._importance, layers, self._anchor, strict=True)
            penalty = torch.stack([(weight * (now - then) ** 2).sum() for weight, now, then in terms]).sum()
            (self.strength / 2 * penalty).backward()

        offset = self.tasks * self.config.classes
        self._descend(task, layers, lambda images: run(layers, images), offset=offset, before_step=before_step)

    def _predict(self, images: Tensor, task: int | None) -> Answers:
        classes = self.config.classes
        logits = run(self._layers(), images)
        if task is not None:
            return given(task, logits[:, task * classes : (task + 1) * classes])
        found = logits.argmax(dim=1).cpu().numpy()
        return found // classes, found % classes

    def bytes(self) -> int:
        """The weights; and, as learning is never over, the importance and the anchor that the next task needs."""
        return float_bytes(*self._layers(), *self._importance, *self._anchor)
