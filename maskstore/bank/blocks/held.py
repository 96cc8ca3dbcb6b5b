"""The blocks of a mask, read and checked, in memory: the file may go, and layers are decoded when they are used."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from maskstore.bank.blocks.decoder import BlockDecoder
from maskstore.bank.blocks.parts import Parts, pieces_of
from maskstore.codecs import Raw, in_batches, side_by_side
from maskstore.masks import LayerSpec

_Numbered = tuple[int, int, LayerSpec]
_SLAB_BYTES = 1 << 25  # numpy puts arrays so large into huge pages: other fresh memory is slower than the file
_TOGETHER = 8  # blocks a job


class HeldBlocks:
    """All blocks of a mask; those that are plain bits are where they belong already, the others still coded.

    Args:
        decoder: What decodes the mask. Its data are read here in order, and each piece is let go of.

    Raises:
        CorruptError: A block does not have its checksum.
    """

    def __init__(self, decoder: BlockDecoder) -> None:
        self._decoder, self._spec, self._table = decoder, decoder.spec, decoder.table
        self._taking, self._decoding = Lock(), Lock()
        self._coded: dict[int, NDArray[np.uint8]] = {}
        self._slab = np.empty(0, dtype=np.uint8)
        self._words: NDArray[np.uint64] | None = None
        for _ in side_by_side(self._jobs()):
            pass
        del self._slab

    def decode_layer(self, index: int) -> NDArray[np.uint64]:
        """The packed words of one layer."""
        blocks, there = self._table.numbered(index), self._spec.layers[index].packed
        if self._words is not None and not any(number in self._coded for _, number, _ in blocks):
            return self._words[there]
        words = np.zeros(self._spec.layers[index].words, dtype=np.uint64)
        self._fill(blocks, lambda index: words)
        return words

    def decode_all(self) -> NDArray[np.uint64]:
        """The packed words of all layers, read-only."""
        with self._decoding:
            blocks = [each for each in self._table.all_numbered() if each[1] in self._coded]
            if self._words is None and blocks:  # a hostile file must fail before memory for all of it is taken
                self._decode(blocks[0], np.zeros(blocks[0][2].words, dtype=np.uint64))
            words = self._all_words()
            self._fill(blocks, lambda index: words[self._spec.layers[index].packed])
            self._coded = {}
        words.flags.writeable = False
        return words

    def _fill(self, blocks: Sequence[_Numbered], words_of: Callable[[int], NDArray[np.uint64]]) -> None:
        """Put blocks into the words of their layers, on all cores."""

        def some(batch: range) -> None:
            for each in blocks[batch.start : batch.stop]:
                index, _, block = each
                self._decode(each, words_of(index)[block.packed])

        bits_each = self._spec.bits // max(1, len(self._table.entries))
        for _ in side_by_side(partial(some, batch) for batch in in_batches(len(blocks), bits_each)):
            pass

    def _decode(self, numbered: _Numbered, words: NDArray[np.uint64]) -> None:
        """One block into words that are all zero."""
        index, number, block = numbered
        chunk = self._coded.get(number)
        if chunk is None:
            words[:] = self._all_words()[self._spec.layers[index].packed][block.packed]
        else:
            self._decoder.decode(index, number, block, self._table.split(chunk.tobytes(), number), words)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _jobs(self) -> Iterator[Callable[[], None]]:
        """Take the blocks of each piece of the data, and of the one before it that end in it."""
        blocks, places = self._table.all_numbered(), self._table.places
        done, parts = 0, Parts([])
        for part in pieces_of(self._decoder.data):
            parts.append(part)
            begin = int(places[done])
            here = int(np.searchsorted(places, begin + len(parts), side="right")) - 1
            for first in range(done, here, _TOGETHER):
                yield partial(self._take, blocks[first : min(first + _TOGETHER, here)], parts, begin)
            parts, done = Parts([parts[int(places[here]) - begin :]]), here

    def _take(self, blocks: Sequence[_Numbered], parts: Parts, begin: int) -> None:
        """Check blocks, and keep them in their place or coded; `parts` are the data from `begin` on."""
        for index, number, block in blocks:
            start, stop = (int(place) - begin for place in self._table.places[number : number + 2])
            chunk = parts[start:stop]
            coded, entry = self._table.checked(chunk, number), self._table.entries[number]
            codec = self._decoder.codec_of(number)
            if isinstance(codec, Raw) and entry["coded"] == entry["decoded"]:
                there = self._all_words()[self._spec.layers[index].packed][block.packed]
                self._decoder.decode(index, number, block, coded, there)
            else:
                kept = self._room(len(chunk))
                kept[:] = np.frombuffer(chunk, dtype=np.uint8)
                self._coded[number] = kept

    def _room(self, size: int) -> NDArray[np.uint8]:
        with self._taking:
            if size > self._slab.size:
                self._slab = np.empty(max(size, _SLAB_BYTES), dtype=np.uint8)
            room, self._slab = self._slab[:size], self._slab[size:]
        return room

    def _all_words(self) -> NDArray[np.uint64]:
        with self._taking:
            if self._words is None:
                self._words = np.zeros(self._spec.words, dtype=np.uint64)
            return self._words
