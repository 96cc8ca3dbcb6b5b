"""`SparseMemory`: what memories of patterns with few ones share, which is how neurons are switched on."""

from abc import abstractmethod
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from hopfield import patterns as pt
from hopfield.errors import DimensionError, PatternError, RuleError, check_choice
from hopfield.memories.base import Memory

Threshold = Literal["winners", "inhibition"]
"""Which neurons are on: as many as a pattern has, those with the largest drive; or all that a common inhibition leaves
on."""


class SparseMemory(Memory):
    """A memory of patterns of which each has `ones` neurons on, out of d.

    Its neurons are on or off: x = (z + 1) / 2. Each neuron has a drive, which is positive where the neuron would be on
    under a common inhibition. `threshold` makes the field of it:

    - `"inhibition"`: the field is the drive.
    - `"winners"`: the field is the drive less the mean of the `ones`-th and the next largest one, so that the `ones`
      neurons with the largest drive are on. Neurons that tie for the last place keep their state.
    """

    def __init__(self, dim: int, ones: int, threshold: Threshold) -> None:
        check_choice("threshold", threshold, get_args(Threshold))
        self.dim = whole_number(dim, f"{type(self).__name__}: expected a whole number of neurons, at least two", 2)
        expected = f"{type(self).__name__}: expected a number of ones from 1 to {dim - 1}"
        self.ones = whole_number(ones, expected, 1, dim - 1)
        self.threshold: Threshold = threshold

    @abstractmethod
    def _drives(self, active: Tensor) -> Tensor:
        """Drives of active neurons x `(b, d)` in [0, 1] -> `(b, d)`."""

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`. It takes all drives, so an asynchronous sweep is slow."""
        return self._fields(state)[:, neuron]

    def _fields(self, states: Tensor) -> Tensor:
        drives = self._drives(pt.to_soft_mask(states))
        if self.threshold == "inhibition":
            return drives
        top = drives.topk(self.ones + 1, dim=1).values
        return drives - top[:, -2:].mean(dim=1, keepdim=True)

    def _checked(self, patterns: Tensor) -> Tensor:
        """Patterns `(k, d)` as zeros and ones; PatternError where `winners` could not hold them."""
        active = pt.to_soft_mask(patterns)
        counts = active.sum(dim=1)
        if self.threshold == "winners" and bool((counts != self.ones).any()):
            found = int(counts[counts != self.ones][0])
            raise PatternError(
                f"store: expected patterns with {self.ones} ones each, found one with {found}; "
                '`threshold="inhibition"` takes any number'
            )
        return active

    def _sparse_header(self) -> dict[str, Any]:
        return {"dim": self.dim, "ones": self.ones, "threshold": self.threshold, "count": len(self)}

    def _named(self, *more: object) -> str:
        parts = (f"{self.dim} neurons", f"{self.ones} ones", *more, f"{len(self)} patterns", f"{self.nbytes} bytes")
        return f"{type(self).__name__}({', '.join(map(str, parts))})"


def whole_number(value: Any, expected: str, least: int, most: int = 2**31) -> int:
    """The value, if it is a whole number in these limits, else DimensionError or RuleError."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not least <= value <= most:
        raise (DimensionError if "neurons" in expected else RuleError)(f"{expected}, found {value!r:.40}")
    return int(value)


def ones_of(patterns: Tensor) -> int:
    """The number of ones that all patterns `(k, d)` have; PatternError if they differ."""
    counts = pt.to_bits(patterns).sum(dim=1)
    if not len(counts) or bool((counts != counts[0]).any()):
        found = sorted(set(counts.tolist()))
        raise PatternError(f"patterns: expected the same number of ones in each, found {found!s:.60}")
    return int(counts[0])
