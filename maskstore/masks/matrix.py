"""`MaskMatrix`: k masks of one spec, packed and side by side in memory, and the arithmetic inference needs on them.

Flat arrays (gradients in, weighted sums out) are float32 over all layers in spec order, without padding.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskstore import kernels
from maskstore.errors import SpecError, TaskExistsError, TaskNotFoundError
from maskstore.kernels import Kernel
from maskstore.masks.bits import as_floats
from maskstore.masks.copies import Copies
from maskstore.masks.interleave import GrowingRows, Interleaved, chosen_rows
from maskstore.masks.leader import Leader
from maskstore.masks.mask import Mask
from maskstore.masks.names import RowNames
from maskstore.masks.parts import LeaderSearch, dot_by_tiles, weighted_sum
from maskstore.masks.spec import MaskSpec


class MaskMatrix:
    """k packed masks with names, and the arithmetic that inference needs on all of them at once.

    A matrix grows by `append`; a row never changes. Memory is `8 * spec.words` bytes a mask, and up to as much again
    while growing, unless `room` says from the start how many there will be. How masks lie in it:
    `maskstore.masks.interleave`. The sum of all rows is kept, and only masks that arrived since are added to it, so
    `counts()` and `mean()` cost nothing at inference.

    One thread may append while others read: each call sees the masks that had arrived when it began. An append that is
    interrupted has added its mask or nothing.

    Args:
        spec: The layers of every mask.
        masks: The first rows.
        names: Their names, all different; "0", "1", ... if not given.
        room: For how many masks to set memory aside.

    Raises:
        SpecError: For masks of another spec, and for another number of names than of masks.
        TaskExistsError: For a name that comes twice.

    Examples:
        >>> import numpy as np
        >>> from maskstore import Mask, MaskMatrix
        >>> rng = np.random.default_rng(0)
        >>> masks = [Mask.from_dense({"fc1": rng.random((100, 64)) < 0.5}) for _ in range(20)]
        >>> matrix = MaskMatrix(masks[0].spec, masks, names=[f"task-{i}" for i in range(20)])
        >>> matrix
        MaskMatrix(20 masks x 6400 bits, 16000 bytes)

        The mask that a gradient agrees with most:

        >>> gradient = matrix["task-7"].flat() - matrix.mean()
        >>> matrix.names[int(np.argmax(matrix.dot(gradient)))]
        'task-7'
    """

    def __init__(
        self, spec: MaskSpec, masks: Iterable[Mask] = (), names: Sequence[str] | None = None, *, room: int = 0
    ) -> None:
        if not isinstance(spec, MaskSpec):
            raise SpecError(f"mask matrix: expected a spec such as MaskSpec.of(masks), found {type(spec).__name__}")
        masks = list(masks)
        if names is None:
            names = [str(i) for i in range(len(masks))]
        if len(names) != len(masks):
            raise SpecError(f"mask matrix: expected {len(masks)} names, found {len(names)}")
        self.spec = spec
        self._rows = GrowingRows(spec.words, room=max(len(masks), room))
        self._names = RowNames()
        self._counted = 0, np.zeros(0, dtype=np.int32)  # so many rows, and their sum
        self._search: LeaderSearch | None = None  # made when first needed
        self._layers = np.array([(layer.word_start, layer.flat_start, layer.size) for layer in spec], dtype=np.int64)
        for name, mask in zip(names, masks, strict=True):
            self.append(name, mask)

    @classmethod
    def of_blocks(
        cls,
        spec: MaskSpec,
        blocks: NDArray[np.uint32],
        tail: NDArray[np.uint64],
        names: Sequence[str] | None = None,
        counts: NDArray[np.int32] | None = None,
        copies: Copies | None = None,
    ) -> "MaskMatrix":
        """A matrix over packed masks that lie in memory already, such as a mapped file; nothing is copied.

        Args:
            spec: The layers of every mask.
            blocks: Full blocks of sixteen masks, `(blocks, 2 * spec.words, 16)` uint32, in C order as those of
                `matrix.interleaved`, or turned so that a chunk of all masks lies after the other. Never written to.
            tail: Rows of the masks after the last block, `(n, spec.words)` uint64, n < 16.
            names: The masks' names, all different; "0", "1", ... if not given.
            counts: In how many masks each bit is set, `(spec.bits,)`, where it is known.
            copies: The masks of the blocks once more, as rows, where the turned blocks lie in a file.

        Raises:
            SpecError: For arrays of another shape, dtype or order, and for another number of names.
            TaskExistsError: For a name that comes twice.

        Examples:
            >>> import numpy as np
            >>> from maskstore import Mask, MaskMatrix
            >>> masks = [Mask.from_dense({"fc1": np.eye(8) == n % 2}) for n in range(20)]
            >>> matrix = MaskMatrix(masks[0].spec, masks)
            >>> again = MaskMatrix.of_blocks(matrix.spec, matrix.interleaved.blocks, matrix.interleaved.tail)
            >>> again["19"] == masks[19]
            True
        """
        fits = blocks.ndim == 3 and blocks.shape[1:] == (2 * spec.words, kernels.LANES)
        fits = fits and (copies is None or copies.rows.shape == (kernels.LANES * len(blocks), spec.words))
        fits = fits and tail.shape[1:] == (spec.words,) and len(tail) < kernels.LANES
        ordered = fits and any(one.flags.c_contiguous for one in (blocks, blocks.transpose(1, 0, 2)))
        if not ordered or blocks.dtype != np.uint32 or tail.dtype != np.uint64:
            raise SpecError(
                f"mask matrix: expected blocks (n, {2 * spec.words}, 16) uint32 and a tail (n, {spec.words}) uint64, "
                f"found {blocks.shape} {blocks.dtype} and {tail.shape} {tail.dtype}"
            )
        result = cls(spec)
        result._rows = GrowingRows.of(Interleaved(blocks, tail, copies))
        result._names = RowNames(map(str, range(len(result))) if names is None else names)
        if len(result._names) != len(result):
            raise SpecError(f"mask matrix: expected {len(result)} names, found {len(result._names)}")
        if not result._names.distinct:
            raise TaskExistsError("mask matrix: expected distinct names, found one twice")
        if counts is not None:
            result._counted = len(result), counts
        return result

    @property
    def names(self) -> tuple[str, ...]:
        """Task names, in row order."""
        return self._names.first(len(self))

    @property
    def interleaved(self) -> Interleaved:
        """All masks as they lie in memory; not to be written to."""
        return self._rows.arrived

    @property
    def mapped(self) -> bool:
        """Whether the masks lie in a mapped file, of which the system keeps in memory what fits."""
        return self.interleaved.copies is not None

    @property
    def rows(self) -> NDArray[np.uint64]:
        """Packed rows, shape `(k, spec.words)`, uint64, a read-only copy."""
        rows = self.interleaved.rows()
        rows.flags.writeable = False
        return rows

    @property
    def nbytes(self) -> int:
        """Bytes of the packed rows."""
        return len(self) * self.spec.words * 8

    def __len__(self) -> int:
        return len(self.interleaved)

    def __getitem__(self, task: int | str) -> Mask:
        """The mask of a row, by position or by name."""
        index = self.index(task) if isinstance(task, str) else range(len(self))[task]
        return Mask(self.spec, self.interleaved.row(index))

    def index(self, name: str) -> int:
        """The row of a task name; TaskNotFoundError if there is none."""
        row = self._names.find(name, len(self))
        if row is None:
            raise TaskNotFoundError(f"task {name!r}: expected one of {len(self)} tasks of this matrix")
        return row

    def append(self, name: str, mask: Mask) -> None:
        """Add a mask as the last row.

        Args:
            name: Its name, which no other row has.
            mask: A mask of the matrix's spec.

        Raises:
            SpecError: For what is no mask of the matrix's spec, and for a name that is no text.
            TaskExistsError: For a name that another row has.
        """
        if not isinstance(name, str):
            raise SpecError(f"mask matrix: expected a name that is text, found {name!r:.40}")
        if not isinstance(mask, Mask):
            raise SpecError(f"mask {name!r}: expected a Mask, found {type(mask).__name__}")
        if mask.spec != self.spec:
            raise SpecError(f"mask {name!r}: expected the matrix's spec {self.spec!r}, found {mask.spec!r}")
        found = self._names.find(name, len(self))
        if found is not None:
            raise TaskExistsError(f"task {name!r}: expected a new name, found it in row {found}")
        self._names.claim(name, len(self))
        self._rows.append(mask.words)  # last: it is the row that makes the name one of ours

    def select(self, tasks: Sequence[int | str]) -> "MaskMatrix":
        """A new matrix of some rows.

        Args:
            tasks: Positions or names of rows, each once, in the order they shall have.

        Raises:
            TaskNotFoundError: For a name that no row has (IndexError for a position).
            TaskExistsError: For a row that comes twice.
        """
        chosen = [self.index(task) if isinstance(task, str) else range(len(self))[task] for task in tasks]
        result = MaskMatrix(self.spec)
        result._names = self._names.chosen(chosen)
        if not result._names.distinct:
            raise TaskExistsError("select: expected distinct rows, found one twice")
        result._rows = GrowingRows.of(chosen_rows(self.interleaved, chosen))
        return result

    def dot(self, g: ArrayLike, *, kernel: Kernel = Kernel.NUMBA) -> NDArray[np.float32]:
        """The inner product of every mask with one array: a sum over each mask's set bits.

        Args:
            g: A value for each bit, flat, `(spec.bits,)`, taken as float32.
            kernel: `Kernel.REFERENCE` computes the same slowly, in plain numpy.

        Returns:
            `(k,)` float32.

        Raises:
            SpecError: For another shape.
        """
        flat, dot = self._flat(g, "dot"), kernels.load(kernel).dot
        return np.concatenate([dot(part.blocks, part.tail, flat, self._layers) for part in self.interleaved.parts()])

    def _flat(self, g: ArrayLike, where: str) -> NDArray[np.float32]:
        flat = as_floats(g, where)
        if flat.shape != (self.spec.bits,):
            raise SpecError(f"{where}: expected a flat array of shape ({self.spec.bits},), found {flat.shape}")
        return flat

    def leader(self, g: ArrayLike, *, error: float = 1e-4, usual: ArrayLike | None = None) -> Leader:
        """The mask whose inner product with an array is the largest; of many masks without reading all bits.

        Args:
            g: A value for each bit, flat, `(spec.bits,)`, taken as float32.
            error: The most that the chance of another row than the exact one may be, by the bound that
                `maskstore.masks.leader` states; 0 computes all products exactly, as `dot` does.
            usual: How large values of g are on average over many calls, `(spec.bits,)`. Of masks in a file the places
                where these are large are read first, so that many calls read the same part of the file.

        Returns:
            The row, and the products, of which most are estimates.

        Raises:
            SpecError: For another shape, an error outside [0, 1), and an empty matrix.

        Examples:
            >>> import numpy as np
            >>> from maskstore import Mask, MaskMatrix, MaskSpec
            >>> rng, spec = np.random.default_rng(0), MaskSpec({"fc1": (100, 200)})
            >>> matrix = MaskMatrix(spec, [Mask.from_flat(rng.random(20_000) < 0.5, spec) for _ in range(400)])
            >>> g = matrix[123].flat() - 0.5
            >>> leader = matrix.leader(g)
            >>> leader.row
            123
        """
        flat = self._flat(g, "leader")
        if not 0 <= error < 1:
            raise SpecError(f"leader: expected an error in [0, 1), found {error}")
        if not len(self):
            raise SpecError("leader: expected at least one mask, found an empty matrix")
        if self._search is None:
            self._search = LeaderSearch(self.spec, self._layers)
        often = None if usual is None else self._flat(usual, "leader")
        return self._search.find(self.interleaved, *self._sum_of_rows(), flat, error, often)

    def dot_many(self, G: ArrayLike) -> NDArray[np.float32]:
        """Inner products of every mask with many arrays at once.

        Rows are unpacked a tile of columns at a time and multiplied by BLAS; no float copy of all masks ever exists.

        Args:
            G: b flat arrays, `(b, spec.bits)`, taken as float32.

        Returns:
            `(b, k)` float32.

        Raises:
            SpecError: For another shape.
        """
        many, masks = as_floats(G, "dot_many"), self.interleaved
        if many.ndim != 2 or many.shape[1] != self.spec.bits:
            raise SpecError(f"dot_many: expected an array of shape (b, {self.spec.bits}), found {many.shape}")
        return dot_by_tiles(masks, self.spec, many)

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
        """A dot product per image and mask: out[b, i] = left[b] @ (weights * mask i of a layer) @ right[b].

        The flat array of image b would be the outer product of its rows of `left` and `right` times `weights`; it is
        never made. Zeros in `left` cost nothing. Fast on processors with AVX-512; on others the layer is unpacked a
        mask at a time.

        Args:
            layer: Name of a layer of two dimensions, `(o, n)`.
            weights: `(o, n)`, taken as float32 like the other arrays.
            left: `(B, o)`.
            right: `(B, n)`.
            chosen: Rows of the matrix for each image, `(B, m)` int64; all rows if not given.
            kernel: `Kernel.REFERENCE` computes the same slowly, in plain numpy.

        Returns:
            `(B, k)` float32, or `(B, m)` for chosen rows.

        Raises:
            SpecError: For other shapes, and for rows that are not there.
        """
        at = self.spec[layer]
        w, a, b = (as_floats(x, "outer_dots") for x in (weights, left, right))
        if (
            w.ndim != 2
            or a.ndim != 2
            or w.shape != at.shape
            or a.shape != (len(a), w.shape[0])
            or b.shape != (len(a), w.shape[1])
        ):
            raise SpecError(
                f"outer_dots: expected layer {layer!r} of two dimensions, weights {at.shape}, left (B, o) and right "
                f"(B, n), found weights {w.shape}, left {a.shape}, right {b.shape}"
            )
        first_bit = at.word_start * 64
        masks, pairs = self.interleaved, None if chosen is None else np.asarray(chosen, dtype=np.int64)
        if pairs is not None and not (
            pairs.ndim == 2
            and len(pairs) == len(a)
            and (not pairs.size or 0 <= pairs.min() <= pairs.max() < len(masks))
        ):
            raise SpecError(f"outer_dots: expected chosen rows (B, m) below {len(masks)}, found shape {pairs.shape}")
        products = kernels.load(kernel).outer_dots
        if pairs is not None:
            return products(masks.blocks, masks.tail, first_bit, w, a, b, pairs)
        parts = [products(part.blocks, part.tail, first_bit, w, a, b) for part in masks.parts()]
        return np.concatenate(parts, axis=1)

    def weighted_sum(self, alpha: ArrayLike, *, kernel: Kernel = Kernel.NUMBA) -> NDArray[np.float32]:
        """The sum of alpha_i times mask i.

        Args:
            alpha: A weight for each mask, `(k,)`, taken as float32.
            kernel: `Kernel.REFERENCE` computes the same slowly, in plain numpy.

        Returns:
            Flat over all layers, `(spec.bits,)` float32.

        Raises:
            SpecError: For another shape.
        """
        weights, masks = np.ascontiguousarray(as_floats(alpha, "weighted_sum")), self.interleaved
        if weights.shape != (len(masks),):
            raise SpecError(f"weighted_sum: expected {len(masks)} weights, found shape {weights.shape}")
        return weighted_sum(masks, self.spec, weights, kernel)

    def counts(self) -> NDArray[np.int32]:
        """In how many masks each bit is set, flat `(spec.bits,)`, int32, read-only; computed once, then kept up."""
        return self._sum_of_rows()[1]

    def mean(self) -> NDArray[np.float32]:
        """The mean mask, flat `(spec.bits,)`, float32 in [0, 1]; SpecError for a matrix without masks."""
        rows, total = self._sum_of_rows()
        if not rows:
            raise SpecError("mean: expected at least one mask, found an empty matrix")
        return total.astype(np.float32) / np.float32(rows)

    def _sum_of_rows(self) -> tuple[int, NDArray[np.int32]]:
        """How many rows there are, and their sum: a pair that is replaced in one step, whoever else reads or asks."""
        masks, (known, total) = self.interleaved, self._counted
        if total.size and known >= len(masks):
            return known, total
        if total.size:
            total = total.copy()
            for row in range(known, len(masks)):
                total += self[row].flat()
        else:
            # float32 sums of ones are exact below 2**24 rows, which would be terabytes of masks
            ones = np.ones(len(masks), dtype=np.float32)
            total = weighted_sum(masks, self.spec, ones).astype(np.int32)
        total.flags.writeable = False
        self._counted = found = len(masks), total
        return found

    def __repr__(self) -> str:
        return f"MaskMatrix({len(self)} masks x {self.spec.bits} bits, {self.nbytes} bytes)"
