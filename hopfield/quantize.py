"""Couplings in 8, 2 or 1 bits: the same memory in a fraction of the bytes."""

from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield import storage
from hopfield.errors import DimensionError, NoEnergyError, RuleError, StoreError
from hopfield.memory import Memory
from hopfield.network import HopfieldNetwork
from maskstore import kernels

Precision = Literal["int8", "ternary", "one-bit"]
_TILE = 256  # rows of an int8 matrix that are floats at a time


@storage.register
class QuantizedNetwork(Memory):
    """A `HopfieldNetwork` with coarser couplings, made by `QuantizedNetwork.of(network, precision)`.

    - `"int8"`: Ψ_ij = scale q_ij with q in -127..127; d² bytes.
    - `"ternary"`: Ψ_ij = scale t_ij with t in {-1, 0, 1}, zero below 0.7 of the mean |Ψ_ij| (Li and Liu, "Ternary
      weight networks", 2016); two bit planes, d² / 4 bytes.
    - `"one-bit"`: Ψ_ij = scale sign(Ψ_ij) ("clipped" couplings; for Hebb they hold 0.102 d patterns, with errors:
      Sompolinsky, "Neural networks with nonlinear synapses and a static noise", Phys. Rev. A 1986); d² / 8 bytes.

    Rows are padded to whole words of 64. Fields of one-bit and ternary couplings are computed on the packed bits: by
    counting equal bits where the state is -1/+1, by masked sums else. Symmetric couplings stay symmetric. Such
    couplings cannot learn: store in the network, then quantise again. On the CPU.
    """

    def __init__(
        self,
        precision: Precision,
        planes: tuple[np.ndarray, ...],
        scale: float,
        dim: int,
        *,
        count: int,
        limit: float,
        symmetric: bool = True,
        centre: Tensor | None = None,
        threshold: float = 0.0,
    ) -> None:
        expected = _plane_shapes(precision, dim)
        if [(p.dtype.name, p.shape) for p in planes] != expected:
            found = [(p.dtype.name, p.shape) for p in planes]
            raise DimensionError(f"quantised couplings: expected {expected}, found {found}")
        self.precision: Precision = precision
        self._planes = planes
        self._scale = scale
        self._dim = dim
        self._count = count
        self._limit = limit
        self._symmetric = symmetric
        self._centre = centre
        self._push = 0.0 if centre is None else threshold * centre
        self._threshold = threshold

    @classmethod
    def of(cls, network: HopfieldNetwork, precision: Precision) -> Self:
        """Quantise a network's couplings."""
        matrix = network.couplings().cpu().numpy()
        d = network.dim
        size = np.abs(matrix)
        mean = float(size.sum() / max(1, d * (d - 1)))
        planes: tuple[np.ndarray, ...]
        if precision == "int8":
            scale = float(size.max()) / 127 or 1.0
            planes = (np.rint(matrix / scale).astype(np.int8),)
        elif precision == "ternary":
            large = size > 0.7 * mean
            scale = float(size[large].mean()) if large.any() else 1.0
            planes = (_pack_rows(large & (matrix > 0)), _pack_rows(large & (matrix < 0)))
        elif precision == "one-bit":
            scale = mean or 1.0
            # a coupling of exactly zero has to be something: its parity on the board, which favours neither sign
            index = np.arange(d)
            parity = (index[:, None] + index[None, :]) % 2 == 0
            planes = (_pack_rows(np.where(matrix == 0, parity, matrix > 0)),)
        else:
            raise RuleError(f"precision: expected 'int8', 'ternary' or 'one-bit', found {precision!r}")
        return cls(
            precision,
            planes,
            scale,
            d,
            count=len(network),
            limit=network.limit,
            symmetric=network.rule.symmetric,
            centre=None if network.centre is None else network.centre.cpu(),
            threshold=network.threshold,
        )

    @property
    def dim(self) -> int:
        """Number of neurons d."""
        return self._dim

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the packed couplings and a centre."""
        return sum(plane.nbytes for plane in self._planes) + (0 if self._centre is None else self._centre.numel() * 4)

    @property
    def limit(self) -> float:
        """The limit of the network it was made from; see the class's text for one-bit couplings."""
        return self._limit

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def couplings(self) -> Tensor:
        """Ψ as floats with zero diagonal, `(d, d)`."""
        if self.precision == "int8":
            dense = self._planes[0].astype(np.float32)
        elif self.precision == "ternary":
            dense = _unpack_rows(self._planes[0], self._dim) - _unpack_rows(self._planes[1], self._dim)
        else:
            dense = 2 * _unpack_rows(self._planes[0], self._dim) - 1
        np.fill_diagonal(dense, 0)
        return torch.from_numpy(np.float32(self._scale) * dense)

    def store(self, patterns: Any) -> None:
        """Not possible: StoreError."""
        raise StoreError("store: expected a HopfieldNetwork (quantise it again afterwards), found quantised couplings")

    def field(self, state: Any) -> Tensor:
        """Local field `h = Ψ (z - c) + θ c`, the shape of `state`."""
        z = self._state(state)
        rows = z.reshape(-1, self._dim).numpy()
        if self._centre is not None:
            rows = rows - self._centre.numpy()
        fields = self._products(rows, slice(0, self._dim)) - rows * self._diagonal()
        return torch.from_numpy((self._scale * fields).astype(np.float32)).reshape(z.shape) + self._push

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`."""
        rows = (state if self._centre is None else state - self._centre).numpy()
        fields = self._products(rows, slice(neuron, neuron + 1))[:, 0] - rows[:, neuron] * self._diagonal()[neuron]
        push = self._push if isinstance(self._push, float) else self._push.expand(self._dim)[neuron]
        return torch.from_numpy((self._scale * fields).astype(np.float32)) + push

    def energy(self, state: Any) -> Tensor:
        """`E = -½ (z - c)ᵀ Ψ (z - c) - θ cᵀ z`: `(d,)` -> scalar, `(b, d)` -> `(b,)`."""
        if not self._symmetric:
            raise NoEnergyError("energy: expected symmetric couplings, found others")
        z = self._state(state)
        shifted = z if self._centre is None else z - self._centre
        return -0.5 * (shifted * (self.field(z) - self._push)).sum(-1) - (self._push * z).sum(-1)

    def _products(self, rows: np.ndarray, neurons: slice) -> np.ndarray:
        """Stored matrix (diagonal included, scale left out) times states: `(b, d)` -> `(b, neurons)`."""
        chosen = [plane[neurons] for plane in self._planes]
        if self.precision == "int8":
            starts = range(0, len(chosen[0]), _TILE)
            return np.concatenate([rows @ chosen[0][s : s + _TILE].astype(np.float32).T for s in starts], axis=1)
        binary = bool((np.abs(rows) == 1).all())
        if binary:  # a sum of z over set bits is (set bits where z = 1) - (set bits where z = -1)
            words = _pack_rows(rows > 0)
            sums = [_count_and_sum(plane, words) for plane in chosen]
        else:
            sums = [_masked_sums(plane, rows) for plane in chosen]
        result = sums[0] - sums[1] if self.precision == "ternary" else 2 * sums[0] - rows.sum(axis=1, keepdims=True)
        return np.asarray(result)

    def _diagonal(self) -> np.ndarray:
        """The diagonal as stored, `(d,)`, which a field leaves out."""
        if self.precision == "int8":
            return self._planes[0].diagonal().astype(np.float32)
        index = np.arange(self._dim)
        words, shifts = index // 64, (index % 64).astype(np.uint64)
        bits = [((plane[index, words] >> shifts) & np.uint64(1)).astype(np.float32) for plane in self._planes]
        return bits[0] - bits[1] if self.precision == "ternary" else 2 * bits[0] - 1

    def _header(self) -> dict[str, Any]:
        return {
            "precision": self.precision,
            "scale": self._scale,
            "dim": self._dim,
            "count": self._count,
            "limit": self._limit,
            "symmetric": self._symmetric,
            "threshold": self._threshold,
        }

    def _arrays(self) -> dict[str, Any]:
        arrays: dict[str, Any] = {f"plane{i}": plane for i, plane in enumerate(self._planes)}
        return arrays if self._centre is None else {**arrays, "centre": self._centre.numpy()}

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        planes = tuple(array for name, array in sorted(arrays.items()) if name.startswith("plane"))
        return cls(
            header["precision"],
            planes,
            float(header["scale"]),
            int(header["dim"]),
            count=int(header["count"]),
            limit=float(header["limit"]),
            symmetric=bool(header["symmetric"]),
            centre=torch.from_numpy(arrays["centre"]) if "centre" in arrays else None,
            threshold=float(header["threshold"]),
        )

    def __repr__(self) -> str:
        return f"QuantizedNetwork({self._dim} neurons, {self.precision}, {self._count} patterns, {self.nbytes} bytes)"


def quantized_bytes(dim: int, precision: Precision) -> int:
    """Bytes of d x d couplings at a precision, as the class keeps them (without a centre)."""
    return sum(np.dtype(dtype).itemsize * rows * columns for dtype, (rows, columns) in _plane_shapes(precision, dim))


def _plane_shapes(precision: Precision, dim: int) -> list[tuple[str, tuple[int, int]]]:
    if precision == "int8":
        return [("int8", (dim, dim))]
    packed = ("uint64", (dim, (dim + 63) // 64))
    return [packed, packed] if precision == "ternary" else [packed]


def _pack_rows(bits: np.ndarray) -> np.ndarray:
    return pt.pack(torch.from_numpy(bits.astype(np.float32) * 2 - 1))


def _unpack_rows(words: np.ndarray, dim: int) -> np.ndarray:
    result: np.ndarray = ((pt.unpack(words, dim) + 1) / 2).numpy()
    return result


def _count_and_sum(plane: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Sums of ±1 states over the set bits of every row: `(n, words)`, `(b, words)` -> `(b, n)` float32."""
    total = np.bitwise_count(plane).sum(axis=1, dtype=np.int64)
    both = np.stack([np.bitwise_count(plane & state).sum(axis=1, dtype=np.int64) for state in states])
    return np.asarray(2 * both - total, dtype=np.float32)


def _masked_sums(plane: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Sums of real states over the set bits of every row: `(n, words)`, `(b, d)` -> `(b, n)` float32."""
    padded = np.zeros((len(states), plane.shape[1] * 64), dtype=np.float32)
    padded[:, : states.shape[1]] = states
    dot = kernels.load().dot
    return np.stack([dot(np.ascontiguousarray(plane), row) for row in padded])
