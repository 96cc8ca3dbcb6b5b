"""Sums over set bits by table lookup, for processors with AVX-512: five bits of sixteen masks in one instruction.

This is the "method of the four Russians" (Arlazarov, Dinic, Kronrod and Faradzev, 1970) with tables that never leave
the registers or the nearer caches; `subset_sums.py` has the vector primitives. A masked add takes sixteen instructions
for the bits that a lookup takes in one.

`dispatch.py` asks `available()` and goes another way where it is False. A result depends on the code here alone, not on
the number of cores.
"""

from functools import cache

import numpy as np
from llvmlite.binding import get_host_cpu_features
from numba import njit
from numba.core import config

from maskstore.kernels.compile_cache import compiled
from maskstore.kernels.ir.subset_sums import (
    GROUPS,
    TABLE_FLOATS,
    add_chunk,
    add_chunks,
    add_chunks_of_one_block,
    make_tables,
)
from maskstore.kernels.layout import CHUNK, LANES, LINE

TILE_CHUNKS = 128  # chunks whose tables (90 KiB) stay in the second-level cache while all masks pass over them
BLOCK_TILE = 32  # blocks whose bits for one neuron (64 bytes an input) stay in the second-level cache


@cache
def cpu_features() -> frozenset[str]:
    """The features that this processor has, by LLVM's names."""
    return frozenset(name for name, there in get_host_cpu_features().items() if there)


@cache
def available() -> bool:
    """Whether the processor has AVX-512, and Numba compiles for it rather than for another that was asked for."""
    if config.CPU_NAME or config.CPU_FEATURES:  # type: ignore[attr-defined]
        return False
    return "avx512f" in cpu_features()


@njit(inline="always")
def _on_a_line(array):
    """The array from the first value that starts a line of the cache: a vector across two lines takes two loads."""
    return array[(-array.ctypes.data // 4) % LINE :]


@njit(inline="always")
def _tables_of(g, layers, layer, first_chunk, last_chunk, tables, few):
    """The tables of some chunks, the first of which is of `layer` or of a later one; the layer of the last."""
    for chunk in range(first_chunk, last_chunk):
        while layer + 1 < len(layers) and 2 * layers[layer + 1, 0] <= chunk:
            layer += 1
        inside = CHUNK * (chunk - 2 * layers[layer, 0])
        at, left = layers[layer, 1] + inside, layers[layer, 2] - inside
        if left >= CHUNK:
            make_tables(g, at, tables, chunk - first_chunk)
        else:  # the end of a layer: the bits after it are zeros
            few[:] = 0.0
            for i in range(left):
                few[i] = g[at + i]
            make_tables(few, 0, tables, chunk - first_chunk)
    return layer


@compiled
def dot_chunks(blocks, g, layers, out, first_chunk, last_chunk, first, last):
    """out[16 b + l] = sum of g over the set bits of lane l in some chunks of block b, for first <= b < last.

    `out` is float64. Float32 within tiles of 4096 bits. `layers`, a row each, say with which word a layer of the masks
    starts, with which value of g, and its size.
    """
    layer = 0
    few = np.empty(CHUNK, dtype=np.float32)
    stride = blocks.shape[1] * LANES
    flat = blocks.reshape(-1)
    tables = _on_a_line(np.empty(TILE_CHUNKS * TABLE_FLOATS + LINE, dtype=np.float32))
    sums = np.empty(GROUPS * LANES, dtype=np.float32)
    out[LANES * first : LANES * last] = 0.0
    for tile in range(first_chunk, last_chunk, TILE_CHUNKS):
        here = min(TILE_CHUNKS, last_chunk - tile)
        layer = _tables_of(g, layers, layer, tile, tile + here, tables, few)
        block = first
        while block < last:
            at = block * stride + tile * LANES
            together = GROUPS if block + GROUPS <= last else 1
            sums[:] = 0.0
            if together == GROUPS:
                add_chunks(tables, flat, at, stride, here, sums)
            else:
                add_chunks_of_one_block(tables, flat, at, stride, here, sums)
            for i in range(LANES * together):
                out[LANES * block + i] += sums[i]
            block += together


@compiled
def _bits_of_neuron(blocks, block, count, first_bit, chunks, indices, width, column):
    """indices[width * c + column + i] = 32 bits from first_bit + 32 c on of lane i of the `count` blocks from `block`.

    What lies beyond the neuron's own bits is not cleared: it meets zeros.
    """
    start, shift = first_bit >> 5, np.uint32(first_bit & 31)
    back = np.uint32(32) - shift
    last = blocks.shape[1] - 1
    for number in range(count):
        source = blocks[block + number]
        for chunk in range(chunks):
            to = width * chunk + column + LANES * number
            low = start + chunk
            if shift and low < last:
                for lane in range(LANES):
                    indices[to + lane] = source[low, lane] >> shift | source[low + 1, lane] << back
            else:
                for lane in range(LANES):
                    indices[to + lane] = source[low, lane] >> shift


@compiled
def outer_images(blocks, rest, first_bit, weights, left, right, out, first, last):
    """out[b, i] += left[b] @ (weights * bits of mask i) @ right[b], for images first <= b < last.

    `blocks` and `rest`, `(n, chunks, 16)`: all masks side by side, those of `rest` last; the bits of an `(o, n)` layer
    start at `first_bit`. weights `(o, n)`, left `(B, o)`, right `(B, n)`, out `(B, k)`, all float32. Where left is zero
    (a neuron that was off) nothing is computed.
    """
    neurons, size = weights.shape
    chunks = (size + CHUNK - 1) // CHUNK
    values = np.zeros(CHUNK * chunks, dtype=np.float32)
    full, total = len(blocks), len(blocks) + len(rest)
    for block in range(0, total, BLOCK_TILE):
        groups = min(BLOCK_TILE, total - block)
        whole = max(0, min(groups, full - block))  # of `blocks`; what is left is of `rest`
        width = groups * LANES
        here = min(width, out.shape[1] - LANES * block)
        indices = np.empty(chunks * width, dtype=np.uint32)
        sums = np.zeros((last - first) * width, dtype=np.float32)
        for neuron in range(neurons):
            if not np.any(left[first:last, neuron]):
                continue
            start = first_bit + neuron * size
            _bits_of_neuron(blocks, block, whole, start, chunks, indices, width, 0)
            _bits_of_neuron(rest, block + whole - full, groups - whole, start, chunks, indices, width, LANES * whole)
            for image in range(first, last):
                scale = left[image, neuron]
                if scale == 0.0:
                    continue
                for j in range(size):
                    values[j] = scale * weights[neuron, j] * right[image, j]
                at = (image - first) * width
                for chunk in range(chunks):
                    add_chunk(values, CHUNK * chunk, indices, chunk * width, groups, sums, at)
        for image in range(first, last):
            for i in range(here):
                out[image, LANES * block + i] += sums[(image - first) * width + i]
