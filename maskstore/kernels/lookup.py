"""Sums over set bits by table lookup, for processors with AVX-512: five bits of sixteen masks in one instruction.

This is the "method of the four Russians" (Arlazarov, Dinic, Kronrod and Faradzev, 1970) with tables that never leave
the registers or the nearer caches; `subset_sums.py` has the vector primitives. A masked add takes sixteen instructions
for the bits that a lookup takes in one.

`cpu.py` has the same functions for every processor and asks `available()`. A result depends on the code here alone, not
on the number of cores.
"""

from functools import cache

import llvmlite.binding
import numpy as np
from numba import njit
from numba.core import config

from maskstore.kernels.subset_sums import (
    BLOCK_CHUNKS,
    BLOCK_WORDS,
    CHUNK,
    GROUPS,
    LANES,
    TABLE_FLOATS,
    add_block,
    add_block_of_one_group,
    add_chunk,
    make_tables,
    turn_shifted,
    turn_words,
)

TILE_BLOCKS = 8  # blocks whose tables (11 KiB each) stay in the second-level cache while all masks pass over them
MASK_TILE = 512  # masks whose bits for one neuron (64 bytes an input) stay in the second-level cache
_LINE = 16  # values of 4 bytes in a line of the cache


@cache
def available() -> bool:
    """Whether the processor has AVX-512, and Numba compiles for it rather than for another that was asked for."""
    if config.CPU_NAME or config.CPU_FEATURES:  # type: ignore[attr-defined]
        return False
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))


@njit(inline="always")
def _on_a_line(array):
    """The array from the first value that starts a line of the cache: a vector across two lines takes two loads."""
    return array[(-array.ctypes.data // 4) % _LINE :]


@njit(cache=True, nogil=True)
def dot_block(rows, g, out, first_block, last_block, first, last):
    """out[i] = sum of g over the set bits of rows[i] in some blocks of 512 bits, for masks first <= i < last.

    At least 16 masks; `out` is float64. Float32 within tiles of 4096 bits.
    """
    words = rows.shape[1]
    flat = rows.reshape(-1)
    tables = _on_a_line(np.empty(TILE_BLOCKS * BLOCK_CHUNKS * TABLE_FLOATS + _LINE, dtype=np.float32))
    indices = _on_a_line(np.empty(BLOCK_CHUNKS * GROUPS * LANES + _LINE, dtype=np.uint32))
    sums = np.empty(GROUPS * LANES, dtype=np.float32)
    together = GROUPS * LANES
    out[first:last] = 0.0
    for tile in range(first_block, last_block, TILE_BLOCKS):
        here = min(TILE_BLOCKS, last_block - tile)
        for chunk in range(here * BLOCK_CHUNKS):
            make_tables(g, tile * BLOCK_WORDS * 64 + CHUNK * chunk, tables, chunk)
        row = first
        while row + together <= last:
            sums[:] = 0.0
            for block in range(here):
                at = row * words + (tile + block) * BLOCK_WORDS
                for group in range(0, together, LANES):
                    turn_words(flat, at + group * words, words, indices, group, together, together * words)
                add_block(tables, block * BLOCK_CHUNKS, indices, sums)
            for i in range(together):
                out[row + i] += sums[i]
            row += together
        while row < last:
            start = min(row, last - LANES)  # the last group overlaps the one before it
            sums[:LANES] = 0.0
            for block in range(here):
                at = start * words + (tile + block) * BLOCK_WORDS
                turn_words(flat, at, words, indices, 0, LANES, LANES * words)
                add_block_of_one_group(tables, block * BLOCK_CHUNKS, indices, sums)
            for lane in range(row - start, LANES):
                out[start + lane] += sums[lane]
            row = start + LANES


@njit(cache=True, nogil=True)
def _bits_of_neuron(flat, words, first_row, count, first_bit, chunks, indices, width):
    """indices[width * c + i] = the 32 bits from first_bit + 32 c of row first_row + i, for i < count.

    What lies beyond the neuron's own bits is not cleared: it meets zeros. `indices` has room for whole blocks.
    """
    word, shift = first_bit >> 6, np.uint64(first_bit & 63)
    for start in range(0, count, LANES):
        for block in range(0, chunks, 2 * BLOCK_WORDS):
            at = (first_row + start) * words + word + block // 2
            if start + LANES <= count and at + (LANES - 1) * words + BLOCK_WORDS + 1 <= flat.size:
                turn_shifted(flat, at, words, shift, indices, block * width + start, width)
                continue
            for i in range(start, min(start + LANES, count)):  # the last rows: nothing may be read beyond them
                for chunk in range(block, min(block + 2 * BLOCK_WORDS, chunks), 2):
                    place = (first_row + i) * words + word + chunk // 2
                    bits = flat[place] >> shift
                    if shift and place + 1 < flat.size:
                        bits |= flat[place + 1] << (np.uint64(64) - shift)
                    indices[width * chunk + i] = np.uint32(bits & np.uint64(0xFFFFFFFF))
                    indices[width * (chunk + 1) + i] = np.uint32(bits >> np.uint64(32))


@njit(cache=True, nogil=True)
def outer_images(rows, first_bit, weights, left, right, out, first, last):
    """out[b, i] += left[b] @ (weights * bits of mask i) @ right[b], for images first <= b < last.

    rows `(k, words)`; the bits of an `(o, n)` layer start at `first_bit`; weights `(o, n)`, left `(B, o)`, right
    `(B, n)`, out `(B, k)`, all float32. Where left is zero (a neuron that was off) nothing is computed.
    """
    neurons, size = weights.shape
    chunks = (size + 31) // 32
    values = np.zeros(32 * chunks, dtype=np.float32)
    room = -(-chunks // (2 * BLOCK_WORDS)) * 2 * BLOCK_WORDS
    flat = rows.reshape(-1)
    for first_row in range(0, rows.shape[0], MASK_TILE):
        here = min(MASK_TILE, rows.shape[0] - first_row)
        groups = (here + LANES - 1) // LANES
        width = groups * LANES
        indices = np.zeros(room * width, dtype=np.uint32)
        sums = np.zeros((last - first) * width, dtype=np.float32)
        for neuron in range(neurons):
            _bits_of_neuron(flat, rows.shape[1], first_row, here, first_bit + neuron * size, chunks, indices, width)
            for image in range(first, last):
                scale = left[image, neuron]
                if scale == 0.0:
                    continue
                for j in range(size):
                    values[j] = scale * weights[neuron, j] * right[image, j]
                at = (image - first) * width
                for chunk in range(chunks):
                    add_chunk(values, 32 * chunk, indices, chunk * width, groups, sums, at)
        for image in range(first, last):
            for i in range(here):
                out[image, first_row + i] += sums[(image - first) * width + i]
