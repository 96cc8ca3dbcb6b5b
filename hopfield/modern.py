"""`DenseAssociativeMemory`: energies steeper than quadratic, over packed patterns."""

import math
import warnings
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield import storage
from hopfield.errors import CapacityWarning, DimensionError, RuleError
from hopfield.memory import Memory
from hopfield.packed import add_patterns, bit, spins_dot, spins_weighted
from maskstore import Mask, MaskMatrix, MaskSpec


@storage.register
class DenseAssociativeMemory(Memory):
    """`E(z) = -sum_a F(x_a . z)` over the stored patterns x_a.

    - `"polynomial"`: F(q) = d max(q / d, 0)**degree (Krotov and Hopfield, "Dense associative memory for pattern
      recognition", NeurIPS 2016). Holds `d**(degree - 1) / (2 (2 degree - 3)!! ln d)` patterns without errors.
    - `"exponential"`: E(z) = -log(sum_a exp(beta x_a . z)) / beta, which falls and rises with the sum of exponentials
      of Demircigil et al., "On a model of associative memory with huge storage capacity", J. Stat. Phys. 2017, and does
      not overflow. Holds `2**(d / 2)` patterns, more than can be stored.

    A neuron's field is half the energy it gains by being +1 rather than -1, given the others, so asynchronous updates
    never raise E (Krotov and Hopfield 2016, equation 4); for the exponential, of the sum inside the logarithm, up to a
    positive factor. Fields of soft states extend this expression. The patterns are kept packed in the caller's
    `MaskMatrix`, one bit a neuron, and nothing else: a Ψ takes 2 d² bytes. Fields are computed on the CPU.
    """

    def __init__(
        self,
        masks: MaskMatrix,
        shape: Literal["polynomial", "exponential"] = "exponential",
        *,
        degree: int = 3,
        beta: float = 1.0,
    ) -> None:
        if shape not in ("polynomial", "exponential"):
            raise RuleError(f"shape of the energy: expected 'polynomial' or 'exponential', found {shape!r}")
        if not 2 <= degree <= 30 or not 0 < beta <= 100:
            raise RuleError(f"energy: expected degree in 2..30 and beta in (0, 100], found {degree} and {beta}")
        self.masks = masks
        self.shape: Literal["polynomial", "exponential"] = shape
        self.degree = degree
        self.beta = float(beta)

    @classmethod
    def of_patterns(
        cls, patterns: Any, shape: Literal["polynomial", "exponential"] = "exponential", *, degree: int = 3
    ) -> Self:
        """A memory of patterns `(k, d)`, bool or -1/+1."""
        signs = pt.as_patterns(patterns)
        masks = MaskMatrix(MaskSpec({"pattern": (signs.shape[1],)}))
        add_patterns(masks, signs)
        return cls(masks, shape, degree=degree)

    @property
    def dim(self) -> int:
        """Number of neurons d."""
        return self.masks.spec.bits

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed patterns."""
        return self.masks.nbytes

    @property
    def limit(self) -> float:
        """Patterns without errors by theory; see the class's text."""
        if self.shape == "exponential":
            return math.pow(2.0, min(self.dim / 2, 1000))
        odd = math.prod(range(1, 2 * self.degree - 2, 2))
        return float(self.dim) ** (self.degree - 1) / (2 * odd * math.log(max(self.dim, 2)))

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def store(self, patterns: Any) -> None:
        """Add patterns `(k, d)`; nothing is learnt, they are the memory."""
        new = pt.as_patterns(patterns, self.dim)
        if len(self) + len(new) > self.limit:
            warnings.warn(
                f"{len(self) + len(new)} patterns on {self.dim} neurons: expected at most {self.limit:.0f} by theory, "
                "beyond it patterns are lost",
                CapacityWarning,
                stacklevel=2,
            )
        add_patterns(self.masks, new)

    def field(self, state: Any) -> Tensor:
        """Local field, the shape of `state`, in [-1, 1] for the exponential and about [-degree, degree] else."""
        z = self._state(state)
        rows = z.reshape(-1, self.dim).numpy()
        pull, self_pull = self._pulls(spins_dot(self.masks, rows))
        fields = spins_weighted(self.masks, pull) + rows * self_pull[:, None]
        return torch.from_numpy(fields.astype(np.float32)).reshape(z.shape)

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`."""
        rows = state.numpy()
        pull, self_pull = self._pulls(spins_dot(self.masks, rows))
        column = np.array([2.0 * bit(self.masks, row, neuron) - 1.0 for row in range(len(self))])
        return torch.from_numpy((pull @ column + rows[:, neuron] * self_pull).astype(np.float32))

    def energy(self, state: Any) -> Tensor:
        """Energy: `(d,)` -> scalar, `(b, d)` -> `(b,)`; about -d at a stored pattern."""
        z = self._state(state)
        q = spins_dot(self.masks, z.reshape(-1, self.dim).numpy())
        if self.shape == "exponential":
            top = q.max(axis=1, initial=-np.inf)
            values = -top - np.log(np.exp(self.beta * (q - top[:, None])).sum(axis=1)) / self.beta
        else:
            values = -self._f(q).sum(axis=1)
        return torch.from_numpy(values.astype(np.float32)).reshape(z.shape[:-1])

    def _pulls(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight of each pattern in the field `(b, k)`, and of the state itself `(b,)`, from the overlaps q = X z.

        With s = x_ai and spins z = ±1 the gain is s (F(q) - F(q - 2)) if s z = 1 and s (F(q + 2) - F(q)) if not, and
        both are s (F(q + 2) - F(q - 2)) / 2 + z (2 F(q) - F(q - 2) - F(q + 2)) / 2; halved, that is the field.
        """
        if self.shape == "exponential":
            weights = np.exp(self.beta * (q - q.max(axis=1, keepdims=True, initial=-np.inf)))
            weights /= weights.sum(axis=1, keepdims=True)
            # (cosh 2b - 1) / sinh 2b = tanh b: the state's own part, once the sum is scaled by its largest term
            return weights, np.full(len(q), -math.tanh(self.beta))
        above, here, below = self._f(q + 2), self._f(q), self._f(q - 2)
        return (above - below) / 4, (2 * here - below - above).sum(axis=1) / 4

    def _f(self, q: np.ndarray) -> np.ndarray:
        result: np.ndarray = self.dim * np.maximum(q / self.dim, 0) ** self.degree
        return result

    def _header(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "degree": self.degree,
            "beta": self.beta,
            "spec": self.masks.spec.to_json(),
            "names": list(self.masks.names),
        }

    def _arrays(self) -> dict[str, Any]:
        return {"patterns": np.ascontiguousarray(self.masks.rows)}

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        spec, rows = MaskSpec.from_json(header["spec"]), arrays["patterns"]
        if rows.shape != (len(header["names"]), spec.words):
            raise DimensionError(f"patterns: expected {len(header['names'])} rows of {spec.words}, found {rows.shape}")
        masks = MaskMatrix(spec, [Mask(spec, row) for row in rows], header["names"])
        return cls(masks, header["shape"], degree=header["degree"], beta=header["beta"])

    def __repr__(self) -> str:
        return f"DenseAssociativeMemory({self.dim} neurons, {self.shape}, {len(self)} patterns, {self.nbytes} bytes)"
