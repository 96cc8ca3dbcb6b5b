"""HopSupSup over a stream of tasks: train neuron masks, recover each from its unlabelled test images, judge it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hopfield import Memory, RecoveryRecipe
from hopfield import patterns as pt
from maskstore import Mask, MaskMatrix
from supsup_models.data import LabelledImages, Task, task_seed, unlabelled_batches
from supsup_models.hopsupsup.network import NeuronMaskedNetwork
from supsup_models.hopsupsup.recover import (
    Forward,
    TaskRecovery,
    judge,
    mean_state,
    nearest_mask,
    recover_mask,
)
from supsup_models.hopsupsup.training import NeuronTraining, train_neuron_mask
from supsup_models.inference import Objective, objectives

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many tasks are done, and of how many."""
Judge = Callable[[LabelledImages, Mask], float]
"""Test accuracy of a labelled split under a mask."""


@dataclass(frozen=True)
class Relabelled:
    """A split whose labels are those of the whole stream, so that tasks of other classes use other outputs."""

    split: LabelledImages
    names: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.split)

    @property
    def labels(self) -> Tensor:
        """Labels `(n,)`, int64, in the stream's numbering."""
        return torch.tensor(self.names)[torch.as_tensor(self.split.labels, dtype=torch.int64)]

    def images(self, indices: Tensor | slice) -> Tensor:
        """Images of these indices, `(b, inputs)`."""
        return torch.as_tensor(self.split.images(indices), dtype=torch.float32)

    def to(self, device: torch.device) -> "Relabelled":
        """The same split on a device."""
        return replace(self, split=self.split.to(device))


def train_stream(
    model: NeuronMaskedNetwork, tasks: Sequence[Task], settings: NeuronTraining, *, seed: int, progress: Progress
) -> MaskMatrix:
    """A neuron mask for every task, named "task-0", "task-1", ..."""
    masks = MaskMatrix(model.spec)
    for index in range(len(tasks)):
        task = tasks[index]
        mask = train_neuron_mask(
            model, Relabelled(task.train, task.global_labels), settings, seed=task_seed(seed, index)
        )
        masks.append(f"task-{index}", mask)
        progress("training", index + 1, len(tasks))
    return masks


@dataclass(frozen=True)
class StreamRecovery:
    """Every task's recovery, and the accuracies beside it."""

    tasks: tuple[TaskRecovery, ...]
    accuracy: tuple[float, ...]
    """Test accuracy under each recovered mask."""
    true_accuracy: tuple[float, ...]
    """Test accuracy under each true mask."""


def recover_stream(
    forward: Forward,
    masks: MaskMatrix,
    memory: Memory,
    splits: Sequence[LabelledImages],
    recipe: RecoveryRecipe,
    *,
    batch: int,
    seed: int,
    accuracy: Judge,
    progress: Progress,
    objective: Objective = objectives.Entropy(),
) -> StreamRecovery:
    """Recover the mask of every task from batches of its unlabelled images, then judge it with the labels.

    `splits` are the tasks' test images in the order of the masks; recovery is given batches of images and nothing else.
    """
    found, under_found, under_true = [], [], []
    start = mean_state(masks)
    for index, split in enumerate(splits):
        images = unlabelled_batches(split, batch, seed=task_seed(seed, index))
        recovery = recover_mask(forward, memory, images, recipe, initial=start, objective=objective)
        # the same batches again: the look-up sees what recovery saw, no more
        images = unlabelled_batches(split, batch, seed=task_seed(seed, index))
        plain = nearest_mask(forward, masks, images, steps=recovery.steps, objective=objective)
        judged = judge(index, masks, recovery, overlap_argmax=plain)
        found.append(judged)
        under_true.append(accuracy(split, masks[index]))
        given = Mask.from_flat(pt.to_bits(recovery.pattern).cpu().numpy(), masks.spec)
        under_found.append(under_true[-1] if judged.exact else accuracy(split, given))
        progress("recovering", index + 1, len(splits))
    return StreamRecovery(tuple(found), tuple(under_found), tuple(under_true))
