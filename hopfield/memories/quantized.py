"""`QuantizedNetwork`: the same memory with couplings in a fraction of the bytes."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from torch import Tensor

from hopfield.errors import RuleError, StoreError
from hopfield.memories import storage
from hopfield.memories.coarse import CoarseCouplings, Precision, plane_shapes
from hopfield.memories.network import HopfieldNetwork
from hopfield.memories.quadratic import Centring, QuadraticMemory, restored_centring


@storage.register
class QuantizedNetwork(QuadraticMemory):
    """A `HopfieldNetwork` with coarser couplings, made by `QuantizedNetwork.of(network, precision)`.

    - `"int8"`: Ψ_ij = scale q_ij with q in -127..127; d² bytes.
    - `"ternary"`: Ψ_ij = scale t_ij with t in {-1, 0, 1}, zero below 0.7 of the mean |Ψ_ij| (Li and Liu, "Ternary
      weight networks", 2016); two bit planes, d² / 4 bytes.
    - `"one-bit"`: Ψ_ij = scale sign(Ψ_ij) ("clipped" couplings; for Hebb they hold 0.102 d patterns, with errors:
      Sompolinsky, "Neural networks with nonlinear synapses and a static noise", Phys. Rev. A 1986); d² / 8 bytes.

    Rows are padded to whole words of 64. On the CPU, fields of one-bit and ternary couplings are computed on the packed
    bits (see `CoarseCouplings`). Symmetric couplings stay symmetric. Such couplings cannot learn: store in the network,
    then quantise again. `limit` stays that of the network.

    Examples:
        >>> import torch
        >>> from hopfield import HopfieldNetwork, QuantizedNetwork, patterns
        >>> stored = patterns.random_patterns(5, 256, torch.Generator().manual_seed(0))
        >>> network = HopfieldNetwork(256)
        >>> network.store(stored)
        >>> small = QuantizedNetwork.of(network, "one-bit")
        >>> network.nbytes, small.nbytes
        (197632, 8192)
        >>> torch.equal(small.recall(stored), stored)
        True
    """

    _couplings: CoarseCouplings

    def __init__(self, couplings: CoarseCouplings, centring: Centring, *, count: int, limit: float) -> None:
        super().__init__(couplings.dim, couplings, centring, count)
        self._limit = limit

    @classmethod
    def of(cls, network: HopfieldNetwork, precision: Precision) -> Self:
        """Quantise a network's couplings.

        Args:
            network: The network; it stays as it is.
            precision: "int8", "ternary" or "one-bit"; see the class's text.

        Returns:
            A memory of the same patterns, on the network's device.

        Raises:
            RuleError: Another memory than a `HopfieldNetwork`, or an unknown precision.
        """
        if not isinstance(network, HopfieldNetwork):
            raise RuleError(f"QuantizedNetwork: expected a HopfieldNetwork, found {network!r:.60}")
        coarse = CoarseCouplings.of(network.couplings().cpu().numpy(), precision, symmetric=network.symmetric)
        return cls(coarse, network._centring, count=len(network), limit=network.limit).to(network.device)

    @property
    def precision(self) -> Precision:
        """How coarse the couplings are."""
        return self._couplings.precision

    @property
    def limit(self) -> float:
        """The limit of the network it was made from; see the class's text for one-bit couplings."""
        return self._limit

    def _learn(self, new: Tensor) -> Callable[[], None]:
        raise StoreError("store: expected a HopfieldNetwork (quantise it again afterwards), found quantised couplings")

    def _header(self) -> dict[str, Any]:
        return {
            "precision": self.precision,
            "scale": self._couplings.scale,
            "dim": self.dim,
            "count": self._count,
            "limit": self._limit,
            "symmetric": self.symmetric,
            "threshold": self.threshold,
        }

    def _arrays(self) -> dict[str, Any]:
        return {f"plane{i}": plane for i, plane in enumerate(self._couplings.planes())} | self._centre_array()

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        planes = tuple(array for name, array in sorted(arrays.items()) if name.startswith("plane"))
        dim, symmetric = storage.natural(header, "dim"), bool(header["symmetric"])
        coarse = CoarseCouplings(header["precision"], planes, float(header["scale"]), dim, symmetric=symmetric)
        count = storage.natural(header, "count")
        return cls(coarse, restored_centring(header, arrays, dim), count=count, limit=float(header["limit"]))

    def __repr__(self) -> str:
        return f"QuantizedNetwork({self.dim} neurons, {self.precision}, {self._count} patterns, {self.nbytes} bytes)"


def quantized_bytes(dim: int, precision: Precision) -> int:
    """Bytes of d x d couplings at a precision, as `QuantizedNetwork` keeps them, without a centre.

    Args:
        dim: Number of neurons d.
        precision: As in `QuantizedNetwork.of`.

    Examples:
        >>> from hopfield.memories import quantized_bytes
        >>> quantized_bytes(256, "int8"), quantized_bytes(256, "one-bit")
        (65536, 8192)
    """
    return sum(np.dtype(dtype).itemsize * rows * columns for dtype, (rows, columns) in plane_shapes(precision, dim))
