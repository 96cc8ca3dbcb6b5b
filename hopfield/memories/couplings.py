"""Coupling matrices as they lie in memory: whole, or half where they are symmetric.

A symmetric matrix is kept as strips of its upper block triangle: strip i holds rows `[i w, (i + 1) w)` from column
`i w` on. That is `d**2 / 2 + d w / 2` numbers instead of `d**2`, and a field is still a few dense products.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Self

import torch
from torch import Tensor

STRIP = 128


class Couplings(ABC):
    """A d x d matrix, with its diagonal, that can be applied to states; it does not change once made."""

    def __init__(self, parts: Sequence[Tensor], *, symmetric: bool) -> None:
        self._parts = tuple(parts)  # all that is stored, on one device
        self.symmetric = symmetric

    @property
    def nbytes(self) -> int:
        """Bytes of the stored numbers."""
        return sum(part.nbytes for part in self._parts)

    @property
    def device(self) -> torch.device:
        """Where the numbers lie."""
        return self._parts[0].device

    def to(self, device: torch.device) -> Self:
        """The same matrix on a device."""
        moved = copy(self)
        moved._parts = tuple(part.to(device) for part in self._parts)
        return moved

    @abstractmethod
    def dense(self) -> Tensor:
        """The whole matrix, `(d, d)` float32, a copy that the caller may change."""

    @abstractmethod
    def diagonal(self) -> Tensor:
        """The diagonal, `(d,)`."""

    @abstractmethod
    def apply(self, state: Tensor) -> Tensor:
        """`(b, d)` -> `(b, d)`: the matrix times every state."""

    @abstractmethod
    def row(self, index: int) -> Tensor:
        """One row, `(d,)`."""


class FullCouplings(Couplings):
    """All d x d numbers; for couplings that are not symmetric."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__([matrix], symmetric=False)

    def dense(self) -> Tensor:
        """See `Couplings.dense`."""
        return self._parts[0].clone()

    def diagonal(self) -> Tensor:
        """See `Couplings.diagonal`."""
        return self._parts[0].diagonal()

    def apply(self, state: Tensor) -> Tensor:
        """See `Couplings.apply`."""
        return state @ self._parts[0].T

    def row(self, index: int) -> Tensor:
        """See `Couplings.row`."""
        return self._parts[0][index]


class SymmetricCouplings(Couplings):
    """The upper block triangle of a symmetric matrix; see the module's text."""

    def __init__(self, matrix: Tensor) -> None:
        strips = [matrix[start : start + STRIP, start:].clone() for start in range(0, len(matrix), STRIP)]
        for strip in strips:  # rounding may differ across the diagonal; the upper half is the matrix
            square = strip[:, : strip.shape[0]]
            square.copy_(square.triu() + square.triu(1).T)
        super().__init__([*strips, matrix.diagonal().clone()], symmetric=True)

    def dense(self) -> Tensor:
        """See `Couplings.dense`."""
        diagonal = self.diagonal()
        result = diagonal.new_empty(len(diagonal), len(diagonal))
        for i, strip in enumerate(self._parts[:-1]):
            start, stop = i * STRIP, i * STRIP + strip.shape[0]
            result[start:stop, start:] = strip
            result[start:, start:stop] = strip.T
        return result

    def diagonal(self) -> Tensor:
        """See `Couplings.diagonal`."""
        return self._parts[-1]

    def apply(self, state: Tensor) -> Tensor:
        """See `Couplings.apply`; each strip serves its rows, and its mirror image below the diagonal."""
        result = torch.zeros_like(state)
        for i, numbers in enumerate(self._parts[:-1]):
            strip = numbers.to(state.dtype)  # a copy only of numbers that are no floats
            start, height = i * STRIP, strip.shape[0]
            stop = start + height
            result[:, start:stop].addmm_(state[:, start:], strip.T)  # added in place: no copy of that size
            if stop < state.shape[1]:
                result[:, stop:].addmm_(state[:, start:stop], strip[:, height:])
        return result

    def row(self, index: int) -> Tensor:
        """See `Couplings.row`: a column through the strips above, then its own strip."""
        own = index // STRIP
        above = [strip[:, index - i * STRIP] for i, strip in enumerate(self._parts[:own])]
        return torch.cat([*above, self._parts[own][index - own * STRIP]])
