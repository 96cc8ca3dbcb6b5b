"""`QuantizedNetwork`: the same memory with couplings in a fraction of the bytes."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from hopfield import files as storage
from hopfield.errors import DeviceError, RuleError, StoreError
from hopfield.memories.centring import Centring
from hopfield.memories.coarse import CoarseCouplings, Precision, plane_shapes
from hopfield.memories.network import HopfieldNetwork
from hopfield.memories.quadratic import QuadraticMemory, restored_centring
from maskstore.torch import as_device


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
    """

    def __init__(self, couplings: CoarseCouplings, centring: Centring, *, count: int, limit: float) -> None:
        super().__init__(couplings._dim, couplings, centring, count)
        self._coarse = couplings
        self._limit = limit

    @classmethod
    def of(cls, network: HopfieldNetwork, precision: Precision) -> Self:
        """Quantise a network's couplings; the result lies on the network's device."""
        if not isinstance(network, HopfieldNetwork):
            raise RuleError(f"QuantizedNetwork: expected a HopfieldNetwork, found {network!r:.60}")
        coarse = CoarseCouplings.of(network.couplings().cpu().numpy(), precision, symmetric=network.symmetric)
        centring = Centring(network.centre, network.threshold).to("cpu")
        return cls(coarse, centring, count=len(network), limit=network.limit).to(network.device)

    @property
    def precision(self) -> Precision:
        """How coarse the couplings are."""
        return self._coarse.precision

    @property
    def nbytes(self) -> int:
        """Bytes of the packed couplings and a centre."""
        return self._coarse.nbytes + self._centring.nbytes

    @property
    def limit(self) -> float:
        """The limit of the network it was made from; see the class's text for one-bit couplings."""
        return self._limit

    def to(self, device: torch.device | str) -> Self:
        """Move to a device; returns itself."""
        where = as_device(device, DeviceError)
        self._couplings = self._coarse = self._coarse.to(where)
        self._centring = self._centring.to(where)
        return self

    def _learn(self, new: Tensor) -> Callable[[], None]:
        raise StoreError("store: expected a HopfieldNetwork (quantise it again afterwards), found quantised couplings")

    def _header(self) -> dict[str, Any]:
        return {
            "precision": self.precision,
            "scale": self._coarse.scale,
            "dim": self._dim,
            "count": self._count,
            "limit": self._limit,
            "symmetric": self.symmetric,
            "threshold": self.threshold,
        }

    def _arrays(self) -> dict[str, Any]:
        return {f"plane{i}": plane for i, plane in enumerate(self._coarse.planes())} | self._centre_array()

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        planes = tuple(array for name, array in sorted(arrays.items()) if name.startswith("plane"))
        dim, symmetric = storage.natural(header, "dim"), bool(header["symmetric"])
        coarse = CoarseCouplings(header["precision"], planes, float(header["scale"]), dim, symmetric=symmetric)
        count = storage.natural(header, "count")
        return cls(coarse, restored_centring(header, arrays, dim), count=count, limit=float(header["limit"]))

    def __repr__(self) -> str:
        return f"QuantizedNetwork({self._dim} neurons, {self.precision}, {self._count} patterns, {self.nbytes} bytes)"


def quantized_bytes(dim: int, precision: Precision) -> int:
    """Bytes of d x d couplings at a precision, as the class keeps them (without a centre)."""
    return sum(np.dtype(dtype).itemsize * rows * columns for dtype, (rows, columns) in plane_shapes(precision, dim))
