"""Packed masks where the network is: the host's `MaskMatrix`, or a copy of it on a CUDA device."""

from collections.abc import Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from maskstore import MaskMatrix
from maskstore.torch import PackedRows
from supsup_models.networks import MaskedModel


class Rows(Protocol):
    """k packed masks; flat tensors are float32 `(spec.bits,)`, on the network's device."""

    def dot(self, g: Tensor) -> Tensor:
        """Inner product of every mask with a flat tensor, `(k,)`."""

    def weighted_sum(self, alpha: Tensor) -> Tensor:
        """Sum of alpha_i times mask i: `(k,)` -> flat."""

    def mean(self) -> Tensor:
        """The mean mask, flat; not to be written to."""

    def select(self, rows: Sequence[int]) -> "Rows":
        """Some of the masks, in this order."""


class HostRows:
    """A matrix, asked in tensors."""

    def __init__(self, matrix: MaskMatrix) -> None:
        self._matrix = matrix

    def dot(self, g: Tensor) -> Tensor:
        """Inner product of every mask with a flat tensor, `(k,)`."""
        return torch.from_numpy(self._matrix.dot(g.float().cpu().numpy()))

    def weighted_sum(self, alpha: Tensor) -> Tensor:
        """Sum of alpha_i times mask i: `(k,)` -> flat."""
        return torch.from_numpy(self._matrix.weighted_sum(alpha.float().cpu().numpy()))

    def mean(self) -> Tensor:
        """The mean mask, flat; computed once for so many rows, not to be written to."""
        rows = len(self._matrix)  # asked before the mean: of a row that arrives in between the next call learns
        count, mean = _MEANS.get(self._matrix, (0, None))
        if mean is None or count != rows:
            mean = torch.from_numpy(self._matrix.mean())
            _MEANS[self._matrix] = rows, mean
        return mean

    def select(self, rows: Sequence[int]) -> "HostRows":
        """Some of the masks, in this order."""
        return HostRows(self._matrix.select(rows))


# What is made once for a matrix that is asked again and again: its mean mask with the number of rows it is of, and its
# copy on a device. Rows never change, so their number says it all.
_MEANS: WeakKeyDictionary[MaskMatrix, tuple[int, Tensor]] = WeakKeyDictionary()
_RESIDENT: WeakKeyDictionary[MaskMatrix, PackedRows] = WeakKeyDictionary()


def rows_of(model: MaskedModel, matrix: MaskMatrix) -> Rows:
    """The masks of a matrix for a network: on its device if that is CUDA, on the host otherwise."""
    if model.device.type != "cuda":
        return HostRows(matrix)
    found = _RESIDENT.get(matrix)
    if found is None or len(found) != len(matrix) or found.device != model.device:
        found = _RESIDENT[matrix] = PackedRows.of(matrix, model.device)
    return found
