"""`DualMemory`: a quadratic memory that never builds Ψ, over packed patterns of any length."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from hopfield import files as storage
from hopfield.errors import PatternError, StoreError
from hopfield.memories import dual_kernels as dual
from hopfield.memories.centring import Centring
from hopfield.memories.packed import PackedMemory, matrix_of, restored_masks
from hopfield.rules import Hebbian, Rule, from_settings
from maskstore import MaskMatrix


@storage.register
class DualMemory(PackedMemory):
    """The energy and field of `HopfieldNetwork`, written over the patterns: `Ψ = Xᵀ C X` with zero diagonal.

    X are the k patterns minus the centre (one number for all neurons), C is k x k and follows from the rule: I / d for
    `Hebbian`, the inverse of the Gram matrix for `PseudoInverse`, and a recursion for `Storkey("first-order")`. Others
    have no such form. A field costs two passes over packed bits instead of d² products, so d can be millions.

    It saves nothing: the patterns are the memory, `k d / 8` bytes (twice, if it computes on another device than the
    CPU), with 4 d bytes for Ψ's diagonal and 16 k² for C and the Gram matrix beside them. The matrix of patterns is
    shared with the caller, not copied; add to it through `store` only.
    """

    def __init__(
        self,
        masks: MaskMatrix,
        rule: Rule | None = None,
        *,
        centre: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        if not -1 < centre < 1:
            raise PatternError(f"centre: expected a number in (-1, 1), found {centre}")
        super().__init__(masks, device)
        self.rule = rule or Hebbian()
        self._make = dual.kernel_of(self.rule)
        self._centre = float(centre)
        self._centring = Centring()
        self._gram: np.ndarray = np.zeros((0, 0))
        self._kernel: Tensor
        self._diagonal: Tensor
        self._study(masks.rows, 0)()

    @classmethod
    def of_patterns(
        cls, patterns: Any, rule: Rule | None = None, *, centre: float = 0.0, device: torch.device | str = "cpu"
    ) -> Self:
        """A memory of patterns `(k, d)`, bool or -1/+1."""
        return cls(matrix_of(patterns), rule, centre=centre, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of packed patterns, diagonal, C and Gram matrix."""
        return self.masks.nbytes + self._packed.nbytes + self._diagonal.nbytes + self._kernel.nbytes + self._gram.nbytes

    @property
    def limit(self) -> float:
        """Patterns the rule holds by its theory."""
        return self.rule.limit(self.dim)

    def to(self, device: torch.device | str) -> Self:
        """Move to a device; returns itself."""
        self._move(device)
        self._centring = self._centring.to(self.device)
        self._kernel, self._diagonal = self._kernel.to(self.device), self._diagonal.to(self.device)
        return self

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`."""
        z = self._centring.shift(state)
        column = self._column(neuron) - self._centre
        whole = self._overlaps(z) @ self._kernel @ column - z[:, neuron] * self._diagonal[neuron]
        return (whole + self._centring.push_at(neuron)).float()

    def _fields(self, states: Tensor) -> Tensor:
        z = self._centring.shift(states)
        weights = self._overlaps(z) @ self._kernel
        whole = self._weighted(weights) - self._centre * weights.sum(dim=1, keepdim=True)
        return (whole - z * self._diagonal + self._centring.push(z)).float()

    def _energies(self, states: Tensor) -> Tensor:
        return self._centring.energies(states, self._fields(states))

    def _overlaps(self, shifted: Tensor) -> Tensor:
        """`X (z - c)`: `(b, d)` -> `(b, k)` float64."""
        if len(self._gram) != len(self.masks):
            raise _changed(len(self._gram), len(self.masks))
        return self._dot(shifted) - self._centre * shifted.sum(dim=1, keepdim=True)

    def _study(self, rows: np.ndarray, known: int) -> Callable[[], None]:
        if known and known != len(self._gram):
            raise _changed(len(self._gram), known)
        gram = dual.gram(rows, self.dim, self._centre, self._gram[:known, :known])
        kernel = torch.from_numpy(self._make(gram, self.dim))
        diagonal = dual.diagonal(rows, self.masks.spec, self._centre, kernel)
        threshold = 0.0
        if self._centre and len(rows):
            gains = dual.gains(rows, self.masks.spec, self._centre, gram, kernel, diagonal)[known:]
            threshold = float((known * self._centring.threshold + gains.sum()) / len(rows))
        centre = torch.tensor(self._centre) if self._centre else None
        where = self.device

        def finish() -> None:
            self._gram = gram
            self._kernel, self._diagonal = kernel.to(where), diagonal.to(where)
            self._centring = Centring(centre, threshold).to(where)

        return finish

    def _header(self) -> dict[str, Any]:
        own = {"rule": self.rule.settings(), "centre": self._centre, "threshold": self._centring.threshold}
        return own | self._masks_header()

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        memory = cls(restored_masks(header, arrays), from_settings(header["rule"]), centre=header["centre"])
        memory._centring = Centring(memory._centring.centre, float(header["threshold"]))
        return memory

    def __repr__(self) -> str:
        return f"DualMemory({self.dim} neurons, {self.rule!r}, {len(self)} patterns, {self.nbytes} bytes)"


def _changed(learnt: int, found: int) -> StoreError:
    return StoreError(
        f"the shared mask matrix: expected the {learnt} patterns that were learnt, found {found}; add patterns through "
        "store()"
    )
