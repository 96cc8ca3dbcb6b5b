"""T training steps as one, for devices that T tasks fill: their scores stacked, every product a batched one."""

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

import torch
from torch import Tensor

from maskstore import Mask
from supsup_models.data import batch_order, checked_images, checked_labels
from supsup_models.errors import NetworkError
from supsup_models.networks import MaskedNetwork
from supsup_models.training.recipes import Recipe, RMSProp
from supsup_models.training.task import (
    BLOCK,
    REPORT,
    NumberedTask,
    TrainedTask,
    check_recipe,
)


class StackedStepper:
    """`FusedStepper` for T tasks at once: scores `(T, spec.bits)`, images `(T, b, inputs)`, labels `(T, b)`."""

    def __init__(self, model: MaskedNetwork, scores: Tensor, optimiser: RMSProp) -> None:
        self.scores = scores.clone()
        self._weights = model.weights
        self._optimiser = optimiser
        self._square_average = torch.zeros_like(scores)
        self._gradient = torch.empty_like(scores)
        self._effective = torch.empty_like(scores)
        self._layers = _by_layer(model, self._effective)
        self._layer_gradients = _by_layer(model, self._gradient)
        torch.ge(self.scores, 0, out=self._effective).mul_(self._weights)

    @torch.no_grad()
    def step(self, images: Tensor, labels: Tensor, learning_rate: float) -> Tensor:
        """One update of every task; returns each task's mean cross-entropy before it, `(T,)`."""
        activations = [images]
        for weight in self._layers[:-1]:
            activations.append(torch.bmm(activations[-1], weight.transpose(1, 2)).relu_())
        logits = torch.bmm(activations[-1], self._layers[-1].transpose(1, 2))  # (T, b, outputs)
        log_probabilities = torch.log_softmax(logits, dim=2)
        chosen = labels.unsqueeze(2)
        loss = -log_probabilities.gather(2, chosen).mean(dim=(1, 2))
        delta = log_probabilities.exp_().scatter_add_(2, chosen, logits.new_full(chosen.shape, -1.0))
        delta.div_(images.shape[1])
        for index in range(len(self._layers) - 1, -1, -1):
            self._layer_gradients[index].copy_(torch.bmm(delta.transpose(1, 2), activations[index]))
            if index:
                delta = torch.bmm(delta, self._layers[index]).mul_(activations[index] > 0)
        self._update(learning_rate)
        return loss

    def _update(self, learning_rate: float) -> None:
        gradient = self._gradient.mul_(self._weights)
        alpha = self._optimiser.alpha
        self._square_average.mul_(alpha).addcmul_(gradient, gradient, value=1.0 - alpha)
        step_size = torch.sqrt(self._square_average).add_(self._optimiser.eps)
        self.scores.addcdiv_(gradient, step_size, value=-learning_rate)
        torch.ge(self.scores, 0, out=self._effective).mul_(self._weights)


def _by_layer(model: MaskedNetwork, stacked: Tensor) -> list[Tensor]:
    """Views `(T, out, in)` by layer of `(T, spec.bits)`."""
    return [stacked[:, layer.flat].view(-1, *layer.shape) for layer in model.spec]


def train_stacked(
    model: MaskedNetwork,
    tasks: Sequence[NumberedTask],
    recipe: Recipe,
    steps: int,
    at_once: int,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Iterator[TrainedTask]:
    """Train `at_once` tasks at a time, stacked; yields them in order. A task's time is its share of the stack's."""
    check_recipe(model, recipe, steps)
    for first in range(0, len(tasks), at_once):
        yield from _train_stack(model, tasks[first : first + at_once], recipe, steps, on_step)


def _train_stack(
    model: MaskedNetwork,
    tasks: Sequence[NumberedTask],
    recipe: Recipe,
    steps: int,
    on_step: Callable[[int, int, float], None] | None,
) -> list[TrainedTask]:
    start = perf_counter()
    data = [task.data.to(model.device) for task in tasks]
    labels = [checked_labels(one.labels, model.classes) for one in data]
    orders = [
        torch.from_numpy(batch_order(model.seed, task.number, len(own), steps, recipe.batch_size)).to(model.device)
        for task, own in zip(tasks, labels, strict=True)
    ]
    if not isinstance(recipe.optimiser, RMSProp):
        raise NetworkError(f"stacked training: expected RMSProp, found {recipe.optimiser!r}")
    initial = torch.stack([model.initial_scores(task.number) for task in tasks])
    stepper = StackedStepper(model, initial, recipe.optimiser)
    for begin in range(0, steps, BLOCK):
        blocks = [order[begin : begin + BLOCK] for order in orders]  # T times (block, b)
        images = torch.stack(
            [
                checked_images(one.images(block.reshape(-1)), model).view(*block.shape, model.inputs)
                for one, block in zip(data, blocks, strict=True)
            ],
            dim=1,
        )  # (block, T, b, inputs)
        block_labels = torch.stack([own[block] for own, block in zip(labels, blocks, strict=True)], dim=1)
        for offset in range(len(images)):
            step = begin + offset
            loss = stepper.step(images[offset], block_labels[offset], recipe.learning_rate(step, steps))
            if on_step is not None and (step + 1) % REPORT == 0:
                for task, value in zip(tasks, loss.tolist(), strict=True):
                    on_step(task.number, step + 1, value)
    bits = (stepper.scores >= 0).cpu().numpy()
    seconds = (perf_counter() - start) / len(tasks)
    return [
        TrainedTask(Mask.from_flat(own, model.spec), value, seconds, prior=model.prior(task.number))
        for task, own, value in zip(tasks, bits, loss.tolist(), strict=True)
    ]
