"""What EWC and SI share: one network whose outputs grow with the tasks, and a pull towards what earlier tasks need.

The answer is one of all tasks' classes, so it names the task too (the class-incremental setting in which their
published figures for permuted MNIST were measured: van de Ven & Tolias, "Three scenarios for continual learning",
2019).
"""

from abc import abstractmethod

import torch
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
    """`strength / 2 * sum importance * (weight - anchor)²` is added to each later task's loss."""

    finds_tasks = True

    def __init__(self, config: BaselineConfig, *, strength: float) -> None:
        super().__init__(config)
        if not strength > 0:
            raise InferenceError(f"{self.name}: expected a strength above 0, found {strength}")
        self.strength = strength
        *self._trunk, _ = initial_layers(config)
        self._head = torch.empty(0, config.hidden[-1] if config.hidden else config.inputs)
        self._importance: list[Tensor] = []
        self._anchor: list[Tensor] = []

    def _layers(self) -> list[Tensor]:
        return [*self._trunk, self._head]

    def _learn(self, task: Task) -> None:
        self._head = torch.cat([self._head, initial_layers(self.config, number=self.tasks)[-1]])
        if self._importance:  # the new outputs matter to no earlier task
            self._importance[-1] = _extended(self._importance[-1], len(self._head))
            self._anchor[-1] = _extended(self._anchor[-1], len(self._head))
        layers = self._layers()
        before = [layer.clone() for layer in layers]
        self._start(layers)
        self._descend(
            task,
            layers,
            lambda images: run(layers, images),
            offset=self.tasks * self.config.classes,
            penalty=self._penalty if self._importance else None,
            before_penalty=self._saw_gradient,
            after_step=self._stepped,
        )
        importance = self._important(task, layers, before)
        old = self._importance or [torch.zeros_like(layer) for layer in layers]
        self._importance = [one + other for one, other in zip(self._kept(old), importance, strict=True)]
        self._anchor = [layer.clone() for layer in layers]

    def _penalty(self) -> Tensor:
        terms = zip(self._importance, self._layers(), self._anchor, strict=True)
        return self.strength / 2 * torch.stack([(w * (now - then) ** 2).sum() for w, now, then in terms]).sum()

    @abstractmethod
    def _start(self, layers: list[Tensor]) -> None:
        """A task begins."""

    @abstractmethod
    def _saw_gradient(self) -> None:
        """The layers' `grad` is that of the cross-entropy alone."""

    @abstractmethod
    def _stepped(self) -> None:
        """The layers have moved."""

    @abstractmethod
    def _important(self, task: Task, layers: list[Tensor], before: list[Tensor]) -> list[Tensor]:
        """How much each weight matters to the task just learned, in the layers' shapes."""

    @abstractmethod
    def _kept(self, importance: list[Tensor]) -> list[Tensor]:
        """What remains of the earlier tasks' importance."""

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


def _extended(tensor: Tensor, rows: int) -> Tensor:
    return torch.cat([tensor, tensor.new_zeros(rows - len(tensor), tensor.shape[1])])
