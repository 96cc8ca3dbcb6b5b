"""How packed masks lie side by side in memory: what the loops and whoever fills the memory agree on.

A *chunk* is 32 neighbouring bits of a mask. Every sixteen masks are a *block*: `blocks[b]`, `(chunks, 16)` uint32, has
one column a mask. Fewer than sixteen masks are left over; they are the *tail*, `(t, words)` uint64, a row a mask. Chunk
2 w of a mask holds the low half of its word w, chunk 2 w + 1 the high half.
"""

import numpy as np
from numpy.typing import NDArray

LANES = 16
"""Masks of a block, side by side."""
CHUNK = 32
"""Bits of a chunk: what lies together of one mask."""
LINE = 16
"""Values of 4 bytes in a line of the cache."""
ALL_WORDS = slice(None)


def chunks_of(rows: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Rows of words `(..., words)` as rows of chunks `(..., 2 * words)`; a view where the processor's order allows."""
    return np.ascontiguousarray(rows).astype("<u8", copy=False).view("<u4").astype(np.uint32, copy=False)


def words_of(chunks: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """What `chunks_of` was given."""
    return np.ascontiguousarray(chunks).astype("<u4", copy=False).view("<u8").astype(np.uint64, copy=False)


def rows_of(blocks: NDArray[np.uint32], tail: NDArray[np.uint64], words: slice = ALL_WORDS) -> NDArray[np.uint64]:
    """Some words of every mask, `(k, n)` uint64, a copy."""
    start, stop, _ = words.indices(tail.shape[1])
    masks, chunks = LANES * len(blocks), 2 * (stop - start)
    rows = np.empty((masks + len(tail), chunks), dtype=np.uint32)
    rows[:masks].reshape(len(blocks), LANES, chunks)[:] = blocks[:, 2 * start : 2 * stop].transpose(0, 2, 1)
    rows[masks:] = chunks_of(tail[:, words])
    return words_of(rows)


def chosen_rows_of(
    blocks: NDArray[np.uint32], tail: NDArray[np.uint64], chosen: NDArray[np.int64], words: slice = ALL_WORDS
) -> NDArray[np.uint64]:
    """Some words of some masks, `(len(chosen), n)` uint64, a copy."""
    start, stop, _ = words.indices(tail.shape[1])
    chunks = np.empty((len(chosen), 2 * (stop - start)), dtype=np.uint32)
    inside = np.flatnonzero(chosen < LANES * len(blocks))
    block, lane = np.divmod(chosen[inside], LANES)
    for each in np.unique(block).tolist():
        mine = block == each
        found = blocks[each, 2 * start : 2 * stop].T
        if np.count_nonzero(mine) > 2:  # all sixteen together, because they share the lines of the cache
            found = found.copy()
        chunks[inside[mine]] = found[lane[mine]]
    outside = np.flatnonzero(chosen >= LANES * len(blocks))
    chunks[outside] = chunks_of(tail[chosen[outside] - LANES * len(blocks), words])
    return words_of(chunks)
