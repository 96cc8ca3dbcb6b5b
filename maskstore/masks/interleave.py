"""Packed masks side by side: the order in memory that inference reads fastest.

A *chunk* is 32 neighbouring bits of a mask. Every sixteen masks are a *block*, an array `(chunks, 16)` of uint32 with
one column a mask, so that one vector of 512 bits holds the same chunk of sixteen masks and a block is read from front
to back. Fewer than sixteen masks are left over; these are the *tail*, rows of 64-bit words like those of a `Mask`.
Both take one bit of memory a bit, and a mask moves once, when its block is full.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskstore.kernels import LANES, LINE, layout, load
from maskstore.masks.copies import Copies

_COPIED = 64  # blocks


@dataclass(frozen=True)
class Interleaved:
    """k masks of equally many words: masks 16 b to 16 b + 15 are `blocks[b]`, those after the last block `tail`."""

    blocks: NDArray[np.uint32]
    """`(blocks, chunks, 16)`; chunk 2 w holds the low half of word w. In C order, or turned: a chunk of all masks lies
    after the other, as in an index."""
    tail: NDArray[np.uint64]
    """`(n, words)`, n < 16."""
    copies: Copies | None = None
    """The masks of the blocks a second time, of a mapped file whose blocks are turned."""

    def __reduce__(self) -> tuple[type["Interleaved"], tuple[NDArray[np.uint32], NDArray[np.uint64]]]:
        """Copied and pickled without the file."""
        return Interleaved, (self.blocks, self.tail)

    @classmethod
    def of(cls, rows: NDArray[np.uint64]) -> "Interleaved":
        """The masks of packed rows `(k, words)`, copied."""
        full, chunks = len(rows) // LANES, 2 * rows.shape[1]
        by_block = layout.chunks_of(rows[: LANES * full]).reshape(full, LANES, chunks)
        blocks = np.ascontiguousarray(by_block.transpose(0, 2, 1))
        return cls(blocks, np.array(rows[LANES * full :], dtype=np.uint64))

    def __len__(self) -> int:
        return LANES * len(self.blocks) + len(self.tail)

    def row(self, index: int, words: slice = layout.ALL_WORDS) -> NDArray[np.uint64]:
        """Some words of one mask, a copy."""
        block, lane = divmod(index, LANES)
        if block == len(self.blocks):
            return self.tail[lane, words].copy()
        if self.copies is not None:
            return self.copies.chosen(np.array([index]))[0, words]
        start, stop, _ = words.indices(self.tail.shape[1])
        return layout.words_of(self.blocks[block, 2 * start : 2 * stop, lane])

    def rows(self, words: slice = layout.ALL_WORDS) -> NDArray[np.uint64]:
        """Some words of every mask, `(k, n)`, a copy."""
        return layout.rows_of(self.blocks, self.tail, words)

    def parts(self) -> Iterator["Interleaved"]:
        """The same masks with blocks in C order: as they are, or a copy of some at a time, the tail with the last."""
        if self.blocks.flags.c_contiguous:
            yield self
            return
        for first in range(0, len(self.blocks), _COPIED):
            if self.copies is not None:
                yield Interleaved.of(self.copies.part(first, _COPIED))
            else:
                yield Interleaved(np.ascontiguousarray(self.blocks[first : first + _COPIED]), self.tail[:0])
        yield Interleaved(np.zeros((0, *self.blocks.shape[1:]), dtype=np.uint32), self.tail)

    def chosen_rows(self, chosen: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The words of some masks, `(len(chosen), words)`, a copy."""
        if self.copies is not None:
            rows, inside = np.empty((len(chosen), self.tail.shape[1]), dtype=np.uint64), chosen < len(self.copies.rows)
            rows[inside] = self.copies.chosen(chosen[inside])
            rows[~inside] = self.tail[chosen[~inside] - len(self.copies.rows)]
            return rows
        return load().chosen_rows(self.blocks, self.tail, chosen)


_LARGE = 1 << 17  # words of a mask of a megabyte


def _zeros(shape: tuple[int, ...]) -> NDArray[np.uint32]:
    """Zeros whose chunks of sixteen masks lie in one line of the cache each."""
    size = int(np.prod(shape))
    values = np.zeros(size + LINE, dtype=np.uint32)
    start = -values.ctypes.data // 4 % LINE
    return values[start : start + size].reshape(shape)


class GrowingRows:
    """Masks that arrive one after the other; `arrived` has those so far, and is never written to again.

    A thread may read while another appends, and an append that is interrupted has done all of it or nothing. Memory for
    `room` masks is set aside at the start. When it is full, it grows by half, and the blocks are copied.
    """

    def __init__(self, words: int, *, room: int = 0) -> None:
        self._words = words
        self._blocks = _zeros((room // LANES, 2 * words, LANES))  # pages are taken when written
        self._tail = np.zeros((0, words), dtype=np.uint64)
        self.arrived = Interleaved(self._blocks[:0], self._tail)

    @classmethod
    def of(cls, masks: Interleaved) -> "GrowingRows":
        """Goes on after masks that are there; takes their memory over."""
        result = cls(masks.tail.shape[1])
        result._tail = masks.tail.copy()
        result._blocks = masks.blocks
        result.arrived = Interleaved(masks.blocks, result._tail, masks.copies)
        return result

    def __reduce__(self) -> tuple[Callable[[Interleaved], "GrowingRows"], tuple[Interleaved]]:
        """Copied and pickled as what has arrived, once and without the room."""
        return GrowingRows.of, (self.arrived,)

    def append(self, row: NDArray[np.uint64]) -> None:
        """Add a mask `(words,)`."""
        full, left = len(self.arrived.blocks), len(self.arrived.tail)
        if left == len(self._tail):  # large masks are set memory aside for as they come
            longer = np.zeros((min(LANES, 2 * left + 1 if self._words > _LARGE else LANES), self._words), np.uint64)
            longer[:left] = self._tail
            self._tail = longer
        self._tail[left] = row
        if left + 1 < LANES:
            self.arrived = Interleaved(self._blocks[:full], self._tail[: left + 1], self.arrived.copies)
            return
        if full == len(self._blocks):
            grown = _zeros((full + max(1, full // 2), 2 * self._words, LANES))
            grown[:full] = self._blocks
            self._blocks = grown
        self._blocks[full] = layout.chunks_of(self._tail).T
        fresh = np.zeros((0, self._words), dtype=np.uint64)  # whoever holds the old tail may go on reading it
        arrived = Interleaved(self._blocks[: full + 1], fresh)
        self.arrived, self._tail = arrived, fresh  # in one step: an interrupt between them would lose the tail's masks


def chosen_rows(masks: Interleaved, chosen: Sequence[int]) -> Interleaved:
    """Some of the masks, in this order, copied."""
    if masks.copies is not None:
        return Interleaved.of(masks.chosen_rows(np.array(chosen, dtype=np.int64)))
    blocks = load().chosen_blocks(masks.blocks, masks.tail, chosen[: len(chosen) // LANES * LANES])
    tail = [masks.row(index) for index in chosen[len(chosen) // LANES * LANES :]]
    return Interleaved(blocks, np.array(tail, dtype=np.uint64).reshape(len(tail), masks.tail.shape[1]))
