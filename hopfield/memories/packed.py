"""`PackedMemory`: what memories share that keep the patterns themselves, one bit a neuron."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hopfield.errors import DeviceError, DimensionError, ForgetError
from hopfield.memories import spins as packed
from hopfield.memories.base import Memory
from maskstore import Mask, MaskMatrix, MaskSpec
from maskstore.torch import as_device


class PackedMemory(Memory):
    """A memory over the packed patterns of a `MaskMatrix`, which is shared with the caller, not copied.

    On the CPU fields come from the store's kernels. On another device a packed copy of the patterns lies there, and
    torch unpacks a tile of neurons at a time. An asynchronous sweep costs d passes over the patterns, so that it is for
    thousands of neurons rather than hundreds of thousands.
    """

    def __init__(self, masks: MaskMatrix, device: torch.device | str) -> None:
        self.masks = masks
        self._device = as_device(device, DeviceError)
        self._spins = packed.spins_on(masks, self._device)

    @property
    def dim(self) -> int:
        """Number of neurons d."""
        return self.masks.spec.bits

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def device(self) -> torch.device:
        """Where fields are computed."""
        return self._device

    def forget(self, name: str) -> None:
        """Take the pattern of that name out; what stays is as if it had never been stored.

        The caller's matrix stays as it is: the memory goes on with one of its own.
        """
        if name not in self.masks.names:
            raise ForgetError(f"forget: expected one of {len(self)} stored names, found {name!r:.60}")
        kept = self.masks.select([other for other in self.masks.names if other != name])
        finish = self._study(kept.rows, 0)
        self.masks, self._spins = kept, packed.spins_on(kept, self._device)
        finish()

    @abstractmethod
    def _study(self, rows: np.ndarray, known: int) -> Callable[[], None]:
        """Learn what follows from packed patterns `(k, words)` uint64, changing nothing yet.

        The first `known` of them are in the memory already. What is returned puts into place what was learnt.
        """

    def _learn(self, new: Tensor) -> Callable[[], None]:
        added = packed.named_masks(self.masks, new)
        rows = np.concatenate([self.masks.rows, np.stack([mask.words for mask in added.values()])])
        finish = self._study(rows, len(self))

        def commit() -> None:
            packed.append_all(self.masks, added)
            finish()

        return commit

    def _move(self, device: torch.device | str) -> None:
        self._device = as_device(device, DeviceError)
        self._spins = packed.spins_on(self.masks, self._device)

    def _masks_header(self) -> dict[str, Any]:
        return {"spec": self.masks.spec.to_json(), "names": list(self.masks.names)}

    def _arrays(self) -> dict[str, Any]:
        return {"patterns": np.ascontiguousarray(self.masks.rows)}


def restored_masks(header: dict[str, Any], arrays: dict[str, Any]) -> MaskMatrix:
    """The masks of a saved packed memory."""
    spec, rows, names = MaskSpec.from_json(header["spec"]), arrays["patterns"], header["names"]
    if rows.shape != (len(names), spec.words):
        raise DimensionError(f"patterns: expected {len(names)} rows of {spec.words} words, found {rows.shape}")
    return MaskMatrix(spec, [Mask(spec, row) for row in rows], names)
