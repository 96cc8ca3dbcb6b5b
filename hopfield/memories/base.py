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

from hopfield import files as storage
from hopfield import patterns as pt
from hopfield.dynamics import Update, relax
from hopfield.errors import CapacityWarning, EmptyMemoryError


class Memory(ABC):
    """An associative memory of k patterns over d neurons.

    States are float32 tensors `(d,)` or `(b, d)` with values in [-1, 1]; every method is batched over b. Whatever asks
    a memory without patterns for a field or an energy gets an EmptyMemoryError.
    """

    @property
    @abstractmethod
    def dim(self) -> int:
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
    def to(self, device: torch.device | str) -> Self:
        """Move to a device; returns itself. DeviceError if torch cannot use it here."""

    @abstractmethod
    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`; what one asynchronous update needs."""

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
        """numpy arrays that are saved."""

    @classmethod
    @abstractmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        """Rebuild from what `_header` and `_arrays` gave."""

    def store(self, patterns: Any) -> None:
        """Add patterns `(k, d)` or `(d,)`, bool or -1/+1: all of them, or none if anything goes wrong.

        Warns `CapacityWarning` before anything is learnt if they would take the memory beyond `limit`.
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
        """Local field h of every neuron, the shape of `state`; for quadratic energies the negative gradient of E."""
        z = self._state(state)
        return self._fields(z.reshape(-1, self.dim)).reshape(z.shape)

    def energy(self, state: Any) -> Tensor:
        """Energy of a state: `(d,)` -> scalar, `(b, d)` -> `(b,)`; NoEnergyError where there is none."""
        z = self._state(state)
        return self._energies(z.reshape(-1, self.dim)).reshape(z.shape[:-1])

    def recall(
        self, cues: Any, *, update: Update | str = Update.SYNCHRONOUS, max_sweeps: int = 100, seed: int = 0
    ) -> Tensor:
        """The states that cues `(d,)` or `(b, d)` settle in, -1/+1, same shape; `hopfield.relax` also says how."""
        return relax(self, cues, update=update, max_sweeps=max_sweeps, seed=seed).states

    def save(self, path: str | Path) -> None:
        """Write to one .npz file, atomically, without pickle; the arrays are exact, so `load` gives the same bits."""
        storage.write(Path(path), type(self).__name__, self._header(), self._arrays())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote, onto the CPU; MemoryFileError for anything else, or another kind of memory."""
        header, arrays = storage.read(Path(path), cls.__name__)
        return storage.checked(path, lambda: cls._restore(header, arrays))

    def _state(self, state: Any) -> Tensor:
        if not len(self):
            raise EmptyMemoryError(f"{type(self).__name__}: expected a memory with patterns, found an empty one")
        return pt.as_state(state, self.dim, device=self.device)
