"""`PackedMasks`: the masks of a `MaskMatrix`, packed, with the products that inference needs, on any device.

There are three ways to the same numbers, listed in `Backend`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore.errors import DeviceError, MaskValueError, SpecError
from maskstore.masks import MaskMatrix, MaskSpec, bits
from maskstore.torch.devices import as_device

_TILE = 1 << 12  # bits of every mask that are floats at a time; whole bytes


class Backend(Enum):
    """What computes the products of packed masks. All backends give the same numbers, up to rounding.

    Examples:
        >>> import torch
        >>> from maskstore import Mask, MaskMatrix, MaskSpec
        >>> from maskstore.torch import Backend, PackedMasks
        >>> spec = MaskSpec({"fc": (1, 3)})
        >>> matrix = MaskMatrix(spec, [Mask.from_dense({"fc": [[1, 0, 1]]}, spec)])
        >>> [PackedMasks.of(matrix, backend=way).dot(torch.ones(3)).item() for way in (Backend.MATRIX, Backend.TORCH)]
        [2.0, 2.0]
    """

    MATRIX = "matrix"
    """The kernels of the `MaskMatrix` itself; on the CPU only, where it is the default."""
    TRITON = "triton"
    """Triton kernels over a packed copy on the device; the default on CUDA, where Triton is installed."""
    TORCH = "torch"
    """Torch over a packed copy on the device, some bits of every mask unpacked at a time; works everywhere."""


@dataclass(frozen=True)
class Leading:
    """The mask whose inner product with a tensor is the largest; see `PackedMasks.leader`.

    Attributes:
        row: Its row.
        products: The inner products of all masks, `(k,)` float32; estimates for most, unless all bits were read.
        share: How much was read, as a share of all masks' bits.
    """

    row: int
    products: Tensor
    share: float


class PackedMasks:
    """k masks, packed, with products in torch. Made by `PackedMasks.of`.

    On the CPU the masks stay in the `MaskMatrix` and take no further memory. On another device a copy lies there,
    `8 * spec.words` bytes a mask. Masks that are appended to the matrix are seen here too: the next product copies them
    to the device. A copy costs time, so keep the `PackedMasks` of a matrix that is used again.

    "Flat" tensors are float32 over all layers in spec order, without padding, `(spec.bits,)`. Arguments may have any
    real dtype and lie on any device; results lie on the device of the masks.

    Examples:
        Two masks of three weights, and a gradient by those weights:

        >>> import torch
        >>> from maskstore import Mask, MaskMatrix, MaskSpec
        >>> from maskstore.torch import PackedMasks
        >>> spec = MaskSpec({"fc": (1, 3)})
        >>> rows = ([[1, 0, 1]], [[0, 1, 1]])
        >>> matrix = MaskMatrix(spec, [Mask.from_dense({"fc": row}, spec) for row in rows])
        >>> masks = PackedMasks.of(matrix, "cpu")  # "cuda" where there is a GPU
        >>> masks.dot(torch.tensor([1.0, 2.0, 4.0]))  # the sum of the gradient over the weights of each mask
        tensor([5., 6.])
        >>> masks.weighted_sum(torch.tensor([0.25, 0.75]))  # the superposition of the two masks
        tensor([0.2500, 0.7500, 1.0000])
        >>> masks.mean()
        tensor([0.5000, 0.5000, 1.0000])
    """

    def __init__(self, spec: MaskSpec, device: torch.device, backend: Backend, held: MaskMatrix | Tensor) -> None:
        self.spec = spec
        self.device = device
        self.backend = backend
        self._held = held  # a matrix, which may grow, or packed bytes (k, 8 * spec.words) on the device
        self._matrix = held if backend is Backend.MATRIX and isinstance(held, MaskMatrix) else None
        self._copied: Tensor | None = None  # packed bytes of the matrix, made when first needed
        self._mean: tuple[int, Tensor] | None = None  # of so many masks

    @classmethod
    def of(
        cls, matrix: MaskMatrix, device: torch.device | str = "cpu", *, backend: Backend | None = None
    ) -> "PackedMasks":
        """The masks of a matrix, for products on a device.

        Args:
            matrix: The masks. It is shared, not copied, and may grow.
            device: Where products are computed.
            backend: What computes them; by default the fastest that works there.

        Raises:
            DeviceError: Torch cannot use the device here, or `Backend.MATRIX` was asked for on another than the CPU.
        """
        where = as_device(device)
        if backend is None:
            on_device = Backend.TRITON if where.type == "cuda" and find_spec("triton") is not None else Backend.TORCH
            backend = Backend.MATRIX if where.type == "cpu" else on_device
        if backend is Backend.MATRIX and where.type != "cpu":
            raise DeviceError(f"Backend.MATRIX: expected the device cpu, found {where}")
        return cls(matrix.spec, where, backend, matrix)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def nbytes(self) -> int:
        """Bytes of the copy on the device; 0 where there is none."""
        return 0 if self._matrix is not None else 8 * self.spec.words * len(self)

    def select(self, rows: Sequence[int]) -> "PackedMasks":
        """Some of the masks, on the same device. They do not follow the matrix any more.

        Args:
            rows: Which masks, by their rows, in the order that is wanted.
        """
        if self._matrix is not None:
            return PackedMasks(self.spec, self.device, self.backend, self._matrix.select(rows))
        chosen = torch.tensor(rows, dtype=torch.int64, device=self.device)
        return PackedMasks(self.spec, self.device, self.backend, self._copy()[chosen])

    def mean(self) -> Tensor:
        """The mean mask, flat, in [0, 1].

        It is kept: the same tensor comes back until a mask is added. Do not write to it.

        Raises:
            MaskValueError: There is no mask.
        """
        count = len(self)  # read before the mean is computed: a mask that arrives in between counts next time
        if not count:
            raise MaskValueError("mean: expected at least one mask, found none")
        kept = self._mean
        if kept is None or kept[0] != count:
            if self._matrix is not None:
                mean = torch.from_numpy(self._matrix.mean())
            else:
                mean = self.weighted_sum(torch.ones(count, device=self.device)) / count
            self._mean = kept = count, mean
        return kept[1]

    def dot(self, g: Tensor) -> Tensor:
        """Inner products of every mask with a flat tensor, or with each of a batch.

        Args:
            g: Flat `(spec.bits,)`, or a batch `(b, spec.bits)`.

        Returns:
            `(k,)` or `(b, k)`, float32.

        Raises:
            MaskValueError: `g` has another shape.
        """
        g = self._taken(g, "dot", "a flat tensor", self.spec.bits)
        if self._matrix is not None:
            array = g.numpy()
            return torch.from_numpy(self._matrix.dot(array) if g.ndim == 1 else self._matrix.dot_many(array))
        rows = self._copy()
        if self.backend is Backend.TRITON and g.ndim == 1:
            from maskstore.torch import triton_kernels

            return triton_kernels.dot(rows, self._padded(g))
        total = g.new_zeros(*g.shape[:-1], len(rows))
        for flat, tile in unpacked_tiles(rows, self.spec):
            total += g[..., flat] @ tile.T
        return total

    def leader(self, g: Tensor, *, error: float = 1e-4, usual: Tensor | None = None) -> "Leading":
        """The mask whose inner product with a flat tensor is the largest, by `MaskMatrix.leader` on the CPU.

        Args:
            g: Flat `(spec.bits,)`.
            error: The most that the chance of another row than the exact one may be. Backends that hold a copy on a
                device compute all products.
            usual: How large values of g are on average, flat; see `MaskMatrix.leader`.

        Returns:
            The row, and the products, of which most may be estimates.

        Raises:
            MaskValueError: `g` has another shape.
            SpecError: An error outside [0, 1), or no mask.

        Examples:
            >>> import torch
            >>> from maskstore import Mask, MaskMatrix, MaskSpec
            >>> from maskstore.torch import PackedMasks
            >>> spec = MaskSpec({"fc": (1, 3)})
            >>> matrix = MaskMatrix(spec, [Mask.from_dense({"fc": row}, spec) for row in ([[1, 0, 1]], [[0, 1, 1]])])
            >>> PackedMasks.of(matrix).leader(torch.tensor([1.0, 2.0, 4.0])).row
            1
        """
        if g.ndim != 1:
            raise MaskValueError(f"leader: expected a flat tensor of shape ({self.spec.bits},), found {tuple(g.shape)}")
        if self._matrix is None:
            if not 0 <= error < 1:
                raise SpecError(f"leader: expected an error in [0, 1), found {error}")
            if not len(self):
                raise SpecError("leader: expected at least one mask, found none")
            products = self.dot(g)
            return Leading(int(products.argmax()), products, 1.0)
        flat = self._taken(g, "leader", "a flat tensor", self.spec.bits).numpy()
        often = None if usual is None else self._taken(usual, "leader", "a flat tensor", self.spec.bits).numpy()
        found = self._matrix.leader(flat, error=error, usual=often)
        return Leading(found.row, torch.from_numpy(found.products), found.share)

    def weighted_sum(self, alpha: Tensor) -> Tensor:
        """Sum of alpha_i times mask i.

        Args:
            alpha: One weight a mask, `(k,)`, or a batch `(b, k)`.

        Returns:
            Flat `(spec.bits,)`, or a batch `(b, spec.bits)`, float32.

        Raises:
            MaskValueError: `alpha` has another shape.
        """
        alpha = self._taken(alpha, "weighted_sum", "weights", len(self))
        if self._matrix is not None:
            if alpha.ndim == 1:
                return torch.from_numpy(self._matrix.weighted_sum(alpha.numpy()))
            sums = alpha.new_empty(len(alpha), self.spec.bits)
            for row, weights in zip(sums, alpha, strict=True):
                row.copy_(torch.from_numpy(self._matrix.weighted_sum(weights.numpy())))
            return sums
        rows = self._copy()
        if self.backend is Backend.TRITON and alpha.ndim == 1:
            from maskstore.torch import triton_kernels

            padded = triton_kernels.weighted_sum(rows, alpha.contiguous())
            return torch.cat([padded[64 * layer.word_start :][: layer.size] for layer in self.spec])
        return torch.cat([alpha @ tile for _, tile in unpacked_tiles(rows, self.spec)], dim=-1)

    def column(self, index: int) -> Tensor:
        """One bit of every mask.

        Args:
            index: The bit's place in flat tensors, 0 to `spec.bits` - 1.

        Returns:
            0 or 1 for each mask, `(k,)`, float32.

        Raises:
            MaskValueError: There is no such bit.
        """
        if not 0 <= index < self.spec.bits:
            raise MaskValueError(f"column: expected a flat index of 0 to {self.spec.bits - 1}, found {index}")
        layer = next(layer for layer in self.spec if index < layer.flat_start + layer.size)
        byte, shift = divmod(index - layer.flat_start, 8)
        if self._matrix is not None:
            word, byte = layer.word_start + byte // 8, byte % 8
            column = packed_bytes(self._matrix.interleaved.rows(slice(word, word + 1)))[:, byte]
        else:
            column = self._copy()[:, 8 * layer.word_start + byte]
        return (column >> shift & 1).float()

    def _copy(self) -> Tensor:
        """The packed copy on the device, up to date."""
        if isinstance(self._held, Tensor):
            return self._held
        copied = self._copied
        if copied is None or len(copied) != len(self._held):
            self._copied = copied = packed_bytes(self._held.interleaved.rows()).to(self.device)
        return copied

    def _taken(self, values: Tensor, where: str, what: str, size: int) -> Tensor:
        """An argument as float32 on the device; MaskValueError unless it is `(size,)` or `(b, size)`."""
        if values.ndim not in (1, 2) or values.shape[-1] != size:
            raise MaskValueError(
                f"{where}: expected {what} of shape ({size},) or (b, {size}), found {tuple(values.shape)}"
            )
        return values.to(self.device, torch.float32)

    def _padded(self, g: Tensor) -> Tensor:
        """A flat tensor as layers lie in packed words, `(64 * spec.words,)`."""
        padded = g.new_zeros(64 * self.spec.words)
        for layer in self.spec:
            padded[64 * layer.word_start :][: layer.size] = g[layer.flat]
        return padded

    def __repr__(self) -> str:
        return f"PackedMasks({len(self)} masks x {self.spec.bits} bits, {self.device}, {self.backend.value})"


def packed_bytes(rows: NDArray[np.uint64]) -> Tensor:
    """Packed words `(k, words)` uint64 as bytes `(k, 8 * words)` uint8, bit i of a row in byte i // 8.

    They share the memory of the words where those may be written to, and are a copy elsewhere.

    Examples:
        >>> import numpy as np
        >>> from maskstore.torch import packed_bytes
        >>> packed_bytes(np.array([[5]], dtype=np.uint64))
        tensor([[5, 0, 0, 0, 0, 0, 0, 0]], dtype=torch.uint8)
    """
    return torch.from_numpy(np.require(bits.as_bytes(rows), requirements="W"))


def unpacked(packed: Tensor, count: int) -> Tensor:
    """The first `count` bits of packed bytes `(n, bytes)` uint8, as `(n, count)` float32.

    Examples:
        >>> import torch
        >>> from maskstore.torch import unpacked
        >>> unpacked(torch.tensor([[5]], dtype=torch.uint8), 3)
        tensor([[1., 0., 1.]])
    """
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    dense = packed.unsqueeze(2) >> shifts & 1
    return dense.reshape(len(packed), 8 * packed.shape[1])[:, :count].float()


def unpacked_tiles(rows: Tensor, spec: MaskSpec) -> Iterator[tuple[slice, Tensor]]:
    """Unpack some bits of every mask at a time, so that no float copy of all masks ever exists.

    Args:
        rows: Packed bytes `(k, 8 * spec.words)` uint8, as `packed_bytes` gives them.
        spec: The masks' layers.

    Yields:
        Where the bits lie in a flat tensor, and the bits `(k, t)` float32.

    Examples:
        >>> from maskstore import Mask, MaskMatrix, MaskSpec
        >>> from maskstore.torch import packed_bytes, unpacked_tiles
        >>> spec = MaskSpec({"fc1": (1, 3), "fc2": (1, 2)})
        >>> mask = Mask.from_dense({"fc1": [[1, 0, 1]], "fc2": [[0, 1]]}, spec)
        >>> for flat, tile in unpacked_tiles(packed_bytes(MaskMatrix(spec, [mask]).rows), spec):
        ...     print(flat, tile)
        slice(0, 3, None) tensor([[1., 0., 1.]])
        slice(3, 5, None) tensor([[0., 1.]])
    """
    for layer in spec:
        for start in range(0, layer.size, _TILE):
            count = min(_TILE, layer.size - start)
            first = layer.word_start * 8 + start // 8
            flat = slice(layer.flat_start + start, layer.flat_start + start + count)
            yield flat, unpacked(rows[:, first : first + (count + 7) // 8], count)
