"""`Mask`: one immutable, packed binary mask over the layers of a `MaskSpec`."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np
from bitarray import bitarray
from numpy.typing import NDArray

from maskstore.errors import SpecError
from maskstore.masks import bits
from maskstore.masks.spec import MaskSpec


class Mask:
    """One binary mask, one bit per weight; immutable.

    `words` are the packed bits of all layers, shape `(spec.words,)`, uint64, laid out as `maskstore.masks.bits` says.
    They are copied when they could still be written to, checked for zero padding, and frozen.
    """

    __slots__ = ("__dict__", "spec", "words")

    spec: MaskSpec
    words: NDArray[np.uint64]

    def __init__(self, spec: MaskSpec, words: NDArray[np.uint64]) -> None:
        if words.dtype != np.uint64 or words.shape != (spec.words,):
            raise SpecError(
                f"packed mask: expected uint64 words of shape ({spec.words},), found {words.dtype} {words.shape}"
            )
        if words.flags.writeable or words.base is not None or not words.flags.c_contiguous:
            words = words.copy()
            words.flags.writeable = False
        for layer in spec:
            bits.check_padding(words[layer.packed], layer.size, f"layer {layer.name!r}")
        self.spec = spec
        self.words = words

    @classmethod
    def from_dense(cls, masks: Mapping[str, Any], spec: MaskSpec | None = None) -> Self:
        """Pack a dict of layer name to array (bool, or numbers that are 0 and 1).

        With a `spec`, names and shapes must be the spec's (in any order); without one the dict's order is the spec.
        Raises SpecError for wrong names or shapes, MaskValueError for values that are not bits.
        """
        arrays = {name: bits.as_bool(array, f"layer {name!r}") for name, array in masks.items()}
        if spec is None:
            spec = MaskSpec.of(arrays)
        _check_names(spec, arrays)
        words = np.empty(spec.words, dtype=np.uint64)
        for layer in spec:
            array = arrays[layer.name]
            if array.shape != layer.shape:
                raise SpecError(f"layer {layer.name!r}: expected shape {layer.shape}, found {array.shape}")
            words[layer.packed] = bits.pack(array)
        words.flags.writeable = False
        return cls(spec, words)

    @classmethod
    def from_flat(cls, flat: NDArray[np.bool_], spec: MaskSpec) -> Self:
        """Pack a flat bool array over all layers in spec order, shape `(spec.bits,)`."""
        flat = bits.as_bool(flat)
        if flat.shape != (spec.bits,):
            raise SpecError(f"flat mask: expected shape ({spec.bits},), found {flat.shape}")
        return cls.from_dense({layer.name: flat[layer.flat].reshape(layer.shape) for layer in spec}, spec)

    def layer(self, name: str) -> NDArray[np.bool_]:
        """One layer as a bool array of its shape."""
        layer = self.spec[name]
        return bits.unpack(self.words[layer.packed], layer.size).reshape(layer.shape)

    def dense(self) -> dict[str, NDArray[np.bool_]]:
        """All layers as bool arrays of their shapes, in spec order."""
        return {layer.name: self.layer(layer.name) for layer in self.spec}

    def flat(self) -> NDArray[np.bool_]:
        """All bits in spec order without padding, shape `(spec.bits,)`, bool."""
        return np.concatenate([bits.unpack(self.words[layer.packed], layer.size) for layer in self.spec])

    def layer_bytes(self, name: str) -> NDArray[np.uint8]:
        """One layer's packed bytes, shape `(ceil(size / 8),)`, read-only."""
        layer = self.spec[name]
        return bits.as_bytes(self.words[layer.packed])[: layer.bytes]

    @property
    def bits(self) -> bitarray:
        """All packed words as one read-only `bitarray` (padding bits included, all zero); no copy."""
        return bits.bit_view(self.words)

    @cached_property
    def ones(self) -> int:
        """Number of set bits."""
        return bits.popcount(self.words)

    @property
    def density(self) -> float:
        """Fraction of bits that are set, in [0, 1]; 0 for a mask without bits."""
        return self.ones / self.spec.bits if self.spec.bits else 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of the packed words in memory."""
        return self.words.nbytes

    def hamming(self, other: "Mask") -> int:
        """Number of bits in which two masks of one spec differ."""
        self._check_same_spec(other)
        return bits.hamming(self.words, other.words)

    def __xor__(self, other: "Mask") -> "Mask":
        self._check_same_spec(other)
        words = self.words ^ other.words
        words.flags.writeable = False
        return Mask(self.spec, words)

    def __reduce__(self) -> tuple[Any, ...]:
        return Mask, (self.spec, self.words)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return self.spec == other.spec and bool(np.array_equal(self.words, other.words))

    def __hash__(self) -> int:
        return hash((self.spec, self.words.tobytes()))

    def __repr__(self) -> str:
        return f"Mask({len(self.spec)} layers, {self.spec.bits} bits, density {self.density:.3f})"

    def _check_same_spec(self, other: "Mask") -> None:
        if self.spec != other.spec:
            raise SpecError(f"masks of two specs: expected {self.spec!r}, found {other.spec!r}")


def _check_names(spec: MaskSpec, arrays: Mapping[str, object]) -> None:
    for name in arrays:
        spec.index(name)
    missing = [layer.name for layer in spec if layer.name not in arrays]
    if missing:
        raise SpecError(f"mask: expected layers {list(spec.shapes)[:8]}, found none named {missing[:8]}")
