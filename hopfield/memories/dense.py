"""`DenseAssociativeMemory`: energies steeper than quadratic, over packed patterns."""

import math
from collections.abc import Callable
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from hopfield.errors import RuleError, check_choice
from hopfield.memories import storage
from hopfield.memories.packed import PackedMemory, matrix_of, restored_masks
from maskstore import MaskMatrix

Shape = Literal["polynomial", "exponential"]


@storage.register
class DenseAssociativeMemory(PackedMemory):
    """`E(z) = -sum_a F(x_a . z)` over the stored patterns x_a.

    - `"polynomial"`: F(q) = d max(q / d, 0)**degree (Krotov and Hopfield, "Dense associative memory for pattern
      recognition", NeurIPS 2016). Holds `d**(degree - 1) / (2 (2 degree - 3)!! ln d)` patterns without errors.
    - `"exponential"`: E(z) = -log(sum_a exp(beta x_a . z)) / beta, which falls and rises with the sum of exponentials
      of Demircigil et al., "On a model of associative memory with huge storage capacity", J. Stat. Phys. 2017, and does
      not overflow. Holds `2**(d / 2)` patterns at beta = 1 or more, which is more than can be stored.

    A neuron's field is half the energy it gains by being +1 rather than -1, given the others, so asynchronous updates
    never raise E (Krotov and Hopfield 2016, equation 4); for the exponential, of the sum inside the logarithm, up to a
    positive factor. Fields of soft states extend this expression. The patterns are kept packed in the caller's
    `MaskMatrix`, one bit a neuron, and nothing else (a copy on the device, if that is not the CPU).

    Args:
        masks: The patterns, a bit a neuron. The matrix is shared, not copied.
        shape: "exponential" or "polynomial".
        degree: Degree of the polynomial, 2 to 30.
        beta: Steepness of the exponential, in (0, 100].
        device: Where fields are computed.

    Raises:
        RuleError: An unknown shape, or a number outside its range.
        DeviceError: Torch cannot use the device here.

    Examples:
        It holds more patterns than it has neurons:

        >>> import torch
        >>> from hopfield import DenseAssociativeMemory, patterns
        >>> stored = patterns.random_patterns(300, 64, torch.Generator().manual_seed(0))
        >>> memory = DenseAssociativeMemory.of_patterns(stored)
        >>> cues = patterns.flip(stored, 0.1, torch.Generator().manual_seed(1))
        >>> torch.equal(memory.recall(cues), stored)
        True
    """

    def __init__(
        self,
        masks: MaskMatrix,
        shape: Shape = "exponential",
        *,
        degree: int = 3,
        beta: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        check_choice("shape of the energy", shape, get_args(Shape))
        if not isinstance(degree, int) or not 2 <= degree <= 30 or not 0 < beta <= 100:
            raise RuleError(f"energy: expected a whole degree in 2..30 and beta in (0, 100], found {degree} and {beta}")
        super().__init__(masks, device)
        self.shape: Shape = shape
        self.degree = degree
        self.beta = float(beta)

    @classmethod
    def of_patterns(
        cls,
        patterns: Any,
        shape: Shape = "exponential",
        *,
        degree: int = 3,
        beta: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> Self:
        """A memory of patterns `(k, d)`, bool or -1/+1, in a matrix of its own. Other arguments are the class's."""
        return cls(matrix_of(patterns), shape, degree=degree, beta=beta, device=device)

    @property
    def limit(self) -> float:
        """Patterns without errors by theory; see the class's text."""
        if self.shape == "exponential":
            return math.pow(2.0, min(self.dim / 2, 1000))
        odd = math.prod(range(1, 2 * self.degree - 2, 2))
        return float(self.dim) ** (self.degree - 1) / (2 * odd * math.log(max(self.dim, 2)))

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`."""
        pull, self_pull = self._pulls(self._dot(state))
        return (pull @ self._column(neuron) + state[:, neuron] * self_pull).float()

    def _study(self, rows: np.ndarray, known: int) -> Callable[[], None]:
        return lambda: None  # the patterns are all there is

    def _fields(self, states: Tensor) -> Tensor:
        pull, self_pull = self._pulls(self._dot(states))
        return (self._weighted(pull) + states * self_pull[:, None]).float()

    def _energies(self, states: Tensor) -> Tensor:
        q = self._dot(states)
        if self.shape == "exponential":
            return -(torch.logsumexp(self.beta * q, dim=1) / self.beta).float()
        return -self._f(q).sum(dim=1).float()

    def _pulls(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Weight of each pattern in the field `(b, k)`, and of the state itself `(b,)`, from the overlaps q = X z.

        With s = x_ai and spins z = ±1 the gain is s (F(q) - F(q - 2)) if s z = 1 and s (F(q + 2) - F(q)) if not, and
        both are s (F(q + 2) - F(q - 2)) / 2 + z (2 F(q) - F(q - 2) - F(q + 2)) / 2; halved, that is the field.
        """
        if self.shape == "exponential":
            # (cosh 2b - 1) / sinh 2b = tanh b: the state's own part, once the sum is scaled to weights of one
            return torch.softmax(self.beta * q, dim=1), q.new_full((len(q),), -math.tanh(self.beta))
        above, here, below = self._f(q + 2), self._f(q), self._f(q - 2)
        return (above - below) / 4, (2 * here - below - above).sum(dim=1) / 4

    def _f(self, q: Tensor) -> Tensor:
        return self.dim * (q / self.dim).clamp(min=0) ** self.degree

    def _header(self) -> dict[str, Any]:
        return {"shape": self.shape, "degree": self.degree, "beta": self.beta} | self._masks_header()

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        masks = restored_masks(header, arrays)
        return cls(masks, header["shape"], degree=header["degree"], beta=header["beta"])

    def __repr__(self) -> str:
        return f"DenseAssociativeMemory({self.dim} neurons, {self.shape}, {len(self)} patterns, {self.nbytes} bytes)"
