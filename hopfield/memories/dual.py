"""`DualMemory`: a quadratic memory that never builds Ψ, over packed patterns of any length."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from hopfield.errors import PatternError, RuleError, StoreError
from hopfield.memories import storage
from hopfield.memories.packed import PackedMemory, matrix_of, restored_masks
from hopfield.memories.quadratic import Centring
from hopfield.rules import NEW_DIRECTION, Hebbian, PseudoInverse, Rule, Storkey, from_settings
from maskstore import MaskMatrix, MaskSpec
from maskstore.torch import packed_bytes, unpacked_tiles

Kernel = Callable[[np.ndarray, int], np.ndarray]
"""Gram matrix `(k, k)` float64 and d -> C `(k, k)` float64."""


@storage.register
class DualMemory(PackedMemory):
    """The energy and field of `HopfieldNetwork`, written over the patterns: `Ψ = Xᵀ C X` with zero diagonal.

    X are the k patterns minus the centre (one number for all neurons), C is k x k and follows from the rule: I / d for
    `Hebbian`, the inverse of the Gram matrix for `PseudoInverse`, and a recursion for `Storkey("first-order")`. Others
    have no such form. A field costs two passes over packed bits instead of d² products, so d can be millions.

    It saves nothing: the patterns are the memory, `k d / 8` bytes (twice, if it computes on another device than the
    CPU), with 4 d bytes for Ψ's diagonal and 16 k² for C and the Gram matrix beside them.

    Args:
        masks: The patterns, a bit a neuron. The matrix is shared, not copied; add to it through `store` only.
        rule: `Hebbian()` (by default), `PseudoInverse()` or `Storkey()`.
        centre: One number in (-1, 1) that is subtracted from patterns and states, such as the patterns' activity.
        device: Where fields are computed.

    Raises:
        PatternError: The centre lies outside (-1, 1).
        RuleError: A rule without such a form.
        DeviceError: Torch cannot use the device here.

    Examples:
        A memory over the masks of a network with 60 000 weights, whose Ψ would take 14 GB:

        >>> import torch
        >>> from hopfield import DualMemory, PseudoInverse, patterns
        >>> from maskstore import Mask, MaskMatrix, MaskSpec
        >>> spec = MaskSpec({"fc1": (200, 250), "fc2": (40, 250)})
        >>> stored = patterns.random_patterns(8, spec.bits, torch.Generator().manual_seed(0))
        >>> masks = MaskMatrix(spec, [Mask.from_flat(row > 0, spec) for row in stored.numpy()])
        >>> memory = DualMemory(masks, PseudoInverse())
        >>> cue = patterns.flip(stored[3:4], 0.2, torch.Generator().manual_seed(1))
        >>> torch.equal(memory.recall(cue), stored[3:4])
        True
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
        self._make = _kernel_of(self.rule)
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
        """A memory of patterns `(k, d)`, bool or -1/+1, in a matrix of its own. Other arguments are the class's."""
        return cls(matrix_of(patterns), rule, centre=centre, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of packed patterns, diagonal, C and Gram matrix."""
        return super().nbytes + self._diagonal.nbytes + self._kernel.nbytes + self._gram.nbytes

    @property
    def limit(self) -> float:
        """Patterns the rule holds by its theory."""
        return self.rule.limit(self.dim)

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`."""
        z = self._centring.shift(state)
        column = self._column(neuron) - self._centre
        whole = self._overlaps(z) @ self._kernel @ column - z[:, neuron] * self._diagonal[neuron]
        return (whole + self._centring.push_at(neuron)).float()

    def _move(self, device: torch.device) -> None:
        super()._move(device)
        self._centring = self._centring.to(device)
        self._kernel, self._diagonal = self._kernel.to(device), self._diagonal.to(device)

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
        gram = _gram_matrix(rows, self.dim, self._centre, self._gram[:known, :known])
        kernel = torch.from_numpy(self._make(gram, self.dim))
        diagonal = _diagonal_of(rows, self.masks.spec, self._centre, kernel)
        threshold = 0.0
        if self._centre and len(rows):
            gains = _gains(rows, self.masks.spec, self._centre, gram, kernel, diagonal)[known:]
            threshold = float((known * self._centring.threshold + gains.sum()) / len(rows))
        centre = torch.tensor(self._centre, dtype=torch.float32) if self._centre else None

        def finish() -> None:
            self._gram = gram
            self._kernel, self._diagonal = kernel.to(self.device), diagonal.to(self.device)
            self._centring = Centring(centre, threshold).to(self.device)

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


def _kernel_of(rule: Rule) -> Kernel:
    """How a rule's C follows from the Gram matrix; RuleError for rules whose couplings are not of the form Xᵀ C X."""
    if isinstance(rule, Hebbian):
        return _hebbian
    if isinstance(rule, PseudoInverse):
        return _pseudo_inverse
    if isinstance(rule, Storkey) and rule.variant == "first-order":
        return _first_order_storkey
    raise RuleError(f"dual memory: expected Hebbian, PseudoInverse or Storkey('first-order'), found {rule!r}")


def _gram_matrix(rows: np.ndarray, dim: int, centre: float, known: np.ndarray) -> np.ndarray:
    """`X Xᵀ`, `(k, k)` float64, of packed patterns `(k, words)`; `known` is its upper left part, computed before."""
    k, old = len(rows), len(known)
    result = np.zeros((k, k))
    result[:old, :old] = known
    sums = 2.0 * np.bitwise_count(rows).sum(axis=1, dtype=np.int64) - dim  # of each pattern's spins
    for i in range(old, k):
        differing = np.bitwise_count(rows[: i + 1] ^ rows[i]).sum(axis=1, dtype=np.int64)
        row = dim - 2.0 * differing - centre * (sums[: i + 1] + sums[i]) + centre**2 * dim
        result[i, : i + 1] = result[: i + 1, i] = row
    return result


def _diagonal_of(rows: np.ndarray, spec: MaskSpec, centre: float, kernel: Tensor) -> Tensor:
    """Diagonal of `Xᵀ C X`, `(d,)` float32."""
    result = torch.zeros(spec.bits, dtype=torch.float32)
    if len(rows):
        weights = kernel.float()
        for flat, bits in unpacked_tiles(packed_bytes(rows), spec):
            x = 2 * bits - 1 - centre  # (k, t)
            result[flat] = (x * (weights @ x)).sum(dim=0)
    return result


def _gains(
    rows: np.ndarray, spec: MaskSpec, centre: float, gram: np.ndarray, kernel: Tensor, diagonal: Tensor
) -> np.ndarray:
    """`x . Ψ x / x . x` of every pattern, Ψ with zero diagonal, `(k,)`: x² = 1 + c² - 2 c z for spins z."""
    whole = np.einsum("ab,bc,ca->a", gram, kernel.numpy(), gram)
    spins = torch.zeros(len(rows), dtype=torch.float64)
    for flat, bits in unpacked_tiles(packed_bytes(rows), spec):
        spins += (2 * bits - 1) @ diagonal[flat]
    own = (1 + centre**2) * float(diagonal.sum(dtype=torch.float64)) - 2 * centre * spins.numpy()
    result: np.ndarray = (whole - own) / gram.diagonal().clip(min=1e-30)
    return result


def _hebbian(gram: np.ndarray, dim: int) -> np.ndarray:
    return np.eye(len(gram)) / dim


def _pseudo_inverse(gram: np.ndarray, dim: int) -> np.ndarray:
    # the dense rule leaves out the same directions: those in which patterns lie in the span of others
    values, vectors = np.linalg.eigh(gram)
    kept = values > NEW_DIRECTION * dim
    result: np.ndarray = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    return result


def _first_order_storkey(gram: np.ndarray, dim: int) -> np.ndarray:
    """C of `Ψ = Xᵀ C X - s I`: storing z adds `(1 + 2 s) / d` for itself and `-C X z / d` against the earlier ones.

    It follows from h = Xᵀ C X z - s z put into the rule; s grows by 1/d with every pattern.
    """
    k = len(gram)
    kernel = np.zeros((k, k))
    shrink = 0.0
    for n in range(k):
        known = kernel[:n, :n] @ gram[:n, n]
        kernel[n, :n] = kernel[:n, n] = -known / dim
        kernel[n, n] = (1 + 2 * shrink) / dim
        shrink += 1 / dim
    return kernel
