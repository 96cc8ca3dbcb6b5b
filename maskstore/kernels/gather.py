"""Masks copied out of blocks, or from some blocks into others; `layout.rows_of` does it in numpy."""

import numpy as np

from maskstore.kernels.compile_cache import compiled
from maskstore.kernels.layout import LANES


@compiled
def chosen_blocks(blocks, tail, chosen, out, first, last):
    """Lane l of out[b] = mask chosen[16 b + l], for first <= b < last; `tail` is rows of chunks."""
    full = LANES * len(blocks)
    for block in range(first, last):
        for chunk in range(out.shape[1]):
            for lane in range(LANES):
                mask = chosen[LANES * block + lane]
                if mask < full:
                    out[block, chunk, lane] = blocks[mask // LANES, chunk, mask % LANES]
                else:
                    out[block, chunk, lane] = tail[mask - full, chunk]


@compiled
def rows_of(blocks, tail, first_word, wanted, out, first, last):
    """The words from `first_word` on of the wanted of masks 16 first to 16 last, to out[wanted[mask]]; -1 is not."""
    for block in range(first, last):
        for lane in range(LANES):
            mask = LANES * block + lane
            if mask >= len(wanted) or wanted[mask] < 0:
                continue
            row = out[wanted[mask]]
            if block == len(blocks):
                row[:] = tail[lane, first_word : first_word + len(row)]
                continue
            for word in range(len(row)):
                low = blocks[block, 2 * (first_word + word), lane]
                high = blocks[block, 2 * (first_word + word) + 1, lane]
                row[word] = np.uint64(high) << np.uint64(32) | np.uint64(low)
