"""Arithmetic of spins over packed patterns: a bit b of a `MaskMatrix` is the spin 2 b - 1.

There are two ways to the same numbers: the store's own kernels on the host, and torch on any device, which unpacks a
tile of neurons at a time.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hopfield import patterns as pt
from maskstore import Mask, MaskMatrix, MaskSpec

_TILE = 1 << 12  # neurons that are unpacked at a time, in whole bytes


class Spins(Protocol):
    """k packed patterns of d neurons as a matrix X of spins, with the products that fields need."""

    @property
    def nbytes(self) -> int:
        """Bytes held beyond the matrix of patterns itself."""

    def dot(self, states: Tensor) -> Tensor:
        """`X z`: `(b, d)` float32 -> `(b, k)` float64."""

    def weighted(self, weights: Tensor) -> Tensor:
        """`Xᵀ a`: `(b, k)` -> `(b, d)` float64."""

    def column(self, neuron: int) -> Tensor:
        """One neuron's spin in every pattern, `(k,)` float64."""


def spins_on(masks: MaskMatrix, device: torch.device) -> Spins:
    """The spins of a matrix of masks, for arithmetic on a device."""
    return HostSpins(masks) if device.type == "cpu" else DeviceSpins(masks, device)


class HostSpins:
    """Spins on the CPU, by the kernels of `MaskMatrix`."""

    def __init__(self, masks: MaskMatrix) -> None:
        self._masks = masks

    @property
    def nbytes(self) -> int:
        """Nothing."""
        return 0

    def dot(self, states: Tensor) -> Tensor:
        """See `Spins.dot`."""
        sums = states.sum(dim=1, dtype=torch.float64, keepdim=True)
        return 2 * torch.from_numpy(self._masks.dot_many(states.numpy())).double() - sums

    def weighted(self, weights: Tensor) -> Tensor:
        """See `Spins.weighted`."""
        spread = weights.new_empty(len(weights), self._masks.spec.bits, dtype=torch.float64)
        for row, alpha in zip(spread, weights, strict=True):
            row.copy_(torch.from_numpy(self._masks.weighted_sum(alpha.numpy())))
        return 2 * spread - weights.sum(dim=1, keepdim=True)

    def column(self, neuron: int) -> Tensor:
        """See `Spins.column`."""
        word, shift = _place(self._masks.spec, neuron)
        bits = (self._masks.interleaved.rows(slice(word, word + 1))[:, 0] >> np.uint64(shift)) & np.uint64(1)
        return 2 * torch.from_numpy(bits.astype(np.float64)) - 1


class DeviceSpins:
    """Spins on any device, in torch: a packed copy of the patterns lies there."""

    def __init__(self, masks: MaskMatrix, device: torch.device) -> None:
        self._masks = masks
        self._device = device
        self._rows = packed_bytes(masks.rows).to(device)

    @property
    def nbytes(self) -> int:
        """Bytes of the copy."""
        return self._rows.numel()

    def dot(self, states: Tensor) -> Tensor:
        """See `Spins.dot`."""
        total = torch.zeros(len(states), len(self._masks), dtype=torch.float64, device=self._device)
        for flat, spins in tiles(self._current(), self._masks.spec):
            total += states[:, flat] @ spins.T
        return total

    def weighted(self, weights: Tensor) -> Tensor:
        """See `Spins.weighted`."""
        parts = [weights.float() @ spins for _, spins in tiles(self._current(), self._masks.spec)]
        return torch.cat(parts, dim=1).double()

    def column(self, neuron: int) -> Tensor:
        """See `Spins.column`."""
        word, shift = _place(self._masks.spec, neuron)
        bits = self._current()[:, word * 8 + shift // 8] >> shift % 8 & 1
        return 2 * bits.double() - 1

    def _current(self) -> Tensor:
        if len(self._rows) != len(self._masks):  # patterns were added since
            self._rows = packed_bytes(self._masks.rows).to(self._device)
        return self._rows


def packed_bytes(rows: np.ndarray) -> Tensor:
    """Packed words `(k, words)` uint64 as bytes `(k, 8 words)` uint8, bit i of a row in byte i // 8; a copy."""
    return torch.from_numpy(np.ascontiguousarray(rows).astype("<u8", copy=True).view(np.uint8))


def tiles(rows: Tensor, spec: MaskSpec) -> Iterator[tuple[slice, Tensor]]:
    """Packed bytes unpacked some neurons at a time: where they lie in a flat state, and spins `(k, t)` float32."""
    for layer in spec:
        for start in range(0, layer.size, _TILE):
            count = min(_TILE, layer.size - start)
            first = layer.word_start * 8 + start // 8
            bits = unpacked(rows[:, first : first + (count + 7) // 8], count)
            yield slice(layer.flat_start + start, layer.flat_start + start + count), 2 * bits - 1


def unpacked(packed: Tensor, count: int) -> Tensor:
    """Packed bytes `(n, bytes)` -> their first `count` bits, `(n, count)` float32."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits = packed.unsqueeze(2) >> shifts & 1
    return bits.reshape(len(packed), 8 * packed.shape[1])[:, :count].float()


def matrix_of(signs: Tensor) -> MaskMatrix:
    """Patterns `(k, d)` of -1 and +1 as a matrix of masks with one layer, "pattern"."""
    masks = MaskMatrix(MaskSpec({"pattern": (signs.shape[1],)}))
    append_all(masks, named_masks(masks, signs))
    return masks


def named_masks(masks: MaskMatrix, signs: Tensor) -> dict[str, Mask]:
    """Patterns `(k, d)` as masks of a matrix's spec, under its next free names "pattern-0", "pattern-1", ..."""
    taken, new = set(masks.names), dict[str, Mask]()
    for dense in pt.to_bits(signs).cpu().numpy():
        number = len(masks) + len(new)
        while f"pattern-{number}" in taken or f"pattern-{number}" in new:
            number += 1
        new[f"pattern-{number}"] = Mask.from_flat(dense, masks.spec)
    return new


def append_all(masks: MaskMatrix, new: dict[str, Mask]) -> None:
    """Add masks to a matrix."""
    for name, mask in new.items():
        masks.append(name, mask)


def _place(spec: MaskSpec, index: int) -> tuple[int, int]:
    """Word and bit of a neuron, by its flat index over all layers."""
    layer = next(layer for layer in spec if index < layer.flat_start + layer.size)
    inside = index - layer.flat_start
    return layer.word_start + inside // 64, inside % 64
