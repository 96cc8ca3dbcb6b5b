"""`PackedMemory`: what memories share that keep the patterns themselves, one bit a neuron.

A bit b of a `MaskMatrix` is the spin 2 b - 1, so that products with spins follow from the products of packed masks.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield.errors import DeviceError, DimensionError, ForgetError, PatternError
from hopfield.memories.base import Memory
from maskstore import Mask, MaskMatrix, MaskSpec
from maskstore.torch import PackedMasks, as_device


class PackedMemory(Memory):
    """A memory over the packed patterns of a `MaskMatrix`, which is shared with the caller, not copied.

    On the CPU fields come from the store's kernels. On another device a packed copy of the patterns lies there, and
    torch unpacks a tile of neurons at a time. An asynchronous sweep costs d passes over the patterns, so that it is for
    thousands of neurons rather than hundreds of thousands.
    """

    def __init__(self, masks: MaskMatrix, device: torch.device | str) -> None:
        if not isinstance(masks, MaskMatrix):
            raise PatternError(
                f"{type(self).__name__}: expected a MaskMatrix, found {type(masks).__name__}; "
                f"{type(self).__name__}.of_patterns takes patterns"
            )
        self.masks = masks
        self.dim = masks.spec.bits
        self._packed = PackedMasks.of(masks, as_device(device, DeviceError))

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def device(self) -> torch.device:
        """Where fields are computed."""
        return self._packed.device

    @property
    def nbytes(self) -> int:
        """Bytes of the packed patterns, and of their copy on a device."""
        return self.masks.nbytes + self._packed.nbytes

    def forget(self, name: str) -> None:
        """Take a pattern out; what stays is as if it had never been stored.

        The caller's matrix stays as it is: the memory goes on with one of its own.

        Args:
            name: The pattern's name in `masks`.

        Raises:
            ForgetError: There is no pattern of that name.
        """
        if name not in self.masks.names:
            raise ForgetError(f"forget: expected one of {len(self)} stored names, found {name!r:.60}")
        kept = self.masks.select([other for other in self.masks.names if other != name])
        finish = self._study(kept.rows, 0)
        self.masks, self._packed = kept, PackedMasks.of(kept, self.device)
        finish()

    @abstractmethod
    def _study(self, rows: np.ndarray, known: int) -> Callable[[], None]:
        """Learn what follows from packed patterns `(k, words)` uint64, changing nothing yet.

        The first `known` of them are in the memory already. What is returned puts into place what was learnt.
        """

    def _learn(self, new: Tensor) -> Callable[[], None]:
        added = _named_masks(self.masks, new)
        rows = np.concatenate([self.masks.rows, np.stack([mask.words for mask in added.values()])])
        finish = self._study(rows, len(self))

        def commit() -> None:
            _append_all(self.masks, added)
            finish()

        return commit

    def _move(self, device: torch.device) -> None:
        self._packed = PackedMasks.of(self.masks, device)

    def _dot(self, states: Tensor) -> Tensor:
        """`X z` for the patterns X `(k, d)`: states `(b, d)` -> `(b, k)` float64."""
        return 2 * self._packed.dot(states).double() - states.sum(dim=1, dtype=torch.float64, keepdim=True)

    def _weighted(self, weights: Tensor) -> Tensor:
        """`Xᵀ a`: weights `(b, k)` -> `(b, d)` float64."""
        return 2 * self._packed.weighted_sum(weights).double() - weights.sum(dim=1, keepdim=True)

    def _column(self, neuron: int) -> Tensor:
        """One neuron's spin in every pattern, `(k,)` float64."""
        return 2 * self._packed.column(neuron).double() - 1

    def _masks_header(self) -> dict[str, Any]:
        return {"spec": self.masks.spec.to_json(), "names": list(self.masks.names)}

    def _arrays(self) -> dict[str, Any]:
        return {"patterns": np.ascontiguousarray(self.masks.rows)}


def matrix_of(patterns: Any) -> MaskMatrix:
    """Patterns `(k, d)`, bool or -1/+1, as a matrix of masks with one layer, "pattern"."""
    signs = pt.as_patterns(patterns)
    masks = MaskMatrix(MaskSpec({"pattern": (signs.shape[1],)}))
    _append_all(masks, _named_masks(masks, signs))
    return masks


def restored_masks(header: dict[str, Any], arrays: dict[str, Any]) -> MaskMatrix:
    """The masks of a saved packed memory."""
    spec, rows, names = MaskSpec.from_json(header["spec"]), arrays["patterns"], header["names"]
    if rows.shape != (len(names), spec.words):
        raise DimensionError(f"patterns: expected {len(names)} rows of {spec.words} words, found {rows.shape}")
    return MaskMatrix(spec, [Mask(spec, row) for row in rows], names)


def _named_masks(masks: MaskMatrix, signs: Tensor) -> dict[str, Mask]:
    """Patterns `(k, d)` as masks of a matrix's spec, under its next free names "pattern-0", "pattern-1", ..."""
    taken, new = set(masks.names), dict[str, Mask]()
    for dense in pt.to_bits(signs).cpu().numpy():
        number = len(masks) + len(new)
        while f"pattern-{number}" in taken or f"pattern-{number}" in new:
            number += 1
        new[f"pattern-{number}"] = Mask.from_flat(dense, masks.spec)
    return new


def _append_all(masks: MaskMatrix, new: dict[str, Mask]) -> None:
    for name, mask in new.items():
        masks.append(name, mask)
