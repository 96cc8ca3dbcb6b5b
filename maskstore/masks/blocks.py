"""Layers in blocks, so that a part of a large one can be coded, read and decoded alone.

`docs/format.md`, "Blocks", is normative.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from typing import Self

from maskstore.masks.spec import LayerSpec

FEWEST_DIGITS, MOST_DIGITS = 16, 24


@dataclass(frozen=True)
class Cut:
    """A layer cut into blocks: bands of whole rows where these are short, runs of bits elsewhere.

    A block is a `LayerSpec` of its own, so that whoever codes layers can code blocks: a band of 128 rows of a layer of
    shape `(7000, 7168)` has the shape `(128, 7168)`. Its `flat` and `packed` are its places in the layer.

    Examples:
        >>> from maskstore import MaskSpec
        >>> from maskstore.masks import Cut
        >>> cut = Cut.of(MaskSpec({"fc1": (7000, 7168)})["fc1"], 20)
        >>> len(cut), cut[0].shape, cut[54].shape, cut[1].packed
        (55, (128, 7168), (88, 7168), slice(14336, 28672, None))
    """

    layer: LayerSpec
    step: int
    """Bits of every block but the last, a multiple of 64 where there is more than one."""
    row_bits: int
    """Bits of a row where blocks are bands of whole rows; otherwise 0."""

    @classmethod
    def of(cls, layer: LayerSpec, digits: int) -> Self:
        """Cut a layer into blocks of at most 2**digits bits.

        A band has as many rows as fit, a multiple of 64 of them if 64 fit, else the fewest that fill whole words or a
        multiple of those.
        """
        most = 1 << digits
        if layer.size <= most:
            return cls(layer, max(1, layer.size), 0)
        row_bits = layer.size // layer.shape[0] if len(layer.shape) > 1 else most
        unit = 64 * row_bits if 64 * row_bits <= most else 64 // gcd(row_bits, 64) * row_bits
        if unit > most or len(layer.shape) == 1:
            return cls(layer, most, 0)
        return cls(layer, most // unit * unit, row_bits)

    def __len__(self) -> int:
        return -(-self.layer.size // self.step)

    def __iter__(self) -> Iterator[LayerSpec]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> LayerSpec:
        if not 0 <= index < len(self):
            raise IndexError(index)
        if len(self) == 1:
            return LayerSpec(self.layer.name, self.layer.shape, self.layer.size, 0, 0)
        first = index * self.step
        size = min(self.step, self.layer.size - first)
        shape = (size // self.row_bits, *self.layer.shape[1:]) if self.row_bits else (size,)
        return LayerSpec(self.layer.name, shape, size, first, first // 64)
