"""The neuron masks of a stream: trained task after task, and put together with what recovering them takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from maskstore import MaskMatrix
from supsup_models._progress import Reporter, Reporting
from supsup_models.data import LabelledImages, Task, TaskStream, task_seed
from supsup_models.hopsupsup.network import NeuronMaskedNetwork
from supsup_models.hopsupsup.recover import Case
from supsup_models.hopsupsup.setups import Setup, neuron_memory
from supsup_models.hopsupsup.training import NeuronTraining, accuracy, train_neuron_mask


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
    model: NeuronMaskedNetwork,
    tasks: Sequence[Task],
    settings: NeuronTraining,
    *,
    seed: int,
    reporter: Reporting = Reporter,
) -> MaskMatrix:
    """A neuron mask for every task, under its name: "task-0", "task-1", ..."""
    masks = MaskMatrix(model.spec)
    with reporter("training", len(tasks)) as report:
        for index, task in enumerate(tasks):
            split = Relabelled(task.train, task.global_labels)
            masks.append(task.name, train_neuron_mask(model, split, settings, seed=task_seed(seed, index)))
            report.advance()
            report.line(f"{task.name} ({index + 1} of {len(tasks)}): mask trained")
    return masks


def neuron_case(
    setup: Setup, stream: TaskStream, width: int, *, seed: int, objective: str = "H", reporter: Reporting = Reporter
) -> Case:
    """Train the stream's masks on a network with two hidden layers of `width` neurons, and store them in a memory."""
    outputs = 1 + max(label for task in stream for label in task.global_labels)
    cost = setup.objective(objective, classes=outputs, outputs=outputs)
    widths = (stream.inputs, width, width, outputs)
    model = NeuronMaskedNetwork(widths, seed=seed, output_gain=setup.output_gain, gate=setup.gate)
    masks = train_stream(model, stream, setup.training, seed=seed, reporter=reporter)
    splits = [Relabelled(task.test, task.global_labels) for task in stream]
    return Case(setup, model, masks, neuron_memory(masks, setup), splits, partial(accuracy, model), cost)
