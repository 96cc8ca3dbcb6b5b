"""`CoarseCovariance`: couplings for patterns with few ones, in 8, 2 or 1 bits, each stored once."""

import math
from collections.abc import Callable
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from hopfield.errors import DimensionError, MemoryFileError, RuleError, StoreError, check_choice
from hopfield.memories import storage
from hopfield.memories.couplings import Couplings, SymmetricCouplings
from hopfield.memories.sparse.base import SparseMemory, Threshold, ones_of
from hopfield.memories.sparse.covariance import Covariance
from hopfield.memories.sparse.teaching import Teaching, taught
from hopfield.memories.sparse.tiles import SymmetricBits
from hopfield.patterns import as_patterns, to_bits, to_soft_mask

Precision = Literal["int8", "ternary", "one-bit"]


@storage.register
class CoarseCovariance(SparseMemory):
    """Couplings `Ψ_ij = scale q_ij` in few bits, each stored once, and a number of float32 for each neuron.

    - `"int8"`: q in -127..127; d² / 2 bytes.
    - `"ternary"`: q in -1, 0, 1, where 0 is below 0.7 of the mean |Ψ_ij|; d² / 8 bytes.
    - `"one-bit"`: q in -1, 1; d² / 16 bytes.

    Make it in one of two ways. `of(memory, precision)` rounds the couplings of a `Covariance`: quick, and holds 2 / π
    as many patterns with one bit. `learnt(patterns)` learns one-bit couplings for these patterns: it holds several
    times as many, and is the one memory here that can be smaller than the packed patterns.

    The drive is `Ψ x - offset`, `E = -xᵀ Ψ x + 2 offset · x`. Such a memory cannot store more.

    Source:
        Sompolinsky, "Neural networks with nonlinear synapses and a static noise", Phys. Rev. A 1986, for the 2 / π.

    Examples:
        >>> import torch
        >>> from hopfield import CoarseCovariance, Covariance, patterns
        >>> generator = torch.Generator().manual_seed(0)
        >>> stored = patterns.sparse_patterns(60, 500, 25, generator)
        >>> graded = Covariance(500, 25)
        >>> graded.store(stored)
        >>> small = CoarseCovariance.of(graded, "one-bit")
        >>> torch.equal(small.recall(patterns.move_ones(stored, 2, generator)), stored)
        True
        >>> graded.nbytes, small.nbytes
        (627220, 20432)
    """

    def __init__(
        self,
        precision: Precision,
        planes: tuple[Couplings, ...],
        scale: float,
        offset: Tensor,
        *,
        ones: int,
        count: int,
        threshold: Threshold = "winners",
        limit: float,
    ) -> None:
        super().__init__(len(offset), ones, threshold)
        self.precision: Precision = precision
        self._planes, self._scale, self._offset = planes, scale, offset
        self._count, self._limit = count, limit

    @classmethod
    def of(cls, memory: Covariance, precision: Precision) -> Self:
        """Round the couplings of a memory.

        The scale is such that drives keep their mean size at the patterns.

        Args:
            memory: The memory; it stays as it is.
            precision: "int8", "ternary" or "one-bit"; see the class's text.

        Raises:
            RuleError: Another memory than a `Covariance`, or an unknown precision.
        """
        check_choice("precision", precision, get_args(Precision))
        if not isinstance(memory, Covariance):
            raise RuleError(f"CoarseCovariance: expected a Covariance, found {memory!r:.60}")
        matrix = memory.couplings()
        planes: tuple[Couplings, ...]
        if precision == "int8":
            step = float(matrix.abs().max()) / 127 or 1.0
            planes, held = (SymmetricCouplings((matrix / step).round().to(torch.int8)),), 1.0
        elif precision == "ternary":
            edge = 0.7 * float(matrix.abs().mean())
            signs = (SymmetricBits.of(matrix - edge), SymmetricBits.of(-matrix - edge))
            planes, held = tuple(plane.to(memory.device) for plane in signs), 0.81
        else:
            planes, held = (SymmetricBits.of(matrix).to(memory.device),), 2 / math.pi
        rounded = cls(
            *(precision, planes, 1.0, torch.zeros(memory.dim, device=memory.device)),
            ones=memory.ones,
            count=len(memory),
            threshold=memory.threshold,
            limit=held * memory.limit,
        )
        # <Ψ, C> is the mean drive of the patterns by couplings Ψ, C their covariance
        rounded._scale = float(matrix.square().sum() / (matrix * rounded.couplings()).sum().clamp(min=1e-30)) or 1.0
        use = memory.use
        rounded._offset = rounded._times(use[None])[0] + 0.5 - use
        return rounded

    @classmethod
    def learnt(cls, patterns: Any, teaching: Teaching = Teaching()) -> Self:
        """Learn one-bit couplings that hold patterns, and recall them from cues of which some ones are elsewhere.

        Args:
            patterns: `(k, d)` bool or -1/+1, all with the same number of ones.
            teaching: How long, with which cues, from which seed.

        Returns:
            A memory with `threshold="winners"`. How much it recalls follows from the number of patterns:
            docs/hopfield.md has the figures. Recall some cues to see.

        Raises:
            PatternError: Patterns with different numbers of ones, or none.

        Examples:
            >>> import torch
            >>> from hopfield import CoarseCovariance, patterns
            >>> generator = torch.Generator().manual_seed(0)
            >>> stored = patterns.sparse_patterns(100, 320, 16, generator)
            >>> memory = CoarseCovariance.learnt(stored)
            >>> cues = patterns.move_ones(stored, 1, generator)
            >>> bool((memory.recall(cues) == stored).all(1).float().mean() > 0.95)
            True
        """
        spins = as_patterns(patterns, device="cpu")
        ones = ones_of(spins)
        bits, bias = taught(to_bits(spins).numpy(), ones, teaching)
        # drive = counts of bits + x / 2 - bias is, for bits (q + 1) / 2 and a fixed number of ones, 1/2 (q x - ...)
        offset = torch.from_numpy(bias) - ones / 2
        return cls(
            *("one-bit", (SymmetricBits.of(torch.from_numpy(bits)),), 0.5, offset),
            ones=ones,
            count=len(spins),
            limit=0.6 * spins.shape[1],
        )

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the couplings and of the offset."""
        return sum(plane.nbytes for plane in self._planes) + self._offset.nbytes

    @property
    def device(self) -> torch.device:
        """Where the couplings lie."""
        return self._offset.device

    @property
    def limit(self) -> float:
        """Random patterns it is expected to hold: by the theory of what was rounded, 0.6 d for what was learnt."""
        return self._limit

    def couplings(self) -> Tensor:
        """Ψ with zero diagonal, `(d, d)` float32, a copy."""
        whole = self._planes[0].dense()
        if self.precision == "ternary":
            whole = whole - self._planes[1].dense()
        elif self.precision == "one-bit":
            whole = 2 * whole - 1
        return (self._scale * whole).fill_diagonal_(0)

    def _times(self, active: Tensor) -> Tensor:
        first = self._planes[0].apply(active)
        if self.precision == "int8":
            return self._scale * (first - active * self._planes[0].diagonal())
        if self.precision == "ternary":
            return self._scale * (first - self._planes[1].apply(active))
        return self._scale * (2 * first - active.sum(dim=1, keepdim=True) + active)

    def _drives(self, active: Tensor) -> Tensor:
        return self._times(active) - self._offset

    def _energies(self, states: Tensor) -> Tensor:
        active = to_soft_mask(states)
        return -(active * self._times(active)).sum(1) + 2 * (active * self._offset).sum(1)

    def _learn(self, new: Tensor) -> Callable[[], None]:
        raise StoreError("store: expected a Covariance (round it again afterwards), found coarse couplings")

    def _move(self, device: torch.device) -> None:
        self._planes, self._offset = tuple(p.to(device) for p in self._planes), self._offset.to(device)

    def _header(self) -> dict[str, Any]:
        own = {"precision": self.precision, "scale": self._scale, "limit": self._limit}
        return own | self._sparse_header()

    def _arrays(self) -> dict[str, Any]:
        offset = {"offset": self._offset.cpu().numpy()}
        if self.precision == "int8":
            whole = self._planes[0].dense().cpu().numpy()
            return offset | {"couplings": whole[np.triu_indices(self.dim)]}
        bits = {f"plane{i}": p.words() for i, p in enumerate(self._planes) if isinstance(p, SymmetricBits)}
        return offset | bits

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        dim, precision = storage.natural(header, "dim"), header["precision"]
        check_choice("precision", precision, get_args(Precision))
        if arrays["offset"].shape != (dim,) or arrays["offset"].dtype != np.float32:
            raise DimensionError(f"offset: expected {dim} float32, found {arrays['offset'].shape}")
        planes: tuple[Couplings, ...]
        if precision == "int8":
            upper = arrays["couplings"]
            if upper.shape != (dim * (dim + 1) // 2,) or upper.dtype != np.int8:
                raise DimensionError(f"couplings: expected {dim * (dim + 1) // 2} int8, found {upper.shape}")
            matrix = np.zeros((dim, dim), dtype=np.int8)
            matrix[np.triu_indices(dim)] = upper
            planes = (SymmetricCouplings(torch.from_numpy(matrix)),)
        else:
            planes = tuple(SymmetricBits(arrays[f"plane{i}"], dim) for i in range(1 + (precision == "ternary")))
        scale, limit = float(header["scale"]), float(header["limit"])
        if not (math.isfinite(scale) and math.isfinite(limit)):
            raise MemoryFileError("scale and limit: expected finite numbers, found others")
        return cls(
            *(precision, planes, scale, torch.from_numpy(arrays["offset"].copy())),
            ones=storage.natural(header, "ones"),
            count=storage.natural(header, "count"),
            threshold=header["threshold"],
            limit=limit,
        )

    def __repr__(self) -> str:
        return self._named(self.precision, self.threshold)
