"""Masks that lie in a mapped file twice: chunk after chunk, and mask after mask.

Where a chunk of all masks lies after the other, the bits of one mask lie in thousands of pages of the file. To read a
few masks there would read the whole file. So it has each mask in one piece too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskstore.kernels import LANES


@dataclass(frozen=True)
class Copies:
    """The masks of whole blocks as rows, and how to say what will be read.

    Attributes:
        rows: `(16 * blocks, words)` uint64, never written to.
        expect: Is given a part of the rows or chunks in one piece that will be read soon. It has the system read it
            while the caller goes on.

    Examples:
        >>> import numpy as np
        >>> from maskstore import MaskMatrix, MaskSpec
        >>> from maskstore.masks import Copies
        >>> spec, rows = MaskSpec({"fc": (64,)}), np.arange(16, dtype=np.uint64)[:, None]
        >>> chunks = rows.view(np.uint32).T.reshape(2, 1, 16).copy()
        >>> copies = Copies(rows, expect=lambda part: None)
        >>> matrix = MaskMatrix.of_blocks(spec, chunks.transpose(1, 0, 2), rows[:0], copies=copies)
        >>> matrix.dot(np.ones(64)).tolist()[:4]
        [0.0, 1.0, 1.0, 2.0]
    """

    rows: NDArray[np.uint64]
    expect: Callable[[NDArray[np.uint32] | NDArray[np.uint64]], None]

    def expect_chunks(self, blocks: NDArray[np.uint32], places: NDArray[np.int64]) -> None:
        """Chunks `places`, in order, of all masks will be read from the turned `blocks`."""
        if not len(places):
            return
        by_chunk = blocks.transpose(1, 0, 2)
        ends = np.flatnonzero(np.diff(places, append=-1) != 1)
        for first, last in zip(places[np.append(0, ends[:-1] + 1)].tolist(), places[ends].tolist(), strict=True):
            self.expect(by_chunk[first : last + 1])

    def chosen(self, chosen: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Some rows, a copy: all are asked for before the first is waited for."""
        for row in chosen.tolist():
            self.expect(self.rows[row])
        return np.array(self.rows[chosen], dtype=np.uint64)

    def part(self, first_block: int, blocks: int) -> NDArray[np.uint64]:
        """The rows of some blocks, where they lie."""
        rows = self.rows[LANES * first_block : LANES * (first_block + blocks)]
        self.expect(rows)
        return rows
