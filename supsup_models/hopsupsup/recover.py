"""Recovering a task's mask from unlabelled images through an associative memory, and judging what came out."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hopfield import BlockMemory, HopfieldNetwork, Memory, Recovery, RecoveryRecipe, Rule, recover
from hopfield import patterns as pt
from hopfield.recovery import Entropy
from maskstore import MaskMatrix
from supsup_models.data import Batches
from supsup_models.inference import Objective, objectives
from supsup_models.networks import MaskedNetwork

Forward = Callable[[Tensor, Tensor], Tensor]
"""Logits `(b, outputs)` of images `(b, inputs)` under a flat soft mask `(d,)`."""


@dataclass(frozen=True)
class TaskRecovery:
    """One recovery beside the truth; made after the fact, by someone who knows the task."""

    task: int
    hamming: dict[str, int]
    """Wrong bits by layer."""
    steps: int
    """Batches of images used."""
    first_exact: int | None
    """The step from which on every bit was right, counted from 1; None if the end was not exact."""
    overlap_argmax: int
    """The task that a plain look-up names: the stored mask nearest to the entropy's gradient over as many batches."""
    recovery: Recovery

    @property
    def exact(self) -> bool:
        """Whether every bit is right."""
        return not any(self.hamming.values())


def memory_per_layer(masks: MaskMatrix, rule: Rule) -> BlockMemory:
    """A dense memory for each layer of the masks, as the paper has it, without centring."""
    signs = pt.from_matrix(masks)
    blocks = []
    for layer in masks.spec:
        block = HopfieldNetwork(layer.size, rule, centre=None)
        block.store(signs[:, layer.flat])
        blocks.append(block)
    return BlockMemory(blocks)


def entropy_on(forward: Forward, batches: Batches, objective: Objective = objectives.Entropy()) -> Entropy:
    """The mean cost of a model's logits on the next batch, as a function of the soft mask.

    The cost is an objective of task inference: the entropy H (nats), or G where there are superfluous outputs.
    """

    def entropy(mask: Tensor) -> Tensor:
        return objective.cost(forward(batches(), mask)).mean()

    return entropy


def weight_forward(model: MaskedNetwork) -> Forward:
    """The forward pass of a weight-masked network under soft masks of all its weights."""
    return lambda images, mask: model.run_with(images, model.weights * mask)


def mean_state(masks: MaskMatrix) -> Tensor:
    """Mean of the stored masks as spins in [-1, 1], `(spec.bits,)`: where recovery starts."""
    return torch.from_numpy(masks.mean()) * 2 - 1


def recover_mask(
    forward: Forward,
    memory: Memory,
    batches: Batches,
    recipe: RecoveryRecipe,
    *,
    initial: Tensor | None = None,
    objective: Objective = objectives.Entropy(),
) -> Recovery:
    """Recover a mask from unlabelled images: the memory and the images are all that is looked at."""
    return recover(memory, entropy_on(forward, batches, objective), recipe, initial=initial)


def nearest_mask(
    forward: Forward, masks: MaskMatrix, batches: Batches, *, steps: int, objective: Objective = objectives.Entropy()
) -> int:
    """What a look-up without a memory says: the mask with the largest `-dH/dalpha` at the mean mask.

    The gradient is summed over `steps` batches. The look-up needs the masks themselves; it stands beside recovery as
    the plain alternative.
    """
    entropy = entropy_on(forward, batches, objective)
    total = torch.zeros(masks.spec.bits)
    for _ in range(steps):
        mean = torch.from_numpy(masks.mean()).requires_grad_()
        (gradient,) = torch.autograd.grad(entropy(mean), mean)
        total -= gradient
    return int(masks.dot(total.numpy()).argmax())


def judge(task: int, masks: MaskMatrix, found: Recovery, *, overlap_argmax: int) -> TaskRecovery:
    """Hold a recovery against the true mask."""
    truth = torch.from_numpy(masks[task].flat())
    wrong = pt.to_bits(found.pattern).cpu() != truth
    hamming = {layer.name: int(wrong[layer.flat].sum()) for layer in masks.spec}
    first: int | None = None
    if not bool(wrong.any()):
        first = len(found.trace.states)
        while first > 1 and torch.equal(found.trace.states[first - 2], truth):
            first -= 1
    return TaskRecovery(task, hamming, found.steps, first, overlap_argmax, found)
