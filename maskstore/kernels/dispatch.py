"""The hot loops in Numba, shared among cores: by table lookup where the processor can, by masked adds elsewhere.

Each function does what `interface.Kernels` says, in float32 unless something else is said here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.kernels import gather, layout
from maskstore.kernels.interface import Blocks, Floats, Tail
from maskstore.kernels.ir import chosen_chunks, lookup, masked_adds, pair_tables, products, seeded_contexts
from maskstore.kernels.layout import LANES, chosen_rows_of, chunks_of, rows_of, words_of
from maskstore.kernels.threads import CORES, pieces_for_cores, ranges, share_work

__all__ = [
    "chosen_blocks",
    "chosen_rows",
    "chunk_facts",
    "dot",
    "dot_chunks",
    "masked_lines",
    "masked_taps",
    "outer_dots",
    "score_contexts",
    "weighted_sum",
]

score_contexts = seeded_contexts.score_contexts
_LOOKUP_GAIN = 8  # lookups take a word in less than an eighth of the time of masked adds
_PAIR_GAIN = 2  # the same of tables of two bits
_ALONE = 4  # a chunk of one mask alone takes as long as the same chunk of so many masks side by side
_LINE_BYTES = 64
_DOT_BLOCKS = 64  # blocks that share tables of lookups: enough to make the tables' own cost small
_DOT_PIECE = 1 << 15  # chunks of blocks in a piece of lookups: a tenth of a millisecond or so


def dot(blocks: Blocks, tail: Tail, g: Floats, layers: NDArray[np.int64]) -> Floats:
    """Float32 within blocks of at most 65 536 bits, float64 across them.

    By table lookup where the processor can, by tables of two bits on other x86 processors, by masked adds elsewhere
    and for the tail.
    """
    g = np.require(g, requirements=["C", "A", "W"])  # Numba would compile all anew for an array that is read-only
    work = tail.size
    pieces: list[tuple[Any, ...]] = []
    parts = np.empty((1, LANES * len(blocks)), dtype=np.float64)
    rest = np.empty(len(tail), dtype=np.float64)
    if lookup.available():
        parts, pieces = _lookups(blocks, g, layers)
        work += blocks.size // 2 // _LOOKUP_GAIN
    elif len(blocks) and pair_tables.available():
        values = np.zeros(layout.CHUNK * blocks.shape[1], dtype=np.float32)  # as g, with padding
        for word, start, size in layers.tolist():
            values[64 * word : 64 * word + size] = g[start : start + size]
        where = (*_laid_out(blocks), np.arange(blocks.shape[1]), values, parts[0])
        # few pieces: each makes the tables for itself
        shares = ranges(len(blocks), min(CORES, len(blocks)), 2)
        pieces = [(pair_tables.dot_chosen_chunks, *where, *share) for share in shares]
        work += blocks.size // 2 // _PAIR_GAIN
    elif len(blocks):
        shares = ranges(len(blocks), pieces_for_cores(len(blocks)))
        pieces = [(masked_adds.dot_blocks, blocks, g, layers, parts[0], *share) for share in shares]
        work += blocks.size // 2
    if len(tail):
        shares = ranges(len(tail), pieces_for_cores(len(tail)))
        pieces += [(masked_adds.dot_rows, tail, g, layers, rest, *share) for share in shares]
    share_work(_run, pieces, work)
    return np.concatenate([parts.sum(axis=0), rest]).astype(np.float32)


def _run(kernel: Callable[..., None], *arguments: Any) -> None:
    kernel(*arguments)


def _lookups(blocks: Blocks, g: Floats, layers: NDArray[np.int64]) -> tuple[NDArray[np.float64], list[tuple[Any, ...]]]:
    """Parts `(n, masks)` of the dot products, and the pieces of work that write them: by the shape alone."""
    chunks = blocks.shape[1]
    by_blocks = [(first, min(first + _DOT_BLOCKS, len(blocks))) for first in range(0, len(blocks), _DOT_BLOCKS)]
    # not by how many masks there are: a mask's product is then the same to the bit whatever masks lie beside it
    by_chunks = ranges(chunks, chunks * _DOT_BLOCKS // _DOT_PIECE, lookup.TILE_CHUNKS)
    parts = np.empty((len(by_chunks), LANES * len(blocks)), dtype=np.float64)
    return parts, [
        (lookup.dot_chunks, blocks, g, layers, part, *columns, *masks)
        for part, columns in zip(parts, by_chunks, strict=True)
        for masks in by_blocks
    ]


def outer_dots(
    blocks: Blocks,
    tail: Tail,
    first_bit: int,
    weights: Floats,
    left: Floats,
    right: Floats,
    chosen: NDArray[np.int64] | None = None,
) -> Floats:
    """By table lookup where the processor can, and what `left` has as zero then costs nothing; elsewhere a BLAS product
    with each mask unpacked. By masked adds for chosen masks.
    """
    masks, words = LANES * len(blocks) + len(tail), slice(first_bit // 64, first_bit // 64 - (-weights.size // 64))
    weights, left, right = map(np.ascontiguousarray, (weights, left, right))
    if chosen is not None:
        out = np.zeros(chosen.shape, dtype=np.float32)
        wanted, places = np.unique(chosen, return_inverse=True)
        rows = chosen_rows_of(blocks, tail, wanted, words)
        arrays: tuple[Any, ...] = (rows, 0, weights, left, right, places.reshape(chosen.shape), out)
        pieces = ranges(len(left), pieces_for_cores(len(left))) if chosen.size else []
        share_work(masked_adds.outer_pairs, [(*arrays, *piece) for piece in pieces], chosen.size * weights.size // 64)
        return out
    out = np.zeros((len(left), masks), dtype=np.float32)
    if not lookup.available():
        for first in range(0, masks, LANES):  # a block at a time: never a copy of all masks
            block = first // LANES
            rows = rows_of(blocks[block : block + 1], tail if block == len(blocks) else tail[:0], words)
            octets = rows.astype("<u8", copy=False).view(np.uint8)
            for lane, dense in enumerate(np.unpackbits(octets, axis=1, count=weights.size, bitorder="little")):
                masked = dense.reshape(weights.shape) * weights
                out[:, first + lane] = np.einsum("bo,bo->b", left, right @ masked.T)
        return out
    rest = np.zeros((min(1, len(tail)), blocks.shape[1], LANES), dtype=np.uint32)
    if len(tail):
        rest[0, :, : len(tail)] = chunks_of(tail).T
    # a piece a core: each shifts all the masks' bits for itself
    pieces = ranges(len(left), min(CORES, len(left)))
    arrays = (blocks, rest, first_bit, weights, left, right, out)
    share_work(lookup.outer_images, [(*arrays, *piece) for piece in pieces], len(left) * masks * weights.size // 64)
    return out


def chunk_facts(g: Floats, mean: Floats, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Float32 within chunks."""
    g, mean = (np.require(array, requirements=["C", "A", "W"]) for array in (g, mean))
    out = np.empty((6, len(starts)), dtype=np.float64)
    pieces = [(g, mean, starts, sizes, out, *piece) for piece in ranges(len(starts), pieces_for_cores(len(starts)))]
    share_work(chosen_chunks.chunk_facts, pieces, len(starts))
    return out


