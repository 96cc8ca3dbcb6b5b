"""`QuadraticMemory`: what memories with a matrix of couplings share, however coarse its numbers are."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hopfield.errors import NoEnergyError
from hopfield.memories.base import Memory
from hopfield.memories.centring import Centring, as_centre
from hopfield.memories.couplings import Couplings


class QuadraticMemory(Memory):
    """`E(z) = -½ (z - c)ᵀ Ψ (z - c) - θ cᵀ z`, field `h = Ψ (z - c) + θ c`, with the diagonal of Ψ taken for zero."""

    def __init__(self, dim: int, couplings: Couplings, centring: Centring, count: int) -> None:
        self._dim = dim
        self._couplings = couplings
        self._centring = centring
        self._count = count

    @property
    def dim(self) -> int:
        """Number of neurons d."""
        return self._dim

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

    def couplings(self) -> Tensor:
        """Ψ with zero diagonal, `(d, d)` float32, a copy."""
        return self._couplings.dense().fill_diagonal_(0)

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`."""
        z = self._centring.shift(state)
        row = self._couplings.row(neuron)
        return z @ row - z[:, neuron] * row[neuron] + self._centring.push_at(neuron)

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
    centre = as_centre(arrays["centre"], dim, torch.device("cpu")) if "centre" in arrays else None
    return Centring(centre, float(header["threshold"]))
