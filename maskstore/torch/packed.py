"""`PackedRows`: the masks of a `MaskMatrix`, packed, on a device, with the two products that inference needs there."""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from maskstore.errors import MaskValueError
from maskstore.masks import MaskMatrix, MaskSpec

_ROWS, _WORDS, _SPAN = 16, 64, 8  # a tile of the dot product, and the tiles that one program walks
_SUM_WORDS = 32
_TILE_WORDS = 1 << 10  # words that the torch fallback unpacks at a time


class PackedRows:
    """k packed masks on a device: `8 * spec.words` bytes a mask, and nothing else that grows with k.

    Flat tensors are float32 over all layers in spec order, without padding, on the same device.
    """

    def __init__(self, spec: MaskSpec, rows: Tensor) -> None:
        self.spec = spec
        self._rows = rows  # (k, 2 * spec.words) int32
        self._mean: Tensor | None = None

    @classmethod
    def of(cls, matrix: MaskMatrix, device: torch.device | str) -> "PackedRows":
        """The masks of a matrix, copied to a device."""
        words = matrix.interleaved.rows().astype("<u8", copy=False).view("<i4")
        return cls(matrix.spec, torch.from_numpy(words).to(device))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self._rows.device

    def select(self, rows: Sequence[int]) -> "PackedRows":
        """Some of the masks, in this order, on the same device."""
        return PackedRows(self.spec, self._rows[torch.tensor(rows, dtype=torch.int64, device=self.device)])

    def mean(self) -> Tensor:
        """The mean mask, flat `(spec.bits,)`; computed once, not to be written to."""
        if self._mean is None:
            self._mean = self.weighted_sum(torch.ones(len(self), device=self.device)) / len(self)
        return self._mean

    def dot(self, g: Tensor, *, triton: bool | None = None) -> Tensor:
        """Inner product of every mask with a flat tensor `(spec.bits,)` -> `(k,)`.

        `triton` says whether to use the Triton kernel; by default where there is a GPU and the package.
        """
        if g.shape != (self.spec.bits,):
            raise MaskValueError(f"dot: expected a flat tensor of shape ({self.spec.bits},), found {tuple(g.shape)}")
        padded = g.new_zeros(64 * self.spec.words, dtype=torch.float32)
        for layer in self.spec:
            padded[64 * layer.word_start :][: layer.size] = g[layer.flat]
        if self._use_triton(triton):
            return _triton_dot(self._rows, padded)
        total = padded.new_zeros(len(self))
        for start in range(0, self._rows.shape[1], _TILE_WORDS):
            bits = _unpacked(self._rows[:, start : start + _TILE_WORDS])
            total += bits @ padded[32 * start : 32 * start + bits.shape[1]]
        return total

    def weighted_sum(self, alpha: Tensor, *, triton: bool | None = None) -> Tensor:
        """Sum of alpha_i times mask i: `(k,)` -> flat `(spec.bits,)`; `triton` as in `dot`."""
        if alpha.shape != (len(self),):
            raise MaskValueError(f"weighted_sum: expected {len(self)} weights, found shape {tuple(alpha.shape)}")
        alpha = alpha.float().contiguous()
        if self._use_triton(triton):
            padded = _triton_weighted_sum(self._rows, alpha)
        else:
            tiles = self._rows.split(_TILE_WORDS, dim=1)
            padded = torch.cat([alpha @ _unpacked(tile) for tile in tiles])
        return torch.cat([padded[64 * layer.word_start :][: layer.size] for layer in self.spec])

    def _use_triton(self, wanted: bool | None) -> bool:
        return self._rows.is_cuda and find_spec("triton") is not None if wanted is None else wanted


def _unpacked(words: Tensor) -> Tensor:
    """int32 `(k, w)` -> float32 bits `(k, 32 w)`."""
    bits = (words.unsqueeze(2) >> torch.arange(32, dtype=torch.int32, device=words.device)) & 1
    return bits.view(len(words), 32 * words.shape[1]).float()


def _triton_dot(rows: Tensor, padded: Tensor) -> Tensor:
    from maskstore.torch.triton_kernels import dot_kernel

    k, words = rows.shape
    spans = max(1, -(-words // (_WORDS * _SPAN)))
    partial = padded.new_zeros(spans, k)
    if k and words:
        dot_kernel[(-(-k // _ROWS), spans)](rows, padded, partial, k, words, ROWS=_ROWS, WORDS=_WORDS, SPAN=_SPAN)
    return partial.sum(dim=0)  # in a fixed order, unlike atomic adds


def _triton_weighted_sum(rows: Tensor, alpha: Tensor) -> Tensor:
    from maskstore.torch.triton_kernels import weighted_sum_kernel

    k, words = rows.shape
    out = alpha.new_zeros(32 * words)
    if k and words:
        weighted_sum_kernel[(-(-words // _SUM_WORDS),)](rows, alpha, out, k, words, WORDS=_SUM_WORDS)
    return out