def dot_chunks(
    blocks: Blocks,
    tail: Tail,
    places: NDArray[np.int64],
    values: Floats,
    chosen: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """By tables of two bits where the processor can, by masked adds elsewhere; float64 across 16 384 bits or fewer."""
    full = LANES * len(blocks)
    flat, stride, step = _laid_out(blocks)
    rest = np.zeros((LANES if len(tail) else 0, len(places)), dtype=np.uint32)  # the tail's masks as one block
    rest[: len(tail)] = chunks_of(tail)[:, places]
    last, all_places = np.ascontiguousarray(rest.T).reshape(-1), np.arange(len(places))
    if chosen is None:
        out = np.empty(full + LANES * min(1, len(tail)), dtype=np.float64)
        kernel = (pair_tables if pair_tables.available() else chosen_chunks).dot_chosen_chunks
        shares = ranges(len(blocks), pieces_for_cores(len(blocks)), 2) if len(blocks) else []
        pieces: list[tuple[Any, ...]] = [(kernel, flat, stride, step, places, values, out, *share) for share in shares]
        if len(tail):
            pieces.append((kernel, last, 0, LANES, all_places, values, out[full:], 0, 1))
        share_work(_run, pieces, len(out) * len(places) // 2)
        return out[: full + len(tail)]
    out, inside = np.empty(len(chosen), dtype=np.float64), chosen < full
    for where, masks, source in (
        (inside, chosen[inside], (flat, stride, step, places)),
        (~inside, chosen[~inside] - full, (last, 0, LANES, all_places)),
    ):
        found = np.empty(len(masks), dtype=np.float64)
        shares = ranges(len(masks), pieces_for_cores(len(masks))) if len(masks) else []
        bits, apart, after, listed = source
        pieces = [(bits, apart, after, masks, listed, values, found, *share) for share in shares]
        share_work(chosen_chunks.dot_chosen_masks, pieces, _ALONE * len(masks) * len(places) // 2)
        out[where] = found
    return out


def _laid_out(blocks: Blocks) -> tuple[NDArray[np.uint32], int, int]:
    """The memory of blocks, flat, and how far apart in it two blocks and two chunks of a block are."""
    if blocks.flags.c_contiguous:
        return blocks.reshape(-1), LANES * blocks.shape[1], LANES
    return blocks.transpose(1, 0, 2).reshape(-1), LANES, LANES * len(blocks)


def chosen_rows(blocks: Blocks, tail: Tail, chosen: NDArray[np.int64]) -> Tail:
    flat, stride, step = _laid_out(blocks)
    out = np.empty((len(chosen), blocks.shape[1]), dtype=np.uint32)
    places = np.argsort(chosen, kind="stable")
    inside = int(np.searchsorted(chosen[places], LANES * len(blocks)))
    outside = places[inside:]
    out[outside] = chunks_of(tail[chosen[outside] - LANES * len(blocks)])
    pieces = ranges(inside, pieces_for_cores(inside)) if inside else []
    arrays = flat, stride, step, chosen[places[:inside]], places, out
    share_work(gather.chosen_rows, [(*arrays, *piece) for piece in pieces], inside * out.shape[1] // 8)
    return words_of(out)


def masked_lines(rows: Tail, chosen: NDArray[np.int64], first_bit: int, weights: Floats, values: Floats) -> Floats:
    out = np.zeros((len(values), len(weights)), dtype=np.float32)
    padded = _padded(values, -weights.shape[1] % 64)
    arrays = (rows, chosen, first_bit, _padded(weights, 0), padded, out)
    pieces = ranges(len(out), pieces_for_cores(len(out))) if out.size and weights.size else []
    share_work(products.masked_lines, [(*arrays, *piece) for piece in pieces], len(out) * weights.size // 16)
    return out


def masked_taps(
    rows: Tail,
    chosen: NDArray[np.int64],
    first_bit: int,
    weights: Floats,
    values: Floats,
    places: NDArray[np.int64],
    length: int,
    laid: NDArray[np.int64] | None = None,
    kept: NDArray[np.int64] | None = None,
) -> Floats:
    """Each image's set bits are listed, so the time shrinks with the masks' density."""
    laid = np.array([(0, 1, 0, values.shape[1])]) if laid is None else laid
    kept = np.array([(0, 0, length)]) if kept is None else kept
    out = np.empty((len(values), len(weights), int(kept[:, 2].sum())), dtype=np.float32)
    whole = -(-length // LANES) * LANES
    arrays = (
        *(rows, chosen, first_bit, _padded(weights, 0), _padded(values, 0), _padded(places, 0)),
        *(_padded(laid, 0), _padded(kept, 0), whole, out),
    )
    pieces = ranges(len(out), pieces_for_cores(len(out))) if out.size else []
    work = len(out) * weights.size * whole // 64
    share_work(products.masked_taps, [(*arrays, *piece) for piece in pieces], work)
    return out


def _padded(array: NDArray[Any], by: int) -> NDArray[Any]:
    """An array of two dimensions, with zeros at the ends of its rows, fit for Numba."""
    if not by:
        return np.require(array, requirements=["C", "A", "W"])
    count, size = array.shape
    bytes_ = np.empty(count * (size + by) * array.itemsize + _LINE_BYTES, dtype=np.uint8)
    start = -bytes_.ctypes.data % _LINE_BYTES  # vectors across two lines of the cache take two loads
    wider = bytes_[start : len(bytes_) - _LINE_BYTES + start].view(array.dtype).reshape(count, size + by)
    wider[:, :size], wider[:, size:] = array, 0
    return wider


def chosen_blocks(blocks: Blocks, tail: Tail, chosen: Sequence[int]) -> Blocks:
    count = len(chosen) // LANES
    out = np.empty((count, *blocks.shape[1:]), dtype=np.uint32)
    arrays = (blocks, chunks_of(tail), np.asarray(chosen, dtype=np.int64), out)
    pieces = ranges(count, pieces_for_cores(count)) if count else []
    share_work(gather.chosen_blocks, [(*arrays, *piece) for piece in pieces], out.size // 2)
    return out


def weighted_sum(blocks: Blocks, tail: Tail, alpha: Floats) -> Floats:
    """Float32 sums by lanes, then of the lanes, then of the tail."""
    words = tail.shape[1]
    out = np.zeros(words * 64, dtype=np.float32)
    pieces = ranges(words, pieces_for_cores(words), masked_adds.TILE_WORDS)
    share_work(
        masked_adds.weighted_sum_words,
        [(blocks, tail, alpha, out, *piece) for piece in pieces],
        (LANES * len(blocks) + len(tail)) * words,
    )
    return out
