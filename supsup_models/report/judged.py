"""What judging a run on test images gave; the page needs this and not torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from supsup_models.inference import Evaluation, Inference


@dataclass(frozen=True)
class Sureness:
    """How sure the answers for single images were, and whether they were right; all `(n,)`."""

    margins: NDArray[np.float64]
    """By how much the best mask's score is above the second best, in standard deviations of the scores of all masks.
    Empty where there is one mask, and where a task is no mask."""
    found: NDArray[np.bool_]
    """Whether the best mask was that of the task; as long as `margins`."""
    confidences: NDArray[np.float64]
    """The probability that the network gives its label."""
    right: NDArray[np.bool_]
    """Whether the label was right."""


@dataclass(frozen=True)
class Judged:
    """A run judged on a sample of its test images."""

    inference: "Inference"
    """How tasks were inferred, with nothing left open."""
    steps: tuple["Evaluation", ...]
    """With ever more tasks known, in the end with all."""
    masks: tuple[str, ...]
    """Names of `confusion`'s columns: the tasks again, but for NNs."""
    confusion: NDArray[np.int64]
    """Images by true task and chosen mask, `(tasks, masks)`; the tasks are those of `last.per_task`."""
    sureness: Sureness | None = None
    """None where several images shared an inference."""

    @property
    def last(self) -> "Evaluation":
        """With all tasks known; in the scenario GNu, or NNs for a run trained without task identity."""
        return self.steps[-1]


@dataclass(frozen=True)
class NoData:
    """Why a run could not be judged: `reason` names places on this machine and is not for the page."""

    data_set: str
    reason: str
    python: bool = False
    """Whether the run's network or data come from Python, so that no folder of data would do."""
