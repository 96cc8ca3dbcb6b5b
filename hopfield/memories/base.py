"""`Memory`: the one interface of every associative memory here.

Recovery (`hopfield.recovery`) and the dynamics (`hopfield.dynamics`) know a memory by `energy` and `field` only.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield.dynamics import Update, relax
from hopfield.errors import CapacityWarning, DeviceError, EmptyMemoryError, MemoryFileError
from hopfield.memories import storage
from maskstore.torch import as_device


class Memory(ABC):
    """An associative memory of k patterns over d neurons.

    States are float32 tensors `(d,)` or `(b, d)` with values in [-1, 1]; every method takes a batch of b states too. A
    memory without patterns has no field and no energy: EmptyMemoryError.

    Examples:
        Whatever the memory, it completes a damaged pattern:

        >>> import torch
        >>> from hopfield import DenseAssociativeMemory, DualMemory, Memory, patterns
        >>> stored = patterns.random_patterns(5, 200, torch.Generator().manual_seed(0))
        >>> cue = patterns.flip(stored[:1], 0.1, torch.Generator().manual_seed(1))
        >>> def completes(memory: Memory) -> bool:
        ...     return torch.equal(memory.recall(cue), stored[:1])
        >>> completes(DualMemory.of_patterns(stored)), completes(DenseAssociativeMemory.of_patterns(stored))
        (True, True)
    """

    dim: int
    """Number of neurons d."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of patterns stored so far."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes the memory holds on to between calls: couplings, patterns, centre, everything."""

    @property
    @abstractmethod
    def limit(self) -> float:
        """Patterns the memory is expected to hold by the theory of its rule (see the rule for the source)."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where fields are computed; states are brought there."""

    @abstractmethod
    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`; what one asynchronous update needs."""

    @abstractmethod
    def _move(self, device: torch.device) -> None:
        """Move to a device that torch can use."""

    @abstractmethod
    def _learn(self, new: Tensor) -> Callable[[], None]:
        """Learn patterns `(k, d)`, k > 0, changing nothing yet: what is returned takes them into the memory."""

    @abstractmethod
    def _fields(self, states: Tensor) -> Tensor:
        """Local fields of states: `(b, d)` -> `(b, d)`, float32."""

    @abstractmethod
    def _energies(self, states: Tensor) -> Tensor:
        """Energies of states: `(b, d)` -> `(b,)`, float32."""

    @abstractmethod
    def _header(self) -> dict[str, Any]:
        """JSON-able description from which, with the arrays, `_restore` rebuilds the memory."""

    @abstractmethod
    def _arrays(self) -> dict[str, Any]:
        """numpy arrays to save."""

    @classmethod
    @abstractmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        """The memory that `_header` and `_arrays` described, on the CPU."""

    def to(self, device: torch.device | str) -> Self:
        """Move to a device.

        Returns:
            The memory itself.

        Raises:
            DeviceError: Torch cannot use the device here.
        """
        self._move(as_device(device, DeviceError))
        return self

    def store(self, patterns: Any) -> None:
        """Learn patterns: all of them, or, after an error, none.

        Args:
            patterns: `(k, d)`, or `(d,)` for one: bool or -1/+1, a tensor, an array or a `MaskMatrix`.

        Raises:
            PatternError: Values that are neither bool nor -1/+1.
            DimensionError: Patterns of another number of neurons.

        Warns:
            CapacityWarning: Before anything is learnt, if the patterns would take the memory beyond `limit`.
        """
        new = pt.as_patterns(patterns, self.dim, device=self.device)
        if not len(new):
            return
        after = len(self) + len(new)
        if after > self.limit:
            warnings.warn(
                f"{self!r}: expected at most {math.floor(self.limit)} patterns by its theory, found {after} with the "
                "new ones; beyond it patterns are lost",
                CapacityWarning,
                stacklevel=2,
            )
        self._learn(new)()

    def field(self, state: Any) -> Tensor:
        """Local field h of every neuron; for quadratic energies the negative gradient of E.

        Args:
            state: `(d,)` or `(b, d)`.

        Returns:
            Float32, the shape of `state`.
        """
        z = self._state(state)
        return self._fields(z.reshape(-1, self.dim)).reshape(z.shape)

    def energy(self, state: Any) -> Tensor:
        """Energy of a state, which recall lowers.

        Args:
            state: `(d,)` or `(b, d)`.

        Returns:
            A scalar for `(d,)`, `(b,)` for a batch; float32.

        Raises:
            NoEnergyError: The couplings are not symmetric.
        """
        z = self._state(state)
        return self._energies(z.reshape(-1, self.dim)).reshape(z.shape[:-1])

    def recall(self, cues: Any, *, update: Update = "synchronous", max_sweeps: int = 100, seed: int = 0) -> Tensor:
        """The states in which cues come to rest; `hopfield.dynamics.relax` explains the arguments.

        Args:
            cues: `(d,)` or `(b, d)`.

        Returns:
            States of -1/+1, the shape of `cues`.
        """
        return relax(self, cues, update=update, max_sweeps=max_sweeps, seed=seed).states

    def save(self, path: str | Path) -> None:
        """Write to one .npz file, atomically and without pickle. The arrays are exact: `load` gives the same bits.

        Raises:
            MemoryWriteError: The file could not be written; an old one is still there.
        """
        storage.write(path, type(self).__name__, self._header(), self._arrays())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote, onto the CPU.

        Raises:
            MemoryFileError: The file is no saved memory, or one of another kind.
        """
        memory = storage.load_memory(path)
        if not isinstance(memory, cls):
            raise MemoryFileError(f"{path}: expected a {cls.__name__}, found a {type(memory).__name__}")
        return memory

    def _state(self, state: Any) -> Tensor:
        if not len(self):
            raise EmptyMemoryError(f"{type(self).__name__}: expected a memory with patterns, found an empty one")
        return pt.as_state(state, self.dim, device=self.device)
