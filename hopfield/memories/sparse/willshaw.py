"""`Willshaw`: binary synapses between neurons that were ever on together."""

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield.errors import DeviceError
from hopfield.memories import storage
from hopfield.memories.sparse.base import SparseMemory, Threshold
from hopfield.memories.sparse.tiles import SymmetricBits
from maskstore.torch import as_device


@storage.register
class Willshaw(SparseMemory):
    """A synapse between two neurons is 1 if both are on in some stored pattern, else 0.

    The drive of a neuron is the number of active neurons it has a synapse with, itself included, less all that are
    active, plus one half: under "inhibition" a neuron is on if it has a synapse with *every* active neuron. So cues may
    lack ones, but must not have wrong ones; with "winners" (the default) both may be. `E = Σ_{i≠j} (1 - w_ij) x_i x_j -
    Σ x_i`, which is least at patterns. Storing is incremental, and forgetting impossible: a synapse may serve others.

    It is for very sparse patterns, with about log2 d ones. Each synapse is stored once: d² / 16 bytes and 4 d.

    Args:
        dim: Number of neurons d, at least 2.
        ones: How many of them are on in a pattern.
        threshold: "winners" or "inhibition".
        device: Where the synapses lie.

    Raises:
        DimensionError: `dim` is no whole number of at least 2.
        RuleError: An impossible number of ones, or an unknown threshold.
        DeviceError: Torch cannot use the device here.

    Source:
        Willshaw, Buneman and Longuet-Higgins, "Non-holographic associative memory", Nature 1969; Palm, "On associative
        memory", Biological Cybernetics 1980.

    Examples:
        >>> import torch
        >>> from hopfield import Willshaw, patterns
        >>> generator = torch.Generator().manual_seed(0)
        >>> stored = patterns.sparse_patterns(600, 512, 9, generator)
        >>> memory = Willshaw(512, 9)
        >>> memory.store(stored)
        >>> cues = patterns.move_ones(stored, 2, generator)  # two of the nine ones are elsewhere
        >>> bool((memory.recall(cues) == stored).all(1).float().mean() > 0.95)
        True
        >>> memory.nbytes, 600 * 512 // 8  # bytes of the memory, of the packed patterns
        (18432, 38400)
    """

    def __init__(
        self, dim: int, ones: int, *, threshold: Threshold = "winners", device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(dim, ones, threshold)
        where = as_device(device, DeviceError)
        self._synapses = SymmetricBits.empty(self.dim).to(where)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the synapses."""
        return self._synapses.nbytes

    @property
    def device(self) -> torch.device:
        """Where the synapses lie."""
        return self._synapses.device

    @property
    def limit(self) -> float:
        """Random patterns for which one in a hundred has a neuron that is on by chance.

        A share q = 1 - (1 - p²)^k of the synapses is then 1, and (d - n) q^n = 0.01 for n = p d ones.
        """
        share = (0.01 / (self.dim - self.ones)) ** (1 / self.ones)
        return math.log1p(-share) / math.log1p(-((self.ones / self.dim) ** 2))

    def synapses(self) -> Tensor:
        """The synapses, `(d, d)` float32 of 0 and 1 with zero diagonal, a copy."""
        return self._synapses.dense()

    def _learn(self, new: Tensor) -> Callable[[], None]:
        self._checked(new)
        after = self._synapses.joined(pt.pack(new)).to(self.device)

        def commit() -> None:
            self._synapses = after
            self._count += len(new)

        return commit

    def _move(self, device: torch.device) -> None:
        self._synapses = self._synapses.to(device)

    def _drives(self, active: Tensor) -> Tensor:
        return self._synapses.apply(active) + active - active.sum(dim=1, keepdim=True) + 0.5

    def _energies(self, states: Tensor) -> Tensor:
        active = pt.to_soft_mask(states)
        together = self._synapses.apply(active) + active  # (b, d), with the diagonal as ones
        missing = active.sum(dim=1, keepdim=True) - together
        return (missing * active).sum(dim=1) - active.sum(dim=1)

    def _header(self) -> dict[str, Any]:
        return self._sparse_header()

    def _arrays(self) -> dict[str, Any]:
        return {"synapses": self._synapses.words()}

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        dim, ones = storage.natural(header, "dim"), storage.natural(header, "ones")
        bits = SymmetricBits(arrays["synapses"], dim)  # before anything of that size is made
        memory = cls.__new__(cls)
        SparseMemory.__init__(memory, dim, ones, header["threshold"])
        memory._synapses, memory._count = bits, storage.natural(header, "count")
        return memory

    def __repr__(self) -> str:
        return self._named(self.threshold)
