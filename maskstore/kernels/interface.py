"""`Kernels`: what every implementation of the hot loops offers."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Blocks = NDArray[np.uint32]
"""Blocks of sixteen masks, `(blocks, 2 * words, 16)`; `maskstore.kernels.layout` has the order of the bits."""
Tail = NDArray[np.uint64]
"""The masks after the last block, `(t, words)`, t < 16."""


class Kernels(Protocol):
    """The hot loops over k masks that lie in memory as `blocks` and `tail`; a property test holds all equal.

    `reference` says what each function computes, in plain numpy. The shapes: `layers` `(n, 3)` int64 has for each layer
    its first word in a mask, its first value in a flat array, and its number of bits.
    """

    def dot(self, blocks: Blocks, tail: Tail, g: Floats, layers: NDArray[np.int64]) -> Floats:
        """Sum of `g` `(bits,)` over the set bits of each mask, `(k,)`."""

    def weighted_sum(self, blocks: Blocks, tail: Tail, alpha: Floats) -> Floats:
        """Sum of the masks' bits weighted by `alpha` `(k,)`, with all padding: `(64 * words,)`."""

    def outer_dots(
        self,
        blocks: Blocks,
        tail: Tail,
        first_bit: int,
        weights: Floats,
        left: Floats,
        right: Floats,
        chosen: NDArray[np.int64] | None = None,
    ) -> Floats:
        """out[b, i] = left[b] @ (weights * M^i) @ right[b]; M^i are mask i's bits from `first_bit` on.

        weights and M^i `(o, n)`, left `(B, o)`, right `(B, n)` -> `(B, k)`. A layer starts with a word of its own, so
        `first_bit` is a multiple of 64. With `chosen`, `(B, m)` numbers of masks, each image meets its own masks only:
        `(B, m)`.
        """

    def chunk_facts(
        self, g: Floats, mean: Floats, starts: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Sums over chunks, `(6, chunks)`: chunk c has `sizes[c]` values of `g` and of the masks' `mean` p from
        `starts[c]` on. With h = sign(g) sqrt(|g|): |g|, |h|, h² p (1 - p), g h p (1 - p), g p, h p.
        """

    def dot_chunks(
        self,
        blocks: Blocks,
        tail: Tail,
        places: NDArray[np.int64],
        values: Floats,
        chosen: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float64]:
        """Sum of `values` `(32 n,)` over the set bits of each mask's chunks `places` `(n,)`, `(k,)` float64.

        `blocks` may also be a view in which a chunk of all masks lies after the other. With `chosen`, `(m,)` numbers of
        masks, for these only: `(m,)`.
        """

    def chosen_rows(self, blocks: Blocks, tail: Tail, chosen: NDArray[np.int64]) -> Tail:
        """The words of some masks, `(m, words)`; `blocks` as for `dot_chunks`."""

    def masked_lines(
        self, rows: Tail, chosen: NDArray[np.int64], first_bit: int, weights: Floats, values: Floats
    ) -> Floats:
        """out[b] = (weights * M^b) @ values[b]; M^b is mask `rows[chosen[b]]`, a layer whose bits start at `first_bit`.

        rows `(m, words)`, chosen `(B,)`, weights and M^b `(o, n)`, values `(B, n)` -> `(B, o)`.
        """

    def masked_taps(
        self,
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
        """out[b, o, f] = sum over j of (weights * M^b)[o, j] * values[b, places[g, j] + f], for f < length.

        weights and M^b `(o, n)`; `places` `(groups, n)`, where neurons come in equally large groups g. With the places
        of a convolution's taps this is a convolution. values `(B, m)`, m >= places + length -> `(B, o, length)`.

        `laid` `(r, 4)` lays the values into zeros first: a run (start, step, to, count) puts `count` values from
        `start` on, `step` apart, side by side from `to` on. `kept` `(s, 3)` says what is kept: a run (start, to, count)
        has the results from `start` on from `to` on -> `(B, o, kept)`.
        """

    def chosen_blocks(self, blocks: Blocks, tail: Tail, chosen: Sequence[int]) -> Blocks:
        """Blocks of some of the masks in this order, a multiple of sixteen."""

    def score_contexts(
        self, key: tuple[int, int], signs: NDArray[np.uint64], size: int, start: int = 0
    ) -> NDArray[np.uint8]:
        """Contexts of the `SeededScores` prior: 4 * bin + 2 * (score > 0) + (weight > 0), `(size,)`.

        `key` is the address of the scores' random stream (`philox.address_key`), `signs` is packed like a mask layer.
        `start` is the place of the first bit, a multiple of 8; `signs` begin there.
        """
