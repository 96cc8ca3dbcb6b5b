"""`Covariance`: graded couplings for patterns with few ones."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from hopfield.errors import DeviceError, DimensionError, ForgetError, PatternError
from hopfield.memories import storage
from hopfield.memories.couplings import SymmetricCouplings
from hopfield.memories.sparse.base import SparseMemory, Threshold
from hopfield.patterns import as_patterns, to_soft_mask
from hopfield.theory import covariance_patterns
from maskstore.torch import as_device


@storage.register
class Covariance(SparseMemory):
    """Couplings are the covariance of the neurons over the patterns: `Ψ += (x - p) (x - p)ᵀ / (d p (1 - p))`.

    x are neurons that are on or off, and p is the use of each: the share of patterns in which it is on, by default
    `ones / d` for all. A neuron's drive is `Ψ (x - p) - (1/2 - p)`: at a stored pattern it is about 1/2 above zero for
    what is on and as much below zero for what is off. `E = -(x - p)ᵀ Ψ (x - p) + Σ (1 - 2 p) x`. Storing is
    incremental, and forgetting subtracts. `CoarseCovariance` has the same couplings in a fraction of the bytes.

    Args:
        dim: Number of neurons d, at least 2.
        ones: How many of them are on in a pattern.
        use: How often each neuron is on, `(d,)` in (0, 1), where that differs.
        threshold: "winners" or "inhibition".
        device: Where the couplings lie.

    Raises:
        DimensionError: `dim` is no whole number of at least 2, or `use` has another length.
        RuleError: An impossible number of ones, or an unknown threshold.
        PatternError: A use outside (0, 1).
        DeviceError: Torch cannot use the device here.

    Source:
        Tsodyks and Feigel'man, "The enhanced storage capacity in neural networks with low activity level", Europhysics
        Letters 1988.

    Examples:
        >>> import torch
        >>> from hopfield import Covariance, patterns
        >>> generator = torch.Generator().manual_seed(0)
        >>> stored = patterns.sparse_patterns(100, 500, 25, generator)
        >>> memory = Covariance(500, 25)
        >>> memory.store(stored)
        >>> cues = patterns.move_ones(stored, 3, generator)  # 3 of the 25 ones are elsewhere
        >>> torch.equal(memory.recall(cues), stored)
        True
        >>> memory.forget(stored[:1])
        >>> len(memory)
        99
    """

    def __init__(
        self,
        dim: int,
        ones: int,
        *,
        use: Any = None,
        threshold: Threshold = "winners",
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(dim, ones, threshold)
        where = as_device(device, DeviceError)
        level = torch.tensor(self.ones / self.dim) if use is None else torch.as_tensor(use, dtype=torch.float32)
        if use is not None and level.shape != (self.dim,):
            raise DimensionError(f"use: expected shape ({self.dim},), found {tuple(level.shape)}")
        if not bool(((level > 0) & (level < 1)).all()):
            raise PatternError("use: expected shares in (0, 1), found others")
        self._use = level.to(where, torch.float32, copy=True)
        self._couplings = SymmetricCouplings(torch.zeros((self.dim, self.dim), dtype=torch.float32, device=where))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the couplings and of the uses."""
        return self._couplings.nbytes + self._use.nbytes

    @property
    def device(self) -> torch.device:
        """Where the couplings lie."""
        return self._couplings.device

    @property
    def limit(self) -> float:
        """Random patterns of which 99 % are fixed points with winners; see `theory.covariance_patterns`."""
        return covariance_patterns(self.dim, self.ones)

    @property
    def use(self) -> Tensor:
        """The share of patterns in which a neuron is on, `(d,)` float32, a copy."""
        return self._use.expand(self.dim).clone()

    def couplings(self) -> Tensor:
        """Ψ with zero diagonal, `(d, d)` float32, a copy."""
        return self._couplings.dense().fill_diagonal_(0)

    def forget(self, patterns: Any) -> None:
        """Take stored patterns out again.

        The memory cannot check that it holds them: taking out a pattern that was never stored leaves its negative.

        Args:
            patterns: As in `store`.

        Raises:
            ForgetError: There are more patterns than were stored.
        """
        old = as_patterns(patterns, self.dim, device=self.device)
        if len(old) > self._count:
            raise ForgetError(f"forget: expected at most the {self._count} patterns stored, found {len(old)}")
        self._couplings = self._changed(old, -1.0)
        self._count -= len(old)

    def _changed(self, patterns: Tensor, sign: float) -> SymmetricCouplings:
        away = self._checked(patterns) - self._use
        spread = float((self._use * (1 - self._use)).expand(self.dim).sum())
        return SymmetricCouplings(self._couplings.dense().addmm_(away.T, away, alpha=sign / spread))

    def _learn(self, new: Tensor) -> Callable[[], None]:
        after = self._changed(new, 1.0)

        def commit() -> None:
            self._couplings = after
            self._count += len(new)

        return commit

    def _move(self, device: torch.device) -> None:
        self._couplings, self._use = self._couplings.to(device), self._use.to(device)

    def _pull(self, active: Tensor) -> Tensor:
        away = active - self._use
        return self._couplings.apply(away) - away * self._couplings.diagonal()

    def _drives(self, active: Tensor) -> Tensor:
        return self._pull(active) - (0.5 - self._use)

    def _energies(self, states: Tensor) -> Tensor:
        active = to_soft_mask(states)
        return -((active - self._use) * self._pull(active)).sum(1) + ((1 - 2 * self._use) * active).sum(1)

    def _header(self) -> dict[str, Any]:
        return self._sparse_header()

    def _arrays(self) -> dict[str, Any]:
        matrix = self._couplings.dense().cpu().numpy()
        return {"couplings": matrix[np.triu_indices(self.dim)], "use": self._use.cpu().numpy()}

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        dim, upper = storage.natural(header, "dim"), arrays["couplings"]
        if upper.shape != (dim * (dim + 1) // 2,):  # before anything of d x d is made
            raise DimensionError(f"couplings: expected {dim * (dim + 1) // 2} numbers, found shape {upper.shape}")
        use = arrays["use"] if arrays["use"].ndim else np.full(dim, arrays["use"])
        memory = cls(dim, storage.natural(header, "ones"), use=use, threshold=header["threshold"])
        if not arrays["use"].ndim:
            memory._use = memory._use[0].clone()
        matrix = np.zeros((dim, dim), dtype=np.float32)
        matrix[np.triu_indices(dim)] = upper  # all that `SymmetricCouplings` reads
        memory._couplings = SymmetricCouplings(torch.from_numpy(matrix))
        memory._count = storage.natural(header, "count")
        return memory

    def __repr__(self) -> str:
        return self._named(self.threshold)
