"""What judging a run on test images gave; the page needs this and not torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from supsup_models.inference import Evaluation, Inference


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
