"""The curves of training in a run's record: the loss and the accuracy of a few batches of each task."""

from dataclasses import dataclass
from typing import Any

from maskstore.files import typed


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
