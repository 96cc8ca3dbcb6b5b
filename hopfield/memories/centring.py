"""`Centring`: what a quadratic memory subtracts from its states, and the threshold that goes with it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hopfield.errors import DimensionError, PatternError, RuleError


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
        return 0 if self.centre is None else self.centre.numel() * self.centre.element_size()

    def shift(self, states: Tensor) -> Tensor:
        """States less the centre; same shape."""
        return states if self.centre is None else states - self.centre

    def push(self, states: Tensor) -> Tensor:
        """θ c for every neuron, to be added to fields of the shape of `states`; zeros without a centre."""
        if self.centre is None:
            return states.new_zeros(())
        return self.threshold * self.centre

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


def as_centre(values: Any, dim: int, device: torch.device) -> Tensor:
    """A centre of d neurons as float32, `()` or `(d,)`, a copy; a named error unless its values lie in [-1, 1]."""
    try:
        centre = torch.as_tensor(values, dtype=torch.float32).to(device, copy=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RuleError(f"centre: expected a number or a vector of {dim}, found {values!r:.60}") from error
    if centre.shape not in ((), (dim,)):
        raise DimensionError(f"centre: expected one number or shape ({dim},), found {tuple(centre.shape)}")
    if not bool((centre.abs() <= 1).all()):
        raise PatternError("centre: expected values in [-1, 1], found others")
    return centre
