"""Products of the masks of a `MaskMatrix` with arrays: in parts of them, with many at once, and with outer products."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskstore import kernels
from maskstore.errors import MaskValueError, SpecError
from maskstore.kernels import LANES, Kernel
from maskstore.masks.bits import as_numpy
from maskstore.masks.interleave import Interleaved
from maskstore.masks.spec import LayerSpec, MaskSpec

_TILE_BITS = 1 << 14  # columns that `many` unpacks at a time


class Chunks:
    """The masks that had arrived at a moment, read in parts."""

    def __init__(self, masks: Interleaved, layers: NDArray[np.int64]) -> None:
        self._masks, self._layers = masks, layers

    def __len__(self) -> int:
        return len(self._masks)

    def dot_chunks(
        self, places: NDArray[np.int64], values: NDArray[np.float32], chosen: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Of some of the values, which are at these places."""
        return kernels.load().dot_chunks(self._masks.blocks, self._masks.tail, places, values, chosen)

    def products(self, g: NDArray[np.float32], chosen: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Of all values, for all masks or for those chosen."""
        masks = self._masks
        if chosen is None:
            return self._dot(masks.blocks, masks.tail, g)
        out = np.empty(len(chosen), dtype=np.float32)
        block, lanes = np.unique(chosen // LANES, return_counts=True)
        whole = np.isin(chosen // LANES, block[lanes == LANES])
        for one in block[lanes == LANES]:  # faster than its masks one by one
            found = self._dot(masks.blocks[one : one + 1], masks.tail[:0], g)
            at = chosen // LANES == one
            out[at] = found[chosen[at] % LANES]
        if not whole.all():
            out[~whole] = self._dot(masks.blocks[:0], masks.chosen_rows(chosen[~whole]), g)
        return out

    def _dot(self, blocks: NDArray[np.uint32], tail: NDArray[np.uint64], g: NDArray[np.float32]) -> NDArray[np.float32]:
        return kernels.load().dot(blocks, tail, g, self._layers)


def many(masks: Interleaved, spec: MaskSpec, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
    """`MaskMatrix.dot_many` of checked arrays, `(b, spec.bits)`."""
    total = np.zeros((arrays.shape[0], len(masks)), dtype=np.float32)
    for layer in spec:
        for start in range(0, layer.size, _TILE_BITS):
            stop = min(start + _TILE_BITS, layer.size)
            words = masks.rows(slice(layer.word_start + start // 64, layer.word_start + (stop + 63) // 64))
            octets = words.astype("<u8", copy=False).view(np.uint8)
            tile = np.unpackbits(octets, axis=1, count=stop - start, bitorder="little").astype(np.float32)
            total += arrays[:, layer.flat_start + start : layer.flat_start + stop] @ tile.T
    return total


def outer(
    masks: Interleaved,
    layer: LayerSpec,
    weights: NDArray[np.float32],
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    pairs: NDArray[np.int64] | None,
    kernel: Kernel,
) -> NDArray[np.float32]:
    """`MaskMatrix.outer_dots`; SpecError for other shapes, and for rows that are not there."""
    if (
        weights.ndim != 2
        or left.ndim != 2
        or weights.shape != layer.shape
        or left.shape != (len(left), weights.shape[0])
        or right.shape != (len(left), weights.shape[1])
    ):
        raise SpecError(
            f"outer_dots: expected layer {layer.name!r} of two dimensions, weights {layer.shape}, left (B, o) and "
            f"right (B, n), found weights {weights.shape}, left {left.shape}, right {right.shape}"
        )
    if pairs is not None and not (
        pairs.ndim == 2 and len(pairs) == len(left) and (not pairs.size or 0 <= pairs.min() <= pairs.max() < len(masks))
    ):
        raise SpecError(f"outer_dots: expected chosen rows (B, m) below {len(masks)}, found shape {pairs.shape}")
    first_bit = layer.word_start * 64
    return kernels.load(kernel).outer_dots(masks.blocks, masks.tail, first_bit, weights, left, right, pairs)


def floats(values: ArrayLike, what: str) -> NDArray[np.float32]:
    """Real numbers as float32; MaskValueError for others."""
    array = as_numpy(values, what)
    if array.dtype.kind not in "biuf":
        raise MaskValueError(f"{what}: expected real numbers, found dtype {array.dtype}")
    return array.astype(np.float32, copy=False)
