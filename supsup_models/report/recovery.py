"""What `supsup recover --json` wrote, read back: wrong bits of each task's mask after every batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskstore.files import typed
from supsup_models.report.compare import read_object
from supsup_models.report.wording import fraction


@dataclass(frozen=True)
class RecoveredTask:
    """Wrong bits by layer: after each batch of images, and last of all in the answer."""

    task: int
    exact: bool
    by_layer: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Recovered:
    """The recovery of every task's mask from unlabelled images."""

    recipe: str
    memory: str
    tasks: tuple[RecoveredTask, ...]
    layers: tuple[str, ...]
    overlap_argmax: int
    """How many tasks a plain look-up of the nearest mask names."""
    accuracy: float | None
    true_accuracy: float | None

    @property
    def exact(self) -> int:
        """How many masks came back bit for bit."""
        return sum(task.exact for task in self.tasks)

    @property
    def batches(self) -> int:
        """The most batches of images of any task."""
        return max(len(curve) - 1 for task in self.tasks for curve in task.by_layer.values())


def read_recovery(path: Path) -> Recovered:
    """Read a file that `supsup recover --json` wrote; ReportError for any other."""
    return read_object(path, "what `supsup recover --json` writes", _recovered)


def _recovered(content: Mapping[str, Any]) -> Recovered:
    tasks = tuple(_task(each) for each in content["per_task"])
    if not tasks:
        raise ValueError("no task")
    layers = tuple(tasks[0].by_layer)
    if any(tuple(task.by_layer) != layers for task in tasks):
        raise ValueError("expected the same layers in every task, found others")
    return Recovered(
        str(content["recipe"]),
        str(content["memory"]),
        tasks,
        layers,
        typed(int, content["overlap_argmax"], "overlap_argmax"),
        fraction(content["accuracy"]),
        fraction(content["true_accuracy"]),
    )


def _task(content: Mapping[str, Any]) -> RecoveredTask:
    answer = typed(Mapping[str, int], content["hamming"], "hamming")
    steps = typed(Mapping[str, tuple[int, ...]], content["hamming_by_step"], "hamming_by_step")
    by_layer = {layer: (*curve, answer[layer]) for layer, curve in steps.items()}
    if len({len(curve) for curve in by_layer.values()}) != 1:
        raise ValueError("expected as many batches in every layer, found others")
    if any(bits < 0 for curve in by_layer.values() for bits in curve):
        raise ValueError("expected counts of wrong bits, found others")
    return RecoveredTask(typed(int, content["task"], "task"), bool(content["exact"]), by_layer)
