"""`SymmetricBits`: a symmetric matrix of bits without diagonal, each bit stored once."""

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield.errors import DimensionError, PatternError
from hopfield.memories.couplings import Couplings
from hopfield.memories.sparse.tile_loops import SIDE, count_common, count_common_plainly
from maskstore.kernels import compiles, threads
from maskstore.torch import packed_bytes, unpacked


class SymmetricBits(Couplings):
    """Bits of a symmetric `(d, d)` matrix with zero diagonal, in tiles of 64 x 64.

    The tiles are those of the upper block triangle, row of blocks by row of blocks: `(B (B + 1) / 2, 64)` words of 64
    bits for B = ceil(d / 64) blocks, which are `d² / 16 + 4 d` bytes. Bits beyond the d-th row and column are zero. On
    the CPU, products with states of 0 and 1 count common bits; other products unpack one row of blocks at a time.
    """

    def __init__(self, tiles: np.ndarray, dim: int) -> None:
        blocks = blocks_of(dim)
        expected = ("uint64", (blocks * (blocks + 1) // 2, SIDE))
        if (tiles.dtype.name, tiles.shape) != expected:
            raise DimensionError(f"tiles: expected {expected}, found {(tiles.dtype.name, tiles.shape)}")
        super().__init__([packed_bytes(tiles)], symmetric=True)
        self.dim = dim
        if not self._has_zeros():
            raise PatternError("tiles: expected symmetric bits with zero diagonal and padding, found others")

    @classmethod
    def empty(cls, dim: int) -> Self:
        """No bit set."""
        blocks = blocks_of(dim)
        return cls(np.zeros((blocks * (blocks + 1) // 2, SIDE), dtype=np.uint64), dim)

    @classmethod
    def of(cls, matrix: Tensor) -> Self:
        """The bits of a matrix `(d, d)`: where its upper triangle is positive."""
        dim, strips = len(matrix), []
        for start in range(0, dim, SIDE):
            height = min(SIDE, dim - start)
            bits = torch.zeros((SIDE, dim - start), dtype=torch.bool)
            bits[:height] = (matrix[start : start + height, start:] > 0).cpu()
            square = bits[:, :height].triu(1)[:height]
            bits[:height, :height] = square | square.T
            words = pt.pack(bits.float() * 2 - 1)  # (64, blocks)
            strips.append(words.T)
        return cls(np.ascontiguousarray(np.concatenate(strips)), dim)

    def words(self) -> np.ndarray:
        """What the constructor takes."""
        return np.ascontiguousarray(self._parts[0].cpu().numpy().view("<u8").astype(np.uint64, copy=False))

    def joined(self, states: np.ndarray) -> "SymmetricBits":
        """These bits, and those between any two neurons that are on in one of the packed states `(k, B)` uint64."""
        tiles, blocks = self.words().copy(), blocks_of(self.dim)
        starts = np.concatenate([[0], np.cumsum(np.arange(blocks, 0, -1))])
        for state in states:
            on = np.flatnonzero(np.unpackbits(state.astype("<u8").view(np.uint8), bitorder="little"))
            for block, row in zip((on // SIDE).tolist(), (on % SIDE).tolist(), strict=True):
                tiles[starts[block] : starts[block + 1], row] |= state[block:]
        index = np.arange(SIDE, dtype=np.uint64)
        tiles[starts[:-1]] &= ~(np.uint64(1) << index)
        return SymmetricBits(tiles, self.dim)

    def dense(self) -> Tensor:
        """See `Couplings.dense`: zeros and ones."""
        result = torch.zeros((self.dim, self.dim), dtype=torch.float32, device=self.device)
        for start, strip in self._strips():
            stop = start + len(strip)
            result[start:stop, start:] = strip
            result[start:, start:stop] = strip.T
        return result

    def diagonal(self) -> Tensor:
        """See `Couplings.diagonal`."""
        return torch.zeros(self.dim, dtype=torch.float32, device=self.device)

    def apply(self, state: Tensor) -> Tensor:
        """See `Couplings.apply`."""
        if self.device.type == "cpu" and bool(((state == 0) | (state == 1)).all()):
            return torch.from_numpy(self._counts(pt.pack(state))[:, : self.dim].astype(np.float32))
        result = torch.zeros_like(state)
        for start, strip in self._strips():
            stop = start + len(strip)
            result[:, start:stop] += state[:, start:] @ strip.T
            result[:, stop:] += state[:, start:stop] @ strip[:, len(strip) :]
        return result

    def row(self, index: int) -> Tensor:
        """See `Couplings.row`."""
        state = torch.zeros((1, self.dim), dtype=torch.float32, device=self.device)
        state[0, index] = 1.0
        return self.apply(state)[0]

    def _counts(self, words: np.ndarray) -> np.ndarray:
        """Common bits of every row with packed states `(b, B)` -> `(b, 64 B)` int32."""
        tiles, out = self.words(), np.zeros((len(words), SIDE * words.shape[1]), dtype=np.int32)
        if not compiles():
            count_common_plainly(tiles, words, out)
            return out
        pieces: list[tuple[Any, ...]] = [
            (tiles, words, out, first, last) for first, last in threads.ranges(len(words), threads.CORES)
        ]
        threads.share_work(count_common, pieces, tiles.size * len(words))
        return out

    def _strips(self) -> Any:
        """Each row of blocks from its diagonal on: its first row's number, and `(height, d - start)` float32."""
        tile = 0
        for start in range(0, self.dim, SIDE):
            count = blocks_of(self.dim - start)
            packed = self._parts[0].reshape(-1, SIDE, 8)[tile : tile + count].permute(1, 0, 2).reshape(SIDE, -1)
            yield start, unpacked(packed[: self.dim - start], self.dim - start)
            tile += count

    def _has_zeros(self) -> bool:
        """Whether the tiles on the diagonal are symmetric without diagonal, and the padding is zero."""
        blocks = blocks_of(self.dim)
        ends = np.cumsum(np.arange(blocks, 0, -1))
        tiles = self.words()
        last, index = tiles[ends - 1], np.uint64(self.dim % SIDE)
        beyond = ~np.uint64(0) << index if index else np.uint64(0)
        if (last & beyond).any() or (index and tiles[-1, int(index) :].any()):
            return False
        own = np.ascontiguousarray(tiles[ends - np.arange(blocks, 0, -1)].astype("<u8"))
        bits = np.unpackbits(own.view(np.uint8).reshape(blocks, SIDE, 8), axis=2, bitorder="little")
        return bool((bits == bits.transpose(0, 2, 1)).all()) and not bits[:, range(SIDE), range(SIDE)].any()


def blocks_of(dim: int) -> int:
    """Words of 64 bits for so many neurons."""
    return (dim + SIDE - 1) // SIDE
