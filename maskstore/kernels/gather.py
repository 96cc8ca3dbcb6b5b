"""Masks copied from blocks into other blocks, or into rows."""

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
def chosen_rows(bits, stride, step, chosen, out, first, last):
    """out[n] = the chunks of mask chosen[n], which lie at bits[block * stride + chunk * step + lane]."""
    for n in range(first, last):
        at = chosen[n] // LANES * stride + chosen[n] % LANES
        for chunk in range(out.shape[1]):
            out[n, chunk] = bits[at + chunk * step]
