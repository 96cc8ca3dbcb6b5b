"""The hot loops in Numba, shared among cores: by table lookup where the processor can, by masked adds elsewhere."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.kernels import gather as moves
from maskstore.kernels.constants import LANES
from maskstore.kernels.ir import lookup, masked_adds
from maskstore.kernels.seeded_contexts import score_contexts
from maskstore.kernels.threads import CORES, pieces_for_cores, ranges, shared
from maskstore.masks import Interleaved, chunks_of

__all__ = ["chosen_blocks", "dot", "outer_dots", "outer_pairs", "score_contexts", "weighted_sum"]

_LOOKUP_GAIN = 8  # lookups take a word in less than an eighth of the time of masked adds
_DOT_BLOCKS = 64  # blocks that share tables of lookups: enough to make the tables' own cost small
_DOT_PIECE = 1 << 15  # chunks of blocks in a piece of lookups: a tenth of a millisecond or so


def dot(packed: Interleaved, g: NDArray[np.float32], layers: NDArray[np.int64]) -> NDArray[np.float32]:
    """As `reference.dot`; float32 within blocks of at most 65 536 bits, float64 across them.

    By table lookup where the processor can, by masked adds elsewhere and for the tail.
    """
    g = np.require(g, requirements=["C", "A", "W"])  # Numba would compile all anew for an array that is read-only
    blocks, tail = packed.blocks, packed.tail
    work = tail.size
    pieces: list[tuple[Any, ...]] = []
    parts = np.empty((1, LANES * len(blocks)), dtype=np.float64)
    rest = np.empty(len(tail), dtype=np.float64)
    if lookup.available():
        parts, pieces = _lookups(blocks, g, layers)
        work += blocks.size // 2 // _LOOKUP_GAIN
    elif len(blocks):
        shares = ranges(len(blocks), pieces_for_cores(len(blocks)))
        pieces = [(masked_adds.dot_blocks, blocks, g, layers, parts[0], *share) for share in shares]
        work += blocks.size // 2
    if len(tail):
        shares = ranges(len(tail), pieces_for_cores(len(tail)))
        pieces += [(masked_adds.dot_rows, tail, g, layers, rest, *share) for share in shares]
    shared(_run, pieces, work)
    return np.concatenate([parts.sum(axis=0), rest]).astype(np.float32)


def _run(kernel: Callable[..., None], *arguments: Any) -> None:
    kernel(*arguments)


def _lookups(
    blocks: NDArray[np.uint32], g: NDArray[np.float32], layers: NDArray[np.int64]
) -> tuple[NDArray[np.float64], list[tuple[Any, ...]]]:
    """Parts `(n, masks)` of the dot products, and the pieces of work that write them: by the shape alone."""
    chunks = blocks.shape[1]
    by_blocks = [(first, min(first + _DOT_BLOCKS, len(blocks))) for first in range(0, len(blocks), _DOT_BLOCKS)]
    by_chunks = ranges(chunks, chunks * min(len(blocks), _DOT_BLOCKS) // _DOT_PIECE, lookup.TILE_CHUNKS)
    parts = np.empty((len(by_chunks), LANES * len(blocks)), dtype=np.float64)
    return parts, [
        (lookup.dot_chunks, blocks, g, layers, part, *columns, *masks)
        for part, columns in zip(parts, by_chunks, strict=True)
        for masks in by_blocks
    ]


def outer_dots(
    packed: Interleaved,
    first_bit: int,
    weights: NDArray[np.float32],
    left: NDArray[np.float32],
    right: NDArray[np.float32],
) -> NDArray[np.float32]:
    """As `reference.outer_dots`, in float32; what `left` has as zero costs nothing. Needs `lookup.available()`."""
    out = np.zeros((len(left), len(packed)), dtype=np.float32)
    rest = np.zeros((min(1, len(packed.tail)), packed.blocks.shape[1], LANES), dtype=np.uint32)
    if len(packed.tail):
        rest[0, :, : len(packed.tail)] = chunks_of(packed.tail).T
    arrays = (packed.blocks, rest, first_bit, *map(np.ascontiguousarray, (weights, left, right)), out)
    # a piece a core: each shifts all the masks' bits for itself
    pieces = [(*arrays, *piece) for piece in ranges(len(left), min(CORES, len(left)))]
    shared(lookup.outer_images, pieces, len(left) * len(packed) * weights.size // 64)
    return out


def chosen_blocks(packed: Interleaved, chosen: Sequence[int]) -> NDArray[np.uint32]:
    """Blocks of some of the masks, sixteen at a time, in this order: `(len(chosen) / 16, chunks, 16)`."""
    count = len(chosen) // LANES
    out = np.empty((count, *packed.blocks.shape[1:]), dtype=np.uint32)
    arrays = (packed.blocks, chunks_of(packed.tail), np.asarray(chosen, dtype=np.int64), out)
    pieces = ranges(count, pieces_for_cores(count)) if count else []
    shared(moves.chosen_blocks, [(*arrays, *piece) for piece in pieces], out.size // 2)
    return out


def _rows_of_layer(
    packed: Interleaved, first_word: int, words: int, chosen: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Some words of the masks in `chosen` as rows, each mask once, and where each of `chosen` is among them."""
    masks, places = np.unique(chosen, return_inverse=True)
    wanted = np.full(len(packed), -1, dtype=np.int64)
    wanted[masks] = np.arange(len(masks))
    rows = np.empty((len(masks), words), dtype=np.uint64)
    arrays = (packed.blocks, packed.tail, first_word, wanted, rows)
    blocks = -(-len(packed) // LANES)
    shared(moves.rows_of, [(*arrays, *piece) for piece in ranges(blocks, pieces_for_cores(blocks))], rows.size)
    return rows, places.reshape(chosen.shape)


def outer_pairs(
    packed: Interleaved,
    first_bit: int,
    weights: NDArray[np.float32],
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    chosen: NDArray[np.int64],
) -> NDArray[np.float32]:
    """`reference.outer_dots` of each image with its own masks only: chosen `(B, n)` rows -> `(B, n)`, in float32.

    A layer starts with a word of its own, so `first_bit` is a multiple of 64.
    """
    out = np.zeros(chosen.shape, dtype=np.float32)
    if not chosen.size:
        return out
    rows, places = _rows_of_layer(packed, first_bit // 64, -(-weights.size // 64), chosen)
    arrays = (rows, 0, *map(np.ascontiguousarray, (weights, left, right, places)), out)
    pieces = [(*arrays, *piece) for piece in ranges(len(left), pieces_for_cores(len(left)))]
    shared(masked_adds.outer_pairs, pieces, chosen.size * weights.size // 64)
    return out


def weighted_sum(packed: Interleaved, alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `reference.weighted_sum`; float32 sums by lanes, then of the lanes, then of the tail."""
    words = packed.tail.shape[1]
    out = np.zeros(words * 64, dtype=np.float32)
    pieces = ranges(words, pieces_for_cores(words), masked_adds.TILE_WORDS)
    shared(
        masked_adds.weighted_sum_words,
        [(packed.blocks, packed.tail, alpha, out, *piece) for piece in pieces],
        len(packed) * words,
    )
    return out
