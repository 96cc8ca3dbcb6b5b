"""Coupling matrices as they lie in memory: whole, or half where they are symmetric.

A symmetric matrix is kept as strips of its upper block triangle: strip i holds rows `[i w, (i + 1) w)` from column
`i w` on. That is `d**2 / 2 + d w / 2` numbers instead of `d**2`, and a field is still a few dense products.
"""

from abc import ABC, abstractmethod
from copy import copy
from typing import Self

import torch
from torch import Tensor

STRIP = 128


class Couplings(ABC):
    """A d x d matrix, with its diagonal, that can be applied to states; it does not change once made."""

    @property
    @abstractmethod
    def symmetric(self) -> bool:
        """Whether the matrix equals its transpose."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of the stored numbers."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the numbers lie."""

    @abstractmethod
    def to(self, device: torch.device) -> Self:
        """The same matrix on a device."""

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
        self._matrix = matrix

    @property
    def symmetric(self) -> bool:
        """Not known to be."""
        return False

    def to(self, device: torch.device) -> Self:
        """The same matrix on a device."""
        return type(self)(self._matrix.to(device))

    @property
    def nbytes(self) -> int:
        """Bytes of the stored numbers."""
        return self._matrix.numel() * self._matrix.element_size()

    @property
    def device(self) -> torch.device:
        """Where the numbers lie."""
        return self._matrix.device

    def dense(self) -> Tensor:
        """The whole matrix, `(d, d)`, a copy."""
        return self._matrix.clone()

    def diagonal(self) -> Tensor:
        """The diagonal, `(d,)`."""
        return self._matrix.diagonal()

    def apply(self, state: Tensor) -> Tensor:
        """`(b, d)` -> `(b, d)`."""
        return state @ self._matrix.T

    def row(self, index: int) -> Tensor:
        """One row, `(d,)`."""
        return self._matrix[index]


class SymmetricCouplings(Couplings):
    """The upper block triangle of a symmetric matrix; see the module's text."""

    def __init__(self, matrix: Tensor) -> None:
        self._dim = matrix.shape[0]
        self._strips = [matrix[s : s + STRIP, s:].clone() for s in range(0, self._dim, STRIP)]
        for strip in self._strips:  # rounding may differ across the diagonal; the upper half is the matrix
            square = strip[:, : strip.shape[0]]
            square.copy_(square.triu() + square.triu(1).T)
        self._diagonal = matrix.diagonal().clone()

    @property
    def symmetric(self) -> bool:
        """Always."""
        return True

    def to(self, device: torch.device) -> Self:
        """The same matrix on a device."""
        moved = copy(self)
        moved._strips = [strip.to(device) for strip in self._strips]
        moved._diagonal = self._diagonal.to(device)
        return moved

    @property
    def nbytes(self) -> int:
        """Bytes of the stored numbers."""
        return sum(t.numel() * t.element_size() for t in [*self._strips, self._diagonal])

    @property
    def device(self) -> torch.device:
        """Where the numbers lie."""
        return self._diagonal.device

    def dense(self) -> Tensor:
        """The whole matrix, `(d, d)`, a copy."""
        result = self._diagonal.new_empty(self._dim, self._dim)
        for i, strip in enumerate(self._strips):
            start, stop = i * STRIP, i * STRIP + strip.shape[0]
            result[start:stop, start:] = strip
            result[start:, start:stop] = strip.T
        return result

    def diagonal(self) -> Tensor:
        """The diagonal, `(d,)`."""
        return self._diagonal

    def apply(self, state: Tensor) -> Tensor:
        """`(b, d)` -> `(b, d)`; each strip serves its rows, and its mirror image below the diagonal."""
        result = torch.zeros_like(state)
        for i, strip in enumerate(self._strips):
            start, height = i * STRIP, strip.shape[0]
            stop = start + height
            result[:, start:stop] += state[:, start:] @ strip.T
            if stop < self._dim:
                result[:, stop:] += state[:, start:stop] @ strip[:, height:]
        return result

    def row(self, index: int) -> Tensor:
        """One row, `(d,)`: a column through the strips above, then its own strip."""
        own = index // STRIP
        above = [strip[:, index - i * STRIP] for i, strip in enumerate(self._strips[:own])]
        return torch.cat([*above, self._strips[own][index - own * STRIP]])
