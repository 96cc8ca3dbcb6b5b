"""Blocks to masks, on all cores; a block is read and decoded without the others."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from maskstore.bank.blocks.parts import Data
from maskstore.bank.blocks.table import crc_of, read_table, table_alone
from maskstore.codecs import (
    Blocks,
    Budget,
    Codec,
    EncodedLayer,
    Raw,
    in_batches,
    side_by_side,
)
from maskstore.errors import CorruptError
from maskstore.masks import LayerSpec, Mask, MaskSpec, bits
from maskstore.priors import Prior


class BlockDecoder:
    """Decodes blocks of one mask.

    Args:
        data: Its data, in memory or still in the file.
        layout: Its codecs.
        spec: Its layers.
        prior: What is known about it.
        bases: The masks that the prior refers to, decoded.
        what: What to call it in errors.

    Raises:
        CorruptError: The table does not account for the data.
    """

    def __init__(
        self, data: Data, layout: Blocks, spec: MaskSpec, prior: Prior, bases: Sequence[Mask], what: str
    ) -> None:
        self.data, self._layout, self.spec = data, layout, spec
        self._prior, self._bases, self._what = prior, bases, what
        self.table = read_table(data, spec, layout, what)

    def charge_all(self, budget: Budget, what: str, *, unpacked: bool = False) -> None:
        """Count what decoding all blocks will cost, for `what`; LimitError if that is too much."""
        for index in range(len(self.spec)):
            self._charge(self.table.numbered(index), budget, what, unpacked=unpacked)

    def decode_all(self) -> NDArray[np.uint64]:
        """The packed words of all layers, read-only."""
        everything = self.table.all_numbered()
        for index, number, block in everything[:1]:  # a hostile file must fail before memory for all of it is taken
            self.decode(index, number, block, self.table.coded(self.data, number), np.zeros(block.words, np.uint64))
        words = np.zeros(self.spec.words, dtype=np.uint64)

        def some(blocks: range) -> None:
            for each in blocks:
                index, number, block = everything[each]
                there = words[self.spec.layers[index].packed][block.packed]
                self.decode(index, number, block, self.table.coded(self.data, number), there)

        bits_each = self.spec.bits // max(1, len(everything))
        for _ in side_by_side(partial(some, blocks) for blocks in in_batches(len(everything), bits_each)):
            pass
        words.flags.writeable = False
        return words

    def decode_rows(self, index: int, rows: slice | None, budget: Budget) -> NDArray[np.bool_]:
        """A layer, or some of its rows, as a bool array; only their blocks are read."""
        layer, cut = self.spec.layers[index], self.table.cuts[index]
        chosen = range(*rows.indices(layer.shape[0])) if rows is not None else None
        low, high = (min(chosen), max(chosen) + 1) if chosen else (0, 0)
        row_bits = layer.size // layer.shape[0] if chosen else 0
        first, stop = (0, layer.size) if chosen is None else (low * row_bits, high * row_bits)
        blocks = self.table.numbered(index, first // cut.step, -(-stop // cut.step)) if stop > first else []
        self._charge(blocks, budget, self._what, unpacked=True)
        start = blocks[0][2].flat_start if blocks else first
        words = self._decode_blocks(blocks)
        dense = bits.unpack(words, stop - start)[first - start :]
        if chosen is None:
            return dense.reshape(layer.shape)
        hull = dense.reshape(high - low, *layer.shape[1:])
        return hull if chosen.step == 1 else hull[[row - low for row in chosen]]

    def decode_layer(self, index: int) -> NDArray[np.uint64]:
        """The packed words of one layer, read in one piece."""
        return self._decode_blocks(self.table.numbered(index))

    def _decode_blocks(self, blocks: Sequence[tuple[int, int, LayerSpec]]) -> NDArray[np.uint64]:
        """The words of neighbouring blocks of a layer, read in one piece in the caller's thread."""
        words = np.zeros(sum(block.words for _, _, block in blocks), dtype=np.uint64)
        if not blocks:
            return words
        start, number = blocks[0][2].word_start, blocks[0][1]
        begin, end = (int(place) for place in self.table.places[[number, number + len(blocks)]])
        chunk = self.data[begin:end]

        def some(batch: range) -> None:
            for index, number, block in blocks[batch.start : batch.stop]:
                at, until = (int(place) - begin for place in self.table.places[number : number + 2])
                there = words[block.word_start - start :][: block.words]
                coded = self.table.checked(chunk[at:until], number)
                self.decode(index, number, block, coded, there)

        for _ in side_by_side(partial(some, batch) for batch in in_batches(len(blocks), blocks[0][2].size)):
            pass
        return words

    def _charge(
        self, blocks: Sequence[tuple[int, int, LayerSpec]], budget: Budget, what: str, *, unpacked: bool
    ) -> None:
        for _, number, block in blocks:
            start, stop = (int(place) for place in self.table.places[number : number + 2])
            codec = self.codec_of(number)
            side = int(self.table.entries[number]["side"]) if codec.by_ones else 0
            coded = EncodedLayer(self.data[start : start + side], b"")
            budget.spend(what, codec, coded, block, size=stop - start, unpacked=unpacked)

    def codec_of(self, number: int) -> Codec:
        """The codec of a block."""
        return self._layout.of[int(self.table.entries[number]["codec"])]

    def decode(self, index: int, number: int, block: LayerSpec, coded: EncodedLayer, words: NDArray[np.uint64]) -> None:
        """Decode a block, whose bytes were checked, into its words, which are all zero."""
        contexts = partial(self._prior.contexts, self.spec, index, self._bases, block)
        codec = self.codec_of(number)
        codec.decode_into(coded, block, contexts, words)
        own, expected = (self.table.entries[number][column] for column in ("coded", "decoded"))
        if isinstance(codec, Raw) and own == expected:  # the same bytes, checked before
            return
        if crc_of(words, block) != expected:
            found = f"CRC-32 {expected:08x} of block {number}, found other bits"
            raise CorruptError(f"{self._what}, layer {block.name!r}: expected {found}")


def check_blocks(data: Data, what: str) -> None:
    """CorruptError unless every block has the checksum that the table says; nothing is decoded."""
    table = table_alone(data, what)
    for _ in side_by_side(partial(table.coded, data, number) for number in range(len(table.entries))):
        pass
