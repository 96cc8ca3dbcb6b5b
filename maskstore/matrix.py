"""`MaskMatrix`: k masks of one spec, packed and side by side in memory, and the arithmetic inference needs on them.

Flat arrays (gradients in, weighted sums out) are float32 over all layers in spec order, without padding.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskstore import bits, kernels
from maskstore.errors import SpecError, TaskExistsError, TaskNotFoundError
from maskstore.interleaved import GrowingRows, Interleaved, chosen_rows
from maskstore.kernels import Kernel
from maskstore.mask import Mask
from maskstore.spec import MaskSpec

_TILE_BITS = 1 << 14  # columns unpacked at a time by `dot_many`


class MaskMatrix:
    """k packed masks with names; grows by `append`, never changes a row.

    Memory is `8 * spec.words` bytes a mask, and up to as much again while growing, unless `room` says from the start
    how many there will be. How masks lie in it: `maskstore.interleaved`. The sum of all rows is kept up to date as
    masks arrive, so `counts()` and the mean mask cost nothing at inference.
    """

    def __init__(
        self, spec: MaskSpec, masks: Iterable[Mask] = (), names: Sequence[str] | None = None, *, room: int = 0
    ) -> None:
        masks = list(masks)
        if names is None:
            names = [str(i) for i in range(len(masks))]
        if len(names) != len(masks):
            raise SpecError(f"mask matrix: expected {len(masks)} names, found {len(names)}")
        self.spec = spec
        self._rows = GrowingRows(spec.words, room=max(len(masks), room))
        self._names: list[str] = []
        self._index: dict[str, int] = {}
        self._counts: NDArray[np.int32] | None = None
        self._layers = np.array([(layer.word_start, layer.flat_start, layer.size) for layer in spec], dtype=np.int64)
        for name, mask in zip(names, masks, strict=True):
            self.append(name, mask)

    @property
    def names(self) -> tuple[str, ...]:
        """Task names, in row order."""
        return tuple(self._names)

    @property
    def packed(self) -> Interleaved:
        """All masks as they lie in memory; not to be written to."""
        return self._rows.packed

    @property
    def rows(self) -> NDArray[np.uint64]:
        """Packed rows, shape `(k, spec.words)`, uint64, a read-only copy."""
        rows = self.packed.rows()
        rows.flags.writeable = False
        return rows

    @property
    def nbytes(self) -> int:
        """Bytes of the packed rows."""
        return len(self._names) * self.spec.words * 8

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, task: int | str) -> Mask:
        """The mask of a row, by position or by name."""
        index = self.index(task) if isinstance(task, str) else range(len(self))[task]
        return Mask(self.spec, self.packed.row(index))

    def index(self, name: str) -> int:
        """The row of a task name; TaskNotFoundError if there is none."""
        try:
            return self._index[name]
        except KeyError:
            raise TaskNotFoundError(f"task {name!r}: expected one of {len(self)} tasks of this matrix") from None

    def append(self, name: str, mask: Mask) -> None:
        """Add a mask as the last row."""
        if mask.spec != self.spec:
            raise SpecError(f"mask {name!r}: expected the matrix's spec {self.spec!r}, found {mask.spec!r}")
        if name in self._index:
            raise TaskExistsError(f"task {name!r}: expected a new name, found it in row {self._index[name]}")
        self._rows.append(mask.words)
        self._index[name] = len(self._names)
        self._names.append(name)
        if self._counts is not None:
            self._counts += mask.flat()

    def select(self, tasks: Sequence[int | str]) -> "MaskMatrix":
        """A new matrix of these rows, in this order."""
        chosen = [self.index(task) if isinstance(task, str) else range(len(self))[task] for task in tasks]
        result = MaskMatrix(self.spec)
        result._names = [self._names[i] for i in chosen]
        result._index = {name: i for i, name in enumerate(result._names)}
        if len(result._index) != len(chosen):
            raise TaskExistsError("select: expected distinct rows, found one twice")
        result._rows = GrowingRows.of(chosen_rows(self.packed, chosen))
        return result

    def dot(self, g: ArrayLike, *, kernel: Kernel = Kernel.NUMBA) -> NDArray[np.float32]:
        """Inner product of every mask with a flat float32 array `(spec.bits,)` -> `(k,)` float32."""
        flat = np.asarray(g, dtype=np.float32)
        if flat.shape != (self.spec.bits,):
            raise SpecError(f"dot: expected a flat array of shape ({self.spec.bits},), found {flat.shape}")
        result: NDArray[np.float32] = kernels.load(kernel).dot(self.packed, flat, self._layers)
        return result

    def dot_many(self, G: ArrayLike) -> NDArray[np.float32]:
        """Inner products with many flat arrays at once: `(b, spec.bits)` -> `(b, k)` float32.

        Rows are unpacked a tile of columns at a time and multiplied by BLAS; no float copy of all masks ever exists.
        """
        many = np.asarray(G, dtype=np.float32)
        if many.ndim != 2 or many.shape[1] != self.spec.bits:
            raise SpecError(f"dot_many: expected an array of shape (b, {self.spec.bits}), found {many.shape}")
        total = np.zeros((many.shape[0], len(self)), dtype=np.float32)
        for layer in self.spec:
            for start in range(0, layer.size, _TILE_BITS):
                stop = min(start + _TILE_BITS, layer.size)
                words = self.packed.rows(slice(layer.word_start + start // 64, layer.word_start + (stop + 63) // 64))
                packed = words.astype("<u8", copy=False).view(np.uint8)
                tile = np.unpackbits(packed, axis=1, count=stop - start, bitorder="little").astype(np.float32)
                total += many[:, layer.flat_start + start : layer.flat_start + stop] @ tile.T
        return total

    def outer_dots(
        self,
        layer: str,
        weights: ArrayLike,
        left: ArrayLike,
        right: ArrayLike,
        chosen: ArrayLike | None = None,
        *,
        kernel: Kernel = Kernel.NUMBA,
    ) -> NDArray[np.float32]:
        """out[b, i] = left[b] @ (weights * mask i of a layer `(o, n)`) @ right[b]: a dot product per image and mask.

        The flat array of image b would be the outer product of its row of `left` `(B, o)` and of `right` `(B, n)`
        times `weights` `(o, n)`; it is never made. Float32 in and out, `(B, k)`; zeros in `left` cost nothing. Fast on
        processors with AVX-512; on others the layer is unpacked a mask at a time. With `chosen`, int64 `(B, m)`, each
        image meets only its own rows of the matrix, and the result is `(B, m)`.
        """
        at = self.spec[layer]
        w, a, b = (np.asarray(array, dtype=np.float32) for array in (weights, left, right))
        if w.ndim != 2 or w.shape != at.shape or a.shape != (len(a), w.shape[0]) or b.shape != (len(a), w.shape[1]):
            raise SpecError(
                f"outer_dots: expected layer {layer!r} of two dimensions, weights {at.shape}, left (B, o) and right "
                f"(B, n), found weights {w.shape}, left {a.shape}, right {b.shape}"
            )
        first_bit = at.word_start * 64
        if chosen is not None:
            pairs = np.asarray(chosen, dtype=np.int64)
            if (
                pairs.ndim != 2
                or len(pairs) != len(a)
                or (pairs.size and not 0 <= pairs.min() <= pairs.max() < len(self))
            ):
                raise SpecError(f"outer_dots: expected chosen rows (B, m) below {len(self)}, found shape {pairs.shape}")
            if kernel is Kernel.NUMBA:
                found = kernels.load(kernel).outer_pairs(self.packed, first_bit, w, a, b, pairs)
                return cast(NDArray[np.float32], found)
            return np.take_along_axis(self.outer_dots(layer, w, a, b, kernel=kernel), pairs, axis=1)
        if kernel is Kernel.NUMBA and kernels.has_lookup():
            return cast(NDArray[np.float32], kernels.load(kernel).outer_dots(self.packed, first_bit, w, a, b))
        out = np.empty((len(a), len(self)), dtype=np.float32)
        for row in range(len(self)):
            masked = bits.unpack(self.packed.row(row, at.packed), at.size).reshape(at.shape) * w
            out[:, row] = np.einsum("bo,bo->b", a, b @ masked.T)
        return out

    def weighted_sum(self, alpha: ArrayLike, *, kernel: Kernel = Kernel.NUMBA) -> NDArray[np.float32]:
        """Sum of alpha_i times mask i, flat over all layers: `(k,)` -> `(spec.bits,)` float32."""
        weights = np.ascontiguousarray(alpha, dtype=np.float32)
        if weights.shape != (len(self),):
            raise SpecError(f"weighted_sum: expected {len(self)} weights, found shape {weights.shape}")
        return self._without_padding(kernels.load(kernel).weighted_sum(self.packed, weights))

    def counts(self) -> NDArray[np.int32]:
        """In how many masks each bit is set, flat `(spec.bits,)`, int32, read-only; computed once, then kept up."""
        if self._counts is None:
            # float32 sums of ones are exact below 2**24 rows, which would be terabytes of masks
            self._counts = self.weighted_sum(np.ones(len(self), dtype=np.float32)).astype(np.int32)
        view = self._counts.view()
        view.flags.writeable = False
        return view

    def mean(self) -> NDArray[np.float32]:
        """The mean mask, flat `(spec.bits,)`, float32 in [0, 1]."""
        if not len(self):
            raise SpecError("mean: expected at least one mask, found an empty matrix")
        return self.counts().astype(np.float32) / np.float32(len(self))

    def __repr__(self) -> str:
        return f"MaskMatrix({len(self)} masks x {self.spec.bits} bits, {self.nbytes} bytes)"

    def _without_padding(self, padded: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.spec.bits == self.spec.words * 64:
            return padded
        return np.concatenate([padded[layer.word_start * 64 :][: layer.size] for layer in self.spec])
