"""`DualMemory`: a quadratic memory that never builds Ψ, over packed patterns of any length."""

import warnings
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from hopfield import dual_kernels as dual
from hopfield import patterns as pt
from hopfield import storage
from hopfield.errors import CapacityWarning, DimensionError, ForgetError, PatternError, StoreError
from hopfield.memory import Memory
from hopfield.packed import add_patterns, bit, spins_dot, spins_weighted
from hopfield.rules import Hebbian, Rule, from_settings
from maskstore import Mask, MaskMatrix, MaskSpec


@storage.register
class DualMemory(Memory):
    """The energy and field of `HopfieldNetwork`, written over the patterns: `Ψ = Xᵀ C X` with zero diagonal.

    X are the k patterns minus the centre (one number for all neurons), C is k x k and follows from the rule: I / d for
    `Hebbian`, the inverse of the Gram matrix for `PseudoInverse`, and a recursion for `Storkey("first-order")`. Others
    have no such form. A field costs two passes over packed bits instead of d² products, so d can be millions.

    It saves nothing: the patterns are the memory, `k d / 8` bytes, with 4 d bytes for Ψ's diagonal and 16 k² for C and
    the Gram matrix beside them. Fields are computed on the CPU. The matrix of patterns is shared with the caller, not
    copied; add to it through `store` only.
    """

    def __init__(self, masks: MaskMatrix, rule: Rule | None = None, *, centre: float = 0.0) -> None:
        if not -1 < centre < 1:
            raise PatternError(f"centre: expected a number in (-1, 1), found {centre}")
        self.rule = rule or Hebbian()
        self._make = dual.kernel_of(self.rule)
        self._centre = float(centre)
        self.masks = masks
        self._gram = np.zeros((0, 0))
        self._threshold = 0.0
        self._learn()

    @classmethod
    def of_patterns(cls, patterns: Any, rule: Rule | None = None, *, centre: float = 0.0) -> Self:
        """A memory of patterns `(k, d)`, bool or -1/+1."""
        signs = pt.as_patterns(patterns)
        masks = MaskMatrix(MaskSpec({"pattern": (signs.shape[1],)}))
        add_patterns(masks, signs)
        return cls(masks, rule, centre=centre)

    @property
    def dim(self) -> int:
        """Number of neurons d."""
        return self.masks.spec.bits

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def nbytes(self) -> int:
        """Bytes of packed patterns, diagonal, C and Gram matrix."""
        return self.masks.nbytes + self._diagonal.nbytes + self._kernel.nbytes + self._gram.nbytes

    @property
    def limit(self) -> float:
        """Patterns the rule holds by its theory."""
        return self.rule.limit(self.dim)

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def store(self, patterns: Any) -> None:
        """Add patterns `(k, d)`; the packed matrix grows by them, and C is computed anew from the Gram matrix."""
        new = pt.as_patterns(patterns, self.dim)
        if len(self) + len(new) > self.limit:
            warnings.warn(
                f"{len(self) + len(new)} patterns on {self.dim} neurons: expected at most {self.limit:.0f} by the "
                f"theory of {self.rule.id!r}, beyond it patterns are lost",
                CapacityWarning,
                stacklevel=2,
            )
        self._check_unchanged()
        add_patterns(self.masks, new)
        self._learn()

    def forget(self, name: str) -> None:
        """Take the pattern of that name out; what stays is as if it had never been stored."""
        if name not in self.masks.names:
            raise ForgetError(f"forget: expected one of {len(self)} stored names, found {name!r}")
        kept = [other for other in self.masks.names if other != name]
        self.masks = self.masks.select(kept)
        self._gram, self._threshold = np.zeros((0, 0)), 0.0
        self._learn()

    def field(self, state: Any) -> Tensor:
        """Local field `h = Ψ (z - c) + θ c`, the shape of `state`."""
        z = self._state(state)
        shifted = (z.reshape(-1, self.dim) - self._centre).numpy()
        self._check_unchanged()
        result = self._expand(self._overlaps(shifted) @ self._kernel) - shifted * self._diagonal
        result += self._threshold * self._centre
        return torch.from_numpy(result.astype(np.float32)).reshape(z.shape)

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`."""
        shifted = (state - self._centre).numpy()
        bits = np.array([bit(self.masks, row, neuron) for row in range(len(self))], dtype=np.float64)
        column = 2 * bits - 1 - self._centre
        fields = np.asarray(self._overlaps(shifted) @ self._kernel @ column)
        fields += self._threshold * self._centre - shifted[:, neuron] * self._diagonal[neuron]
        return torch.from_numpy(fields.astype(np.float32))

    def energy(self, state: Any) -> Tensor:
        """`E = -½ (z - c)ᵀ Ψ (z - c) - θ cᵀ z`: `(d,)` -> scalar, `(b, d)` -> `(b,)`."""
        z = self._state(state)
        push = self._threshold * self._centre
        return -0.5 * ((z - self._centre) * (self.field(z) - push)).sum(-1) - push * z.sum(-1)

    def _overlaps(self, shifted: np.ndarray) -> np.ndarray:
        """`X (z - c)`: `(b, d)` -> `(b, k)` float64."""
        result: np.ndarray = spins_dot(self.masks, shifted) - self._centre * shifted.sum(axis=1, keepdims=True)
        return result

    def _expand(self, weights: np.ndarray) -> np.ndarray:
        """`Xᵀ a` for each row of weights: `(b, k)` -> `(b, d)`."""
        result: np.ndarray = spins_weighted(self.masks, weights) - self._centre * weights.sum(axis=1, keepdims=True)
        return result

    def _learn(self) -> None:
        old = len(self._gram)
        self._gram = dual.gram(self.masks, self._centre, self._gram)
        self._kernel = self._make(self._gram, self.dim)
        self._diagonal = dual.diagonal(self.masks, self._centre, self._kernel)
        if self._centre and len(self) > old:
            gains = self._gains()[old:]
            self._threshold = float((old * self._threshold + gains.sum()) / len(self))

    def _gains(self) -> np.ndarray:
        """`x . Ψ x / x . x` of every pattern, Ψ with zero diagonal, `(k,)`: x² = 1 + c² - 2 c z for spins z."""
        whole = np.einsum("ab,bc,ca->a", self._gram, self._kernel, self._gram)
        spins = spins_dot(self.masks, self._diagonal[None])[0]
        own = (1 + self._centre**2) * self._diagonal.sum(dtype=np.float64) - 2 * self._centre * spins
        result: np.ndarray = (whole - own) / self._gram.diagonal().clip(min=1e-30)
        return result

    def _check_unchanged(self) -> None:
        if len(self._kernel) != len(self.masks):
            raise StoreError(
                f"the shared mask matrix: expected the {len(self._kernel)} patterns that were learnt, found "
                f"{len(self.masks)}; add patterns through store()"
            )

    def _header(self) -> dict[str, Any]:
        return {
            "rule": self.rule.settings(),
            "centre": self._centre,
            "threshold": self._threshold,
            "spec": self.masks.spec.to_json(),
            "names": list(self.masks.names),
        }

    def _arrays(self) -> dict[str, Any]:
        return {"patterns": np.ascontiguousarray(self.masks.rows)}

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        spec = MaskSpec.from_json(header["spec"])
        rows = arrays["patterns"]
        if rows.shape != (len(header["names"]), spec.words):
            raise DimensionError(f"patterns: expected {len(header['names'])} rows of {spec.words}, found {rows.shape}")
        masks = MaskMatrix(spec, [Mask(spec, row) for row in rows], header["names"])
        memory = cls(masks, from_settings(header["rule"]), centre=header["centre"])
        memory._threshold = float(header["threshold"])
        return memory

    def __repr__(self) -> str:
        return f"DualMemory({self.dim} neurons, {self.rule!r}, {len(self)} patterns, {self.nbytes} bytes)"
