"""The one training loop that all baselines share."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from supsup_models.data import Task
from supsup_models.experiments.baselines.base import BaselineConfig, batches

Logits = Callable[[Tensor], Tensor]
Penalty = Callable[[], Tensor]
Watcher = Callable[[], None]


def descend(
    config: BaselineConfig,
    task: Task,
    number: int,
    trained: list[Tensor],
    logits: Logits,
    *,
    offset: int = 0,
    learning_rate: float | None = None,
    penalty: Penalty | None = None,
    before_penalty: Watcher | None = None,
    after_step: Watcher | None = None,
) -> None:
    """Train the tensors `trained` in place by Adam on the cross-entropy of `logits(images)`.

    Labels are shifted by `offset`, for outputs that count on over tasks; `learning_rate` replaces the config's.
    `penalty()` is added to the loss; `before_penalty` sees the gradient of the cross-entropy alone, `after_step` the
    numbers after each step.
    """
    for tensor in trained:
        tensor.requires_grad_()
    optimiser = torch.optim.Adam(trained, lr=learning_rate or config.learning_rate)
    for rows in batches(config, task, number):
        optimiser.zero_grad()
        loss = F.cross_entropy(logits(task.train.images(rows)), task.train.labels[rows] + offset)
        loss.backward()
        if before_penalty is not None:
            before_penalty()
        if penalty is not None:
            penalty().backward()
        optimiser.step()
        if after_step is not None:
            after_step()
    for tensor in trained:
        tensor.requires_grad_(False)
        tensor.grad = None
