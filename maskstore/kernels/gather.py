"""Masks copied from blocks into other blocks, or into rows."""

import numpy as np

from maskstore.kernels.compile_cache import compiled
from maskstore.kernels.layout import LANES

_TILE = np.uint64(256)  # chunks of a block that stay in the nearest cache


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
def chosen_rows(bits, stride, step, chosen, places, out, first, last):
    """out[places[n]] = the chunks of mask chosen[n], which lie at bits[block * stride + chunk * step + lane].

    `chosen` ascends: masks of one block share the lines of the cache.
    """
    chunks = np.uint64(out.shape[1])  # unsigned, so that no index is looked at for a minus sign
    for start in range(np.uint64(0), chunks, _TILE):
        stop = min(chunks, start + _TILE)
        for n in range(first, last):
            at = np.uint64(chosen[n] // LANES * stride + chosen[n] % LANES)
            row = out[places[n]]
            for chunk in range(start, stop):
                row[chunk] = bits[at + chunk * np.uint64(step)]
