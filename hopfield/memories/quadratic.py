"""`QuadraticMemory`: what memories with a matrix of couplings share, however coarse its numbers are.

`Centring` is what such a memory subtracts from its states, and the threshold that goes with it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hopfield.errors import DimensionError, NoEnergyError, PatternError, RuleError
from hopfield.memories.base import Memory
from hopfield.memories.couplings import Couplings


@dataclass(frozen=True)
class Centring:
    """The centre c and threshold θ of `E(z) = -½ (z - c)ᵀ Ψ (z - c) - θ cᵀ z`, field `h = Ψ (z - c) + θ c`.

    Where `Ψ (z - c)` is about `θ (z - c)`, as for stored patterns, the field is about θ z: rare and frequent spins are
    held alike (Tsodyks and Feigel'man, Europhysics Letters 1988).
    """

    centre: Tensor | None = None
    """One number `()`, or one for each neuron `(d,)`, float32; None is 0."""
    threshold: float = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of the centre."""
        return 0 if self.centre is None else self.centre.nbytes

    def shift(self, states: Tensor) -> Tensor:
        """States less the centre; same shape."""
        return states if self.centre is None else states - self.centre

    def push(self, states: Tensor) -> Tensor:
        """θ c for every neuron, to be added to fields of the shape of `states`; zero without a centre."""
        return states.new_zeros(()) if self.centre is None else self.threshold * self.centre

    def push_at(self, neuron: int) -> float:
        """θ c of one neuron."""
        if self.centre is None:
            return 0.0
        return self.threshold * float(self.centre if self.centre.ndim == 0 else self.centre[neuron])

    def energies(self, states: Tensor, fields: Tensor) -> Tensor:
        """E of states `(b, d)` from their fields `(b, d)` -> `(b,)`."""
        push = self.push(states)
        return -0.5 * (self.shift(states) * (fields - push)).sum(-1) - (push * states).sum(-1)

    def to(self, device: torch.device | str) -> "Centring":
        """The same on a device."""
        return Centring(None if self.centre is None else self.centre.to(device), self.threshold)


class QuadraticMemory(Memory):
    """`E(z) = -½ (z - c)ᵀ Ψ (z - c) - θ cᵀ z`, field `h = Ψ (z - c) + θ c`, with the diagonal of Ψ taken for zero."""

    def __init__(self, dim: int, couplings: Couplings, centring: Centring, count: int) -> None:
        self.dim = dim
        self._couplings = couplings
        self._centring = centring
        self._count = count

    def __len__(self) -> int:
        return self._count

    @property
    def symmetric(self) -> bool:
        """Whether Ψ is symmetric, so that there is an energy."""
        return self._couplings.symmetric

    @property
    def device(self) -> torch.device:
        """Where the couplings lie."""
        return self._couplings.device

    @property
    def threshold(self) -> float:
        """θ: the centre times this is added to every field."""
        return self._centring.threshold

    @property
    def centre(self) -> Tensor | None:
        """What is subtracted from every state: `(d,)`, or one number `()`, or None."""
        return self._centring.centre

    @property
    def nbytes(self) -> int:
        """Bytes of the couplings and of a centre."""
        return self._couplings.nbytes + self._centring.nbytes

    def couplings(self) -> Tensor:
        """Ψ with zero diagonal, `(d, d)` float32, a copy."""
        return self._couplings.dense().fill_diagonal_(0)

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`."""
        z = self._centring.shift(state)
        row = self._couplings.row(neuron)
        return z @ row - z[:, neuron] * row[neuron] + self._centring.push_at(neuron)

    def _move(self, device: torch.device) -> None:
        self._couplings, self._centring = self._couplings.to(device), self._centring.to(device)

    def _fields(self, states: Tensor) -> Tensor:
        z = self._centring.shift(states)
        return self._couplings.apply(z) - z * self._couplings.diagonal() + self._centring.push(z)

    def _energies(self, states: Tensor) -> Tensor:
        if not self.symmetric:
            raise NoEnergyError(f"energy: expected symmetric couplings, found those of {self!r}")
        return self._centring.energies(states, self._fields(states))

    def _centre_array(self) -> dict[str, np.ndarray]:
        return {} if self.centre is None else {"centre": self.centre.cpu().numpy()}


def restored_centring(header: dict[str, Any], arrays: dict[str, Any], dim: int) -> Centring:
    """The centring of a saved quadratic memory."""
    centre = as_centre(np.array(arrays["centre"]), dim, torch.device("cpu")) if "centre" in arrays else None
    return Centring(centre, float(header["threshold"]))


def as_centre(values: Any, dim: int, device: torch.device) -> Tensor:
    """A centre of d neurons as float32, `()` or `(d,)`, a copy; a named error unless its values lie in [-1, 1]."""
    try:
        centre = torch.as_tensor(values, dtype=torch.float32).to(device, copy=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RuleError(
            f"centre: expected 'auto', None, a number or a vector of {dim}, found {values!r:.60}"
        ) from error
    if centre.shape not in ((), (dim,)):
        raise DimensionError(f"centre: expected one number or shape ({dim},), found {tuple(centre.shape)}")
    if not bool((centre.abs() <= 1).all()):
        raise PatternError("centre: expected values in [-1, 1], found others")
    return centre
