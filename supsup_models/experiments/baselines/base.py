"""What every baseline offers: `fit` one task after another, `predict`, `bytes`.

All are multilayer perceptrons without biases of the same sizes as the masked network they are compared with, trained by
Adam on the same batches. A learned number is counted as float32; what a seed gives back costs the seed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskstore.philox import Role, random_uniform
from supsup_models.data import Task, batch_order
from supsup_models.errors import InferenceError, NetworkError
from supsup_models.networks import MultilayerPerceptron, entropy, run_perceptron

SEED_BYTES = 8
FLOAT_BYTES = 4

Answers = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Tasks and labels of some images, `(b,)` each."""


@dataclass(frozen=True)
class BaselineConfig:
    """Sizes, and how each task is trained. `classes` is of one task; tasks have the same number."""

    inputs: int
    classes: int
    hidden: tuple[int, ...] = (300, 100)
    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.inputs, self.classes, self.steps, self.batch_size, *self.hidden) < 1:
            raise NetworkError(f"baseline: expected sizes and steps of at least 1, found {self}")

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes `(out, in)` of the layers."""
        return tuple(MultilayerPerceptron("baseline", self.hidden).shapes(self.inputs, self.classes).values())


class Baseline(ABC):
    """Learns tasks in the order they come. `name` is that of the table's row."""

    name: str
    finds_tasks: bool
    """Whether `predict` works without being given the task."""

    def __init__(self, config: BaselineConfig) -> None:
        self.config = config
        self.tasks = 0

    def fit(self, task: Task) -> None:
        """Learn one more task, number `self.tasks`. NetworkError if it does not fit the sizes."""
        if task.train.inputs != self.config.inputs or task.classes > self.config.classes:
            raise NetworkError(
                f"{self.name}: expected a task of {self.config.inputs} inputs and at most {self.config.classes} "
                f"classes, found {task.train.inputs} and {task.classes}"
            )
        self._learn(task)
        self.tasks += 1

    def predict(self, images: Tensor, task: int | None = None) -> Answers:
        """Tasks and labels, `(b,)` each, of images `(b, inputs)`; `task` gives the task of all of them.

        Raises InferenceError before anything was learned, for a task that was not, or where the task is needed.
        """
        if not self.tasks:
            raise InferenceError(f"{self.name}: expected a learned task, found none; call fit first")
        if task is not None and not 0 <= task < self.tasks:
            raise InferenceError(f"{self.name}: expected a task in range({self.tasks}), found {task}")
        if task is None and not self.finds_tasks:
            raise InferenceError(f"{self.name}: expected the images' task, found none; this method cannot find it")
        with torch.no_grad():
            return self._predict(images, task)

    @abstractmethod
    def _learn(self, task: Task) -> None: ...

    @abstractmethod
    def _predict(self, images: Tensor, task: int | None) -> Answers: ...

    def _descend(
        self,
        task: Task,
        trained: list[Tensor],
        logits: Callable[[Tensor], Tensor],
        *,
        offset: int = 0,
        learning_rate: float | None = None,
        before_step: Callable[[], None] | None = None,
    ) -> None:
        """Train the tensors `trained` in place by Adam on the cross-entropy of `logits(images)`.

        Batches are those of the masked network. Labels are shifted by `offset`, for outputs that count on over tasks;
        `learning_rate` replaces the config's. `before_step` sees each step's gradients and may add to them.
        """
        config, count = self.config, len(task.train.labels)
        for tensor in trained:
            tensor.requires_grad_()
        optimiser = torch.optim.Adam(trained, lr=learning_rate or config.learning_rate)
        order = batch_order(config.seed, self.tasks, images=count, steps=config.steps, batch_size=config.batch_size)
        for rows in torch.from_numpy(order):
            optimiser.zero_grad()
            loss = F.cross_entropy(logits(task.train.images(rows)), task.train.labels[rows] + offset)
            loss.backward()
            if before_step is not None:
                before_step()
            optimiser.step()
        for tensor in trained:
            tensor.requires_grad_(False)
            tensor.grad = None

    @abstractmethod
    def bytes(self) -> int:
        """Bytes to keep for what `predict` can do now; working memory of training is not counted."""


class TaskByTask(Baseline):
    """A baseline with a network for each task; the task that is not given is the one of lowest entropy."""

    @abstractmethod
    def _logits(self, images: Tensor, task: int) -> Tensor:
        """Logits `(b, classes)` of images under a learned task."""

    def _predict(self, images: Tensor, task: int | None) -> Answers:
        if task is not None:
            return given(task, self._logits(images, task))
        return least_uncertain(torch.stack([self._logits(images, each) for each in range(self.tasks)]))


def given(task: int, logits: Tensor) -> Answers:
    """The answer where the task is given: that task for all, and the likeliest class."""
    return np.full(len(logits), task), logits.argmax(dim=1).cpu().numpy()


def least_uncertain(logits: Tensor) -> Answers:
    """The answer from logits `(k, b, classes)` under each of k tasks: for each image the task of lowest entropy."""
    return answers(entropy(logits).argmin(dim=0), logits)


def answers(tasks: Tensor, logits: Tensor) -> Answers:
    """Each image's task `(b,)`, and its likeliest class under it, from logits `(k, b, classes)` under k tasks."""
    labels = logits.argmax(dim=2).gather(0, tasks[None])[0]
    return tasks.cpu().numpy(), labels.cpu().numpy()


def initial_layers(config: BaselineConfig, *, number: int = 0) -> list[Tensor]:
    """Seeded weights `(out, in)` of each layer, uniform with the variance 2 / in (Kaiming); `number` picks others."""
    layers = []
    for index, shape in enumerate(config.shapes()):
        uniform = random_uniform(config.seed, Role.INIT, prod(shape), layer=index, stream=number)
        layers.append(torch.from_numpy((uniform * sqrt(6.0 / shape[1])).astype(np.float32)).reshape(shape))
    return layers


def random_signs(config: BaselineConfig, size: int, *, layer: int, stream: int) -> Tensor:
    """Seeded signs `(size,)` for a layer; streams from 1 << 24 on are apart from those that weights are drawn from."""
    uniform = random_uniform(config.seed, Role.INIT, size, layer=layer, stream=stream)
    return torch.from_numpy(np.sign(uniform).astype(np.float32))


def run(layers: list[Tensor], images: Tensor) -> Tensor:
    """Logits of a multilayer perceptron with ReLU, `(b, in)` -> `(b, out)`."""
    return run_perceptron(images, lambda index, activation: activation @ layers[index].T, len(layers))


def float_bytes(*tensors: Tensor) -> int:
    """Bytes of tensors of learned numbers."""
    return FLOAT_BYTES * sum(tensor.numel() for tensor in tensors)
