"""Recovering the masks of a stream from unlabelled images through an associative memory, and judging what came out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from hopfield import Memory, Recovery, recover
from hopfield import patterns as pt
from hopfield.recovery import Entropy, entropy_gradient
from maskstore import Mask, MaskMatrix
from supsup_models._progress import Reporter, Reporting
from supsup_models.data import Batches, LabelledImages, task_seed, unlabelled_batches
from supsup_models.hopsupsup.setups import Setup
from supsup_models.inference import Objective, objectives

Forward = Callable[[Tensor, Tensor], Tensor]
"""Logits `(b, outputs)` of images `(b, inputs)` under a flat soft mask `(d,)`."""
Judge = Callable[[LabelledImages, Mask], float]
"""Test accuracy of a labelled split under a mask."""


@dataclass(frozen=True)
class Case:
    """Everything that recovering the masks of one stream takes."""

    setup: Setup
    forward: Forward
    masks: MaskMatrix
    memory: Memory
    splits: Sequence[LabelledImages]
    """Test images of each task, in the order of the masks."""
    accuracy: Judge
    objective: Objective = field(default_factory=objectives.Entropy)


@dataclass(frozen=True)
class TaskRecovery:
    """One recovery beside the truth; made after the fact, by someone who knows the task."""

    task: int
    recovery: Recovery
    hamming: dict[str, int]
    """Wrong bits by layer."""
    first_exact: int | None
    """The step from which on every bit was right, counted from 1; None if the end was not exact."""
    overlap_argmax: int
    """The task that a plain look-up names: the stored mask nearest to the entropy's gradient over as many batches."""
    accuracy: float
    """Test accuracy under the recovered mask."""
    true_accuracy: float
    """Test accuracy under the true mask."""

    @property
    def exact(self) -> bool:
        """Whether every bit is right."""
        return not any(self.hamming.values())


def recover_stream(case: Case, *, seed: int, reporter: Reporting = Reporter) -> list[TaskRecovery]:
    """Recover the mask of every task from batches of its unlabelled images, then judge it with the labels.

    Recovery is given the memory and batches of images, and nothing else.
    """
    start = torch.zeros(case.masks.spec.bits) if case.setup.undecided else mean_state(case.masks)
    found = []
    with reporter("recovering", len(case.splits)) as report:
        for index, split in enumerate(case.splits):
            batches = partial(unlabelled_batches, split, case.setup.batch, seed=task_seed(seed, index))
            entropy = entropy_on(case.forward, batches(), case.objective)
            recovery = recover(case.memory, entropy, case.setup.recipe, initial=start)
            # the same batches again: the look-up sees what recovery saw, no more
            entropy = entropy_on(case.forward, batches(), case.objective)
            nearest = nearest_mask(case.masks, entropy, steps=recovery.steps)
            found.append(judge(case, index, recovery, overlap_argmax=nearest))
            wrong = sum(found[-1].hamming.values())
            report.advance()
            report.line(
                f"{case.masks.names[index]} ({index + 1} of {len(case.splits)}): {wrong} wrong bits after "
                f"{case.setup.steps(recovery.steps)} steps"
            )
    return found


def entropy_on(forward: Forward, batches: Batches, objective: Objective = objectives.Entropy()) -> Entropy:
    """The mean cost of a model's logits on the next batch, as a function of the soft mask.

    The cost is an objective of task inference: the entropy H (nats), or G where there are superfluous outputs.
    """

    def entropy(mask: Tensor) -> Tensor:
        return objective.cost(forward(batches(), mask)).mean()

    return entropy


def mean_state(masks: MaskMatrix) -> Tensor:
    """Mean of the stored masks as spins in [-1, 1], `(spec.bits,)`: where recovery starts."""
    return torch.from_numpy(masks.mean()) * 2 - 1


def nearest_mask(masks: MaskMatrix, entropy: Entropy, *, steps: int) -> int:
    """What a look-up without a memory says: the mask with the largest `-dH/dalpha` at the mean mask.

    The gradient is summed over `steps` batches. The look-up needs the masks themselves; it stands beside recovery as
    the plain alternative.
    """
    mean, total = torch.from_numpy(masks.mean()), torch.zeros(masks.spec.bits, dtype=torch.float32)
    for _ in range(steps):
        total -= entropy_gradient(entropy, mean)[1]
    return int(masks.dot(total.numpy()).argmax())


def judge(case: Case, task: int, found: Recovery, *, overlap_argmax: int) -> TaskRecovery:
    """Hold a recovery against the true mask."""
    split, mask = case.splits[task], case.masks[task]
    bits, truth = pt.to_bits(found.pattern).cpu(), torch.from_numpy(mask.flat())
    wrong = bits != truth
    hamming = {layer.name: int(wrong[layer.flat].sum()) for layer in mask.spec}
    true_accuracy = case.accuracy(split, mask)
    if any(hamming.values()):
        accuracy = case.accuracy(split, Mask.from_flat(bits.numpy(), mask.spec))
        return TaskRecovery(task, found, hamming, None, overlap_argmax, accuracy, true_accuracy)
    first = len(found.trace.states)
    while first > 1 and torch.equal(found.trace.states[first - 2], truth):
        first -= 1
    return TaskRecovery(task, found, hamming, first, overlap_argmax, true_accuracy, true_accuracy)
