"""`Candidates`: states that a recipe has tried, what their entropies say of them, and how to look elsewhere."""

import math
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor

from hopfield.recovery.interface import Trace


@dataclass
class Candidates:
    """Candidates so far, their mean entropies, and an orthonormal basis of their span."""

    centre: Tensor
    states: list[Tensor] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    basis: Tensor | None = None

    def __len__(self) -> int:
        return len(self.states)

    def knows(self, state: Tensor) -> bool:
        """Whether this very state was tried."""
        return any(torch.equal(state, other) for other in self.states)

    def without(self, state: Tensor) -> Tensor:
        """The state less its projection onto what was tried."""
        return state if self.basis is None else state - (state @ self.basis.T) @ self.basis

    def add(self, state: Tensor, entropy: float, calls: int) -> None:
        """Note a candidate `(d,)` and its mean entropy over so many calls."""
        self.states.append(state)
        self.entropies.append(entropy)
        self.counts.append(calls)
        # The whole state, not its deviation from the centre: deviations from a mean sum to zero, so that the last
        # pattern would lie in the span of the others. Taken out twice, for orthogonality in float32.
        direction = self.without(self.without(state))
        length = direction.norm()
        if length > 1e-3 * math.sqrt(len(direction)):
            row = (direction / length).unsqueeze(0)
            self.basis = row if self.basis is None else torch.cat([self.basis, row])

    def note(self, index: int, entropy: float, calls: int) -> None:
        """Join the mean entropy over further calls to what is known of a candidate."""
        total = self.entropies[index] * self.counts[index] + entropy * calls
        self.counts[index] += calls
        self.entropies[index] = total / self.counts[index]

    def lowest(self, count: int) -> list[int]:
        """The candidates of lowest entropy, lowest first."""
        return sorted(range(len(self.states)), key=self.entropies.__getitem__)[:count]

    def depth(self, index: int) -> float:
        """How many robust standard deviations the entropy lies below the others' median.

        One is 1.4826 median absolute deviations, but at least 5 % of the median: among few others the deviations are
        small by chance at times.
        """
        others = [value for i, value in enumerate(self.entropies) if i != index]
        if not others:
            return 0.0
        middle = median(others)
        spread = 1.4826 * median(abs(value - middle) for value in others)
        return (middle - self.entropies[index]) / max(spread, 0.05 * abs(middle), 1e-12)

    def answer(self, trace: Trace) -> Tensor:
        """The state of lowest entropy; notes the chance that no other of as many would lie so low, as its confidence.

        Fewer than three candidates say nothing about that.
        """
        (index,) = self.lowest(1)
        if len(self) >= 3:
            tail = math.erfc(self.depth(index) / math.sqrt(2)) / 2
            trace.confidence = (1 - tail) ** len(self)
        return self.states[index]
