"""What judging a run on test images gave; the page needs this and not torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from supsup_models.inference import Inference


@dataclass(frozen=True)
class Step:
    """Accuracy with inferred tasks when so many tasks are known, and its 95 % interval."""

    tasks: int
    accuracy: float
    task_accuracy: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class TaskJudged:
    """Of one task's sampled images: whose answers count, and whose task was found; fractions."""

    name: str
    accuracy: float
    task_accuracy: float


@dataclass(frozen=True)
class Judged:
    """A run judged on a sample of its test images."""

    scenario: str
    """GNu, or NNs for a run trained without task identity."""
    inference: "Inference"
    steps: tuple[Step, ...]
    per_task: tuple[TaskJudged, ...]
    """With all tasks known, in the order of `confusion`'s rows."""
    masks: tuple[str, ...]
    """Names of `confusion`'s columns: the tasks again, but for NNs."""
    confusion: NDArray[np.int64]
    """Images by true task and chosen mask, `(tasks, masks)`."""

    @property
    def last(self) -> Step:
        """With all tasks known."""
        return self.steps[-1]


@dataclass(frozen=True)
class NoData:
    """Why a run could not be judged: `reason` names places on this machine and is not for the page."""

    data_set: str
    reason: str
