"""The curves of training in a run's record: the loss and the accuracy of a few batches of each task."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maskstore.files import typed

if TYPE_CHECKING:
    from supsup_models.training import TrainingCurve

_MOST = 20  # points of a task: a record is written anew with every task, and is read by people


@dataclass(frozen=True)
class Curve:
    """Points of a task's training: after so many batches, the batch's mean cross-entropy in nats, and the fraction of
    its images that were labelled right."""

    batches: tuple[int, ...]
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]

    @classmethod
    def from_json(cls, content: Any) -> "Curve | None":
        """The curve in a task's figures; None for anything else, and for one without a point."""
        try:
            curve: Curve = typed(cls, content, "curve")
        except (TypeError, ValueError):
            return None
        lengths = {len(curve.batches), len(curve.losses), len(curve.accuracies)}
        in_order = all(0 < a < b for a, b in zip(curve.batches, curve.batches[1:], strict=False))
        possible = all(0 <= each <= 1 for each in curve.accuracies) and curve.batches[0] > 0
        return curve if len(lengths) == 1 and in_order and possible else None


def shown(curve: "TrainingCurve") -> dict[str, list[Any]]:
    """A curve as the record has it: the last point, and as many before it as fit, evenly spaced; four digits each."""
    step = max(1, -(-len(curve.batches) // _MOST))
    rows = range((len(curve.batches) - 1) % step, len(curve.batches), step)
    return {
        "batches": [curve.batches[row] for row in rows],
        "losses": [float(f"{curve.losses[row]:.4g}") for row in rows],
        "accuracies": [float(f"{curve.accuracies[row]:.4g}") for row in rows],
    }
