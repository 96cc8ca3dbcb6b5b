"""Masks in memory, read in parts, and what a search of the leader among them keeps from one call to the next."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from maskstore import kernels
from maskstore.kernels import LANES, Kernel, layout
from maskstore.masks.interleave import Interleaved
from maskstore.masks.leader import IN_ONE_PIECE, ChunkMap, Leader, find_leader
from maskstore.masks.spec import MaskSpec

_TILE_BITS = 1 << 14  # columns unpacked at a time by `dot_by_tiles`
_FEW = 256  # masks of a mapped file that are copied at a time
_AHEAD = 128  # chunks of a mapped file that are read before they are needed


def dot_by_tiles(masks: Interleaved, spec: MaskSpec, many: NDArray[np.float32]) -> NDArray[np.float32]:
    """Products of masks with many arrays `(b, bits)`, `(b, k)`: some columns at a time are unpacked, for BLAS."""
    total = np.zeros((many.shape[0], len(masks)), dtype=np.float32)
    for layer in spec:
        for start in range(0, layer.size, _TILE_BITS):
            stop = min(start + _TILE_BITS, layer.size)
            words = masks.rows(slice(layer.word_start + start // 64, layer.word_start + (stop + 63) // 64))
            octets = words.astype("<u8", copy=False).view(np.uint8)
            tile = np.unpackbits(octets, axis=1, count=stop - start, bitorder="little").astype(np.float32)
            total += many[:, layer.flat_start + start : layer.flat_start + stop] @ tile.T
    return total


def weighted_sum(
    masks: Interleaved, spec: MaskSpec, weights: NDArray[np.float32], kernel: Kernel = Kernel.NUMBA
) -> NDArray[np.float32]:
    """The sum of masks times `weights` `(k,)`, flat `(bits,)` without padding."""
    total, first = np.zeros(64 * spec.words, dtype=np.float32), 0
    for part in masks.parts():
        total += kernels.load(kernel).weighted_sum(part.blocks, part.tail, weights[first : first + len(part)])
        first += len(part)
    if spec.bits == spec.words * 64:
        return total
    return np.concatenate([total[layer.word_start * 64 :][: layer.size] for layer in spec])


class Parts:
    """The masks that had arrived at a moment, read in parts; `maskstore.masks.leader.Chunks` says what each gives."""

    def __init__(self, masks: Interleaved, layers: NDArray[np.int64]) -> None:
        self._masks, self._layers = masks, layers
        self.by_page = masks.copies is not None

    def __len__(self) -> int:
        return len(self._masks)

    def dot_chunks(
        self, places: NDArray[np.int64], values: NDArray[np.float32], chosen: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        masks, dot_chunks = self._masks, kernels.load().dot_chunks
        if masks.copies is None:
            return dot_chunks(masks.blocks, masks.tail, places, values, chosen)
        if chosen is not None and len(chosen) <= IN_ONE_PIECE:
            few = Interleaved.of(masks.chosen_rows(chosen))
            return dot_chunks(few.blocks, few.tail, places, values)
        found = np.zeros(len(masks) if chosen is None else len(chosen))
        masks.copies.expect_chunks(masks.blocks, places[:_AHEAD])
        for first in range(0, len(places), _AHEAD):  # the next are brought in while some are summed
            masks.copies.expect_chunks(masks.blocks, places[first + _AHEAD : first + 2 * _AHEAD])
            some = slice(layout.CHUNK * first, layout.CHUNK * (first + _AHEAD))
            found += dot_chunks(masks.blocks, masks.tail, places[first : first + _AHEAD], values[some], chosen)
        return found

    def products(self, g: NDArray[np.float32], chosen: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        masks = self._masks
        if chosen is None:
            return np.concatenate([self._dot(part.blocks, part.tail, g) for part in masks.parts()])
        if masks.copies is not None:
            return np.concatenate([self._dot(few.blocks, few.tail, g) for few in self._few(chosen)])
        out = np.empty(len(chosen), dtype=np.float32)
        block, lanes = np.unique(chosen // LANES, return_counts=True)
        whole = np.isin(chosen // LANES, block[lanes == LANES])
        if whole.any():  # faster than its masks one by one
            found = self._dot(np.ascontiguousarray(masks.blocks[block[lanes == LANES]]), masks.tail[:0], g)
            at = np.searchsorted(block[lanes == LANES], chosen[whole] // LANES)
            out[whole] = found.reshape(-1, LANES)[at, chosen[whole] % LANES]
        if not whole.all():
            out[~whole] = self._dot(masks.blocks[:0].copy(), masks.chosen_rows(chosen[~whole]), g)
        return out

    def _few(self, chosen: NDArray[np.int64]) -> Iterator[Interleaved]:
        """Chosen masks of a mapped file, some at a time."""
        for first in range(0, max(1, len(chosen)), _FEW):
            yield Interleaved.of(self._masks.chosen_rows(chosen[first : first + _FEW]))

    def _dot(self, blocks: NDArray[np.uint32], tail: NDArray[np.uint64], g: NDArray[np.float32]) -> NDArray[np.float32]:
        return kernels.load().dot(blocks, tail, g, self._layers)


class LeaderSearch:
    """Finds leaders among the masks of a spec, however many have arrived; keeps their mean for the next call."""

    def __init__(self, spec: MaskSpec, layers: NDArray[np.int64]) -> None:
        self._map, self._layers = ChunkMap.of(spec), layers
        self._smoothed = 0, np.zeros(0, dtype=np.float32)  # of so many rows, the mean with one imagined 0 and 1

    def find(
        self,
        masks: Interleaved,
        rows: int,
        counts: NDArray[np.int32],
        g: NDArray[np.float32],
        error: float,
        usual: NDArray[np.float32] | None,
    ) -> Leader:
        """The leader among `masks`; `counts` is the sum of `rows` of them."""
        kept = self._smoothed
        if kept[0] != rows:
            self._smoothed = kept = rows, (counts.astype(np.float32) + 1) / np.float32(rows + 2)
        return find_leader(Parts(masks, self._layers), self._map, kept[1], g, error, usual)
