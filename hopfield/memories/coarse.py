"""`CoarseCouplings`: a matrix in 8, 2 or 1 bits a number, applied to states as it lies in memory."""

from typing import Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield.errors import DimensionError, check_choice
from hopfield.memories.couplings import Couplings
from maskstore import kernels
from maskstore.masks import Interleaved, bits
from maskstore.torch import packed_bytes, unpacked

Precision = Literal["int8", "ternary", "one-bit"]
_TILE = 256  # rows that are floats at a time


class CoarseCouplings(Couplings):
    """`scale` times small numbers, in one or two planes.

    A plane is an int8 matrix `(d, d)`, or packed bits `(d, 8 ceil(d / 64))` uint8: for ternary couplings one of where
    they are positive and one of where they are negative, for one-bit couplings one of where they are positive. On the
    CPU products with packed planes count equal bits where the states are -1/+1, and are masked sums else; on other
    devices some rows at a time are unpacked.
    """

    def __init__(
        self, precision: Precision, planes: tuple[np.ndarray, ...], scale: float, dim: int, *, symmetric: bool
    ) -> None:
        found, expected = [(p.dtype.name, p.shape) for p in planes], plane_shapes(precision, dim)
        if found != expected:
            raise DimensionError(f"quantised couplings: expected {expected}, found {found}")
        if precision != "int8":
            for plane in planes:
                for row in plane:
                    bits.check_padding(row, dim, "quantised couplings")
        as_bytes = [torch.from_numpy(np.array(p)) if precision == "int8" else packed_bytes(p) for p in planes]
        super().__init__(as_bytes, symmetric=symmetric)
        self.precision: Precision = precision
        self.scale = scale
        self.dim = dim

    @classmethod
    def of(cls, matrix: np.ndarray, precision: Precision, *, symmetric: bool) -> Self:
        """The nearest coarse matrix to couplings `(d, d)` float32 with zero diagonal."""
        check_choice("precision", precision, get_args(Precision))
        d = len(matrix)
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
        else:
            scale = mean or 1.0
            # a coupling of exactly zero has to be something: its parity on the board, which favours neither sign
            index = np.arange(d)
            parity = (index[:, None] + index[None, :]) % 2 == 0
            planes = (_pack_rows(np.where(matrix == 0, parity, matrix > 0)),)
        return cls(precision, planes, scale, d, symmetric=symmetric)

    def planes(self) -> tuple[np.ndarray, ...]:
        """What the constructor takes: int8 `(d, d)`, or words `(d, ceil(d / 64))` uint64."""
        host = [plane.cpu().numpy() for plane in self._parts]
        return tuple(host) if self.precision == "int8" else tuple(p.view("<u8").astype(np.uint64) for p in host)

    def dense(self) -> Tensor:
        """See `Couplings.dense`."""
        return self._rows(slice(0, self.dim)) * self.scale

    def diagonal(self) -> Tensor:
        """See `Couplings.diagonal`."""
        index = torch.arange(self.dim, device=self.device)
        if self.precision == "int8":
            return self._parts[0].diagonal().float() * self.scale
        shifts = (index % 8).to(torch.uint8)
        return self._combine([(plane[index, index // 8] >> shifts & 1).float() for plane in self._parts]) * self.scale

    def apply(self, state: Tensor) -> Tensor:
        """See `Couplings.apply`."""
        if self.precision != "int8" and self.device.type == "cpu":
            return self._apply_packed(state)
        starts = range(0, self.dim, _TILE)
        return torch.cat([state @ self._rows(slice(start, start + _TILE)).T for start in starts], dim=1) * self.scale

    def row(self, index: int) -> Tensor:
        """See `Couplings.row`."""
        return self._rows(slice(index, index + 1))[0] * self.scale

    def _rows(self, chosen: slice) -> Tensor:
        """Some rows, without the scale, `(n, d)` float32."""
        if self.precision == "int8":
            return self._parts[0][chosen].float()
        return self._combine([unpacked(plane[chosen], self.dim) for plane in self._parts])

    def _combine(self, planes: list[Tensor]) -> Tensor:
        """Bits of the planes as the numbers they stand for: -1, 0 and 1, or -1 and 1."""
        return planes[0] - planes[1] if self.precision == "ternary" else 2 * planes[0] - 1

    def _apply_packed(self, state: Tensor) -> Tensor:
        states = state.numpy()
        planes = [plane.numpy().view("<u8") for plane in self._parts]
        if bool((np.abs(states) == 1).all()):
            words = _pack_rows(states > 0)
            sums = [_count_and_sum(plane, words) for plane in planes]
        else:
            sums = [_masked_sums(plane, states) for plane in planes]
        result = sums[0] - sums[1] if self.precision == "ternary" else 2 * sums[0] - states.sum(axis=1, keepdims=True)
        return torch.from_numpy((self.scale * result).astype(np.float32))


def plane_shapes(precision: Precision, dim: int) -> list[tuple[str, tuple[int, int]]]:
    """Dtype and shape of each plane."""
    if precision == "int8":
        return [("int8", (dim, dim))]
    packed = ("uint64", (dim, (dim + 63) // 64))
    return [packed, packed] if precision == "ternary" else [packed]


def _pack_rows(dense: np.ndarray) -> np.ndarray:
    return pt.pack(torch.from_numpy(dense.astype(np.float32) * 2 - 1))


def _count_and_sum(plane: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Sums of ±1 states over the set bits of every row: `(n, words)`, `(b, words)` -> `(b, n)` float32.

    Such a sum is the number of set bits where the state is 1, less the number of those where it is -1.
    """
    total = np.bitwise_count(plane).sum(axis=1, dtype=np.int64)
    both = np.stack([np.bitwise_count(plane & state).sum(axis=1, dtype=np.int64) for state in states])
    return np.asarray(2 * both - total, dtype=np.float32)


def _masked_sums(plane: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Sums of real states over the set bits of every row: `(n, words)`, `(b, d)` -> `(b, n)` float32."""
    masks, dot = Interleaved.of(plane), kernels.load().dot
    layers = np.array([(0, 0, states.shape[1])], dtype=np.int64)
    return np.stack([dot(masks.blocks, masks.tail, row, layers) for row in states.astype(np.float32, copy=False)])
