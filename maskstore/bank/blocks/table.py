"""The table at the end of a mask in blocks: how its layers are cut, and where its blocks are.

`docs/format.md`, "Blocks", is normative.
"""

import struct
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskstore.bank.blocks.parts import Data
from maskstore.codecs import Blocks, EncodedLayer
from maskstore.errors import CorruptError
from maskstore.masks import FEWEST_DIGITS, MOST_DIGITS, Cut, LayerSpec, MaskSpec, bits

_ENTRY = np.dtype([("codec", "u1"), ("side", "<u4"), ("payload", "<u4"), ("coded", "<u4"), ("decoded", "<u4")])
_COUNTS = struct.Struct("<II")  # layers and blocks


class Table(NamedTuple):
    """What the tail of a mask in blocks says."""

    cuts: list[Cut]
    """Of each layer."""
    starts: list[int]
    """The number of the first block of each layer."""
    entries: NDArray[np.void]
    """Of each block."""
    places: NDArray[np.int64]
    """Where each block begins in the data, and where the last one ends."""

    def numbered(self, index: int, first: int = 0, stop: int | None = None) -> list[tuple[int, int, LayerSpec]]:
        """(index of the layer, number, spec) of blocks of a layer."""
        cut = self.cuts[index]
        blocks = range(first, len(cut) if stop is None else stop)
        return [(index, self.starts[index] + block, cut[block]) for block in blocks]

    def all_numbered(self) -> list[tuple[int, int, LayerSpec]]:
        """The same of the blocks of all layers."""
        return [each for index in range(len(self.cuts)) for each in self.numbered(index)]

    def coded(self, data: Data, number: int) -> EncodedLayer:
        """A block's bytes as its codec takes them; CorruptError if they have another checksum."""
        return self.checked(data[int(self.places[number]) : int(self.places[number + 1])], number)

    def checked(self, chunk: bytes, number: int) -> EncodedLayer:
        """The same of the bytes alone."""
        entry = self.entries[number]
        if zlib.crc32(chunk) != entry["coded"]:
            raise CorruptError(f"block {number}: expected CRC-32 {entry['coded']:08x} of its bytes, found others")
        return self.split(chunk, number)

    def split(self, chunk: bytes, number: int) -> EncodedLayer:
        """The same of bytes that were checked before."""
        side = int(self.entries[number]["side"])
        return EncodedLayer(chunk[:side], chunk[side:])


def table_bytes(digits: bytes, entries: list[tuple[int, int, int, int, int]]) -> bytes:
    """The table of layers cut by these digits, with the entries of all blocks."""
    return digits + np.array(entries, dtype=_ENTRY).tobytes() + _COUNTS.pack(len(digits), len(entries))


def tail_of(data: Data, what: str) -> bytes:
    """The bytes of the table, which end the data of a mask in blocks; CorruptError if there are too few."""
    counts = data[-_COUNTS.size :]
    layers, blocks = _COUNTS.unpack(counts) if len(counts) == _COUNTS.size else (0, 1 << 32)
    length = layers + blocks * _ENTRY.itemsize + _COUNTS.size
    if length > len(data):
        raise CorruptError(f"{what}: expected a table of its blocks, found {len(data)} bytes of data")
    return data[len(data) - length :]


def _split(tail: bytes) -> tuple[bytes, NDArray[np.void]]:
    """(the digits of each layer, the entries) of a whole tail."""
    layers, _ = _COUNTS.unpack(tail[-_COUNTS.size :])
    return tail[:layers], np.frombuffer(tail[layers : -_COUNTS.size], dtype=_ENTRY)


def _places(entries: NDArray[np.void]) -> NDArray[np.int64]:
    return np.cumsum(np.concatenate([[0], entries["side"].astype(np.int64) + entries["payload"]]))


def read_table(data: Data, spec: MaskSpec, layout: Blocks, what: str) -> Table:
    """The table at the end of the data; CorruptError unless it accounts for every byte of them."""
    tail = tail_of(data, what)
    digits, entries = _split(tail)
    if len(digits) != len(spec) or not all(FEWEST_DIGITS <= one <= MOST_DIGITS for one in digits):
        raise CorruptError(f"{what}: expected blocks of 2**{FEWEST_DIGITS} to 2**{MOST_DIGITS} bits, found others")
    cuts = [Cut.of(layer, one) for layer, one in zip(spec, digits, strict=True)]
    starts = np.cumsum([0, *map(len, cuts)]).tolist()
    if len(entries) != starts[-1]:
        raise CorruptError(f"{what}: expected a table of {starts[-1]} blocks, found one of {len(entries)}")
    places = _places(entries)
    if places[-1] + len(tail) != len(data):
        raise CorruptError(f"{what}: expected {places[-1] + len(tail)} bytes of data, found {len(data)}")
    if entries["codec"].max(initial=0) >= max(1, len(layout.of)):
        raise CorruptError(f"{what}: expected blocks by one of {len(layout.of)} codecs, found another")
    return Table(cuts, starts, entries, places)


def table_alone(data: Data, what: str) -> Table:
    """The table, without how layers are cut: enough to check the blocks' own checksums."""
    tail = tail_of(data, what)
    entries = _split(tail)[1]
    places = _places(entries)
    if places[-1] + len(tail) != len(data):
        raise CorruptError(f"{what}: expected {places[-1] + len(tail)} bytes of data, found {len(data)}")
    return Table([], [], entries, places)


def crc_of(words: NDArray[np.uint64], layer: LayerSpec) -> int:
    """CRC-32 of packed bytes."""
    return zlib.crc32(bits.as_bytes(words)[: layer.bytes].data)
