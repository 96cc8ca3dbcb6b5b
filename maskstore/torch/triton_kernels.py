"""The packed dot product and the weighted sum of masks in Triton. Importing this module needs `triton`.

Bits lie as `maskstore.masks.bits` says; rows are 32-bit words here (a 64-bit word is two of them, low half first). Each
program holds a tile of rows times words and walks the 32 bit positions, so that a word is loaded once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS, _WORDS, _SPAN = 16, 64, 8  # a tile of the dot product, and the tiles that one program walks
_SUM_WORDS = 32


def dot(packed: Tensor, padded: Tensor) -> Tensor:
    """Inner product of every row of packed bytes `(k, bytes)` with `(8 * bytes,)` float32 -> `(k,)`."""
    rows = packed.view(torch.int32)
    k, words = rows.shape
    spans = max(1, -(-words // (_WORDS * _SPAN)))
    partial = padded.new_zeros(spans, k)
    if k and words:
        dot_kernel[(-(-k // _ROWS), spans)](rows, padded, partial, k, words, ROWS=_ROWS, WORDS=_WORDS, SPAN=_SPAN)
    return partial.sum(dim=0)  # in a fixed order, unlike atomic adds


def weighted_sum(packed: Tensor, alpha: Tensor) -> Tensor:
    """Sum of the rows' bits, packed bytes `(k, bytes)`, times `alpha` `(k,)` float32 -> `(8 * bytes,)`."""
    rows = packed.view(torch.int32)
    k, words = rows.shape
    out = alpha.new_zeros(32 * words)
    if k and words:
        weighted_sum_kernel[(-(-words // _SUM_WORDS),)](rows, alpha, out, k, words, WORDS=_SUM_WORDS)
    return out


@triton.jit
def dot_kernel(rows, g, partial, k, words, ROWS: tl.constexpr, WORDS: tl.constexpr, SPAN: tl.constexpr):
    """partial[p, i] = sum of g over the set bits of row i in the p-th span of SPAN tiles of WORDS words.

    rows `(k, words)` int32, g `(32 * words,)` float32, partial `(spans, k)` float32; grid (k / ROWS, spans).
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros((ROWS,), dtype=tl.float32)
    for tile in range(SPAN):
        word = (tl.program_id(1) * SPAN + tile) * WORDS + tl.arange(0, WORDS)
        inside = (row[:, None] < k) & (word[None, :] < words)
        packed = tl.load(rows + row[:, None].to(tl.int64) * words + word[None, :], mask=inside, other=0)
        for bit in range(32):
            value = tl.load(g + word * 32 + bit, mask=word < words, other=0.0)
            chosen = (packed >> bit) & 1
            total += tl.sum(tl.where(chosen != 0, value[None, :], 0.0), axis=1)
    tl.store(partial + tl.program_id(1) * k + row, total, mask=row < k)


@triton.jit
def weighted_sum_kernel(rows, alpha, out, k, words, WORDS: tl.constexpr):
    """out[32 w + b] = sum over rows i of alpha[i] times bit b of word w.

    rows `(k, words)` int32, alpha `(k,)` float32, out `(32 * words,)` float32; grid (words / WORDS,).
    """
    word = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    bit = tl.arange(0, 32)
    total = tl.zeros((WORDS, 32), dtype=tl.float32)
    for row in range(k):
        packed = tl.load(rows + word, mask=word < words, other=0)
        chosen = (packed[:, None] >> bit[None, :]) & 1
        total += tl.where(chosen != 0, tl.load(alpha + row), 0.0)
        rows += words  # the pointer walks: row * words may be more than 32 bits hold
    tl.store(out + word[:, None] * 32 + bit[None, :], total, mask=word[:, None] < words)
