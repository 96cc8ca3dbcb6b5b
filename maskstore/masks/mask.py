"""`Mask`: one immutable, packed binary mask over the layers of a `MaskSpec`."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
from bitarray import bitarray
from numpy.typing import NDArray

from maskstore.errors import SpecError
from maskstore.masks import bits
from maskstore.masks.spec import MaskSpec


class WordsSource(Protocol):
    """What decodes a mask when its bits are first used."""

    def decode_all(self) -> NDArray[np.uint64]:
        """The packed bits of all layers."""

    def decode_layer(self, index: int) -> NDArray[np.uint64]:
        """Those of one layer."""


class Mask:
    """One binary mask, one bit for each weight of a network; immutable. Mostly made by `from_dense`.

    Args:
        spec: The layers.
        words: The packed bits of all layers, `(spec.words,)` uint64, in the order that `maskstore.masks.bits` says.
            They are copied if anybody could still write to them.

    Raises:
        SpecError: For words of another dtype or shape.
        MaskValueError: For set bits in a layer's padding.

    Examples:
        >>> import numpy as np
        >>> from maskstore import Mask
        >>> scores = np.random.default_rng(0).standard_normal((300, 784))
        >>> mask = Mask.from_dense({"fc1": scores > 1, "fc2": np.ones((10, 300))})
        >>> mask
        Mask(2 layers, 238200 bits, density 0.169)
        >>> mask.layer("fc1").shape, mask.nbytes
        ((300, 784), 29776)
        >>> other = Mask.from_dense({"fc1": scores > 1.1, "fc2": np.ones((10, 300))})
        >>> mask.hamming(other)
        5459

        Masks of one spec have the algebra of sets, and give a layer by its name:

        >>> (mask & other).ones + (mask ^ other).ones == (mask | other).ones
        True
        >>> np.array_equal((~mask)["fc1"], scores <= 1)
        True
    """

    __slots__ = ("__dict__", "spec")

    spec: MaskSpec
    """The layers."""

    def __init__(self, spec: MaskSpec, words: NDArray[np.uint64]) -> None:
        if not isinstance(spec, MaskSpec) or not isinstance(words, np.ndarray):
            raise SpecError(f"packed mask: expected a MaskSpec and an array of words, found {type(spec).__name__} and "
                            f"{type(words).__name__} (from_dense takes arrays of 0 and 1)")  # fmt: skip
        if words.dtype != np.uint64 or words.shape != (spec.words,):
            raise SpecError(
                f"packed mask: expected uint64 words of shape ({spec.words},), found {words.dtype} {words.shape}"
            )
        if words.flags.writeable or words.base is not None or not words.flags.c_contiguous:
            words = words.copy()
            words.flags.writeable = False
        for layer in spec.layers:
            bits.check_padding(words[layer.packed], layer.size, f"layer {layer.name!r}")
        self.spec = spec
        self.__dict__["words"] = words

    @classmethod
    def on_demand(cls, spec: MaskSpec, source: "WordsSource") -> Self:
        """A mask whose layers are decoded when they are first used; that may raise what the source raises."""
        mask = cls.__new__(cls)
        mask.spec = spec
        mask.__dict__["_source"] = source
        return mask

    @cached_property
    def words(self) -> NDArray[np.uint64]:
        """The packed bits, `(spec.words,)`, read-only."""
        words = Mask(self.spec, self.__dict__["_source"].decode_all()).words
        del self.__dict__["_source"]  # its bytes are needed no more
        return words

    def _layer_words(self, name: str) -> NDArray[np.uint64]:
        """The packed bits of a layer; no others are decoded."""
        source: WordsSource | None = self.__dict__.get("_source")
        if source is None:
            return self.words[self.spec[name].packed]
        words = source.decode_layer(self.spec.index(name))
        words.flags.writeable = False
        return words

    @classmethod
    def from_dense(cls, masks: Mapping[str, Any], spec: MaskSpec | None = None) -> Self:
        """Pack arrays of 0 and 1.

        Args:
            masks: Layer name to array: bool, or numbers that are 0 and 1.
            spec: Whose names and shapes the arrays must have, in any order. Without one, the dict's own are the spec.

        Raises:
            SpecError: For wrong names or shapes.
            MaskValueError: For values that are not 0 or 1.
        """
        if not hasattr(masks, "items"):
            raise SpecError(f"mask: expected a Mask or a dict of layer name to array, found {type(masks).__name__}")
        arrays = {name: bits.as_bool(array, f"layer {name!r}") for name, array in masks.items()}
        if spec is None:
            spec = MaskSpec.of(arrays)
        elif not isinstance(spec, MaskSpec):
            raise SpecError(f"mask: expected a spec such as MaskSpec.of(masks), found {type(spec).__name__}")
        _check_names(spec, arrays)
        words = np.empty(spec.words, dtype=np.uint64)
        for layer in spec.layers:
            array = arrays[layer.name]
            if array.shape != layer.shape:
                raise SpecError(f"layer {layer.name!r}: expected shape {layer.shape}, found {array.shape}")
            words[layer.packed] = bits.pack(array)
        words.flags.writeable = False
        return cls(spec, words)

    @classmethod
    def from_flat(cls, flat: NDArray[np.bool_], spec: MaskSpec) -> Self:
        """Pack a flat bool array over all layers in spec order, shape `(spec.bits,)`; SpecError for another shape."""
        if not isinstance(spec, MaskSpec):
            raise SpecError(f"mask: expected a spec such as MaskSpec.of(masks), found {type(spec).__name__}")
        flat = bits.as_bool(flat)
        if flat.shape != (spec.bits,):
            raise SpecError(f"flat mask: expected shape ({spec.bits},), found {flat.shape}")
        return cls.from_dense({layer.name: flat[layer.flat].reshape(layer.shape) for layer in spec.layers}, spec)

    def layer(self, name: str) -> NDArray[np.bool_]:
        """One layer as a bool array of its shape."""
        layer = self.spec[name]
        return bits.unpack(self._layer_words(name), layer.size).reshape(layer.shape)

    def dense(self) -> dict[str, NDArray[np.bool_]]:
        """All layers as bool arrays of their shapes, in spec order."""
        return {layer.name: self.layer(layer.name) for layer in self.spec}

    def flat(self) -> NDArray[np.bool_]:
        """All bits in spec order without padding, shape `(spec.bits,)`, bool."""
        return np.concatenate([bits.unpack(self.words[layer.packed], layer.size) for layer in self.spec])

    def layer_bytes(self, name: str) -> NDArray[np.uint8]:
        """One layer's packed bytes, shape `(ceil(size / 8),)`, read-only."""
        layer = self.spec[name]
        return bits.as_bytes(self._layer_words(name))[: layer.bytes]

    def as_bitarray(self) -> bitarray:
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
        return 8 * self.spec.words

    def hamming(self, other: "Mask") -> int:
        """Number of bits in which two masks of one spec differ; SpecError for masks of two specs."""
        self._check_same_spec(other)
        return bits.hamming(self.words, other.words)

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        """One layer as a bool array of its shape, as `layer` gives it."""
        return self.layer(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.spec.shapes

    def __iter__(self) -> Iterator[str]:
        """Names of the layers, in spec order."""
        return iter(self.spec.shapes)

    def __and__(self, other: "Mask") -> "Mask":
        """The bits that are set in both."""
        return self._combined(other, np.bitwise_and)

    def __or__(self, other: "Mask") -> "Mask":
        """The bits that are set in one or both."""
        return self._combined(other, np.bitwise_or)

    def __xor__(self, other: "Mask") -> "Mask":
        """The bits in which the two differ."""
        return self._combined(other, np.bitwise_xor)

    def __invert__(self) -> "Mask":
        """The bits that are not set."""
        words = ~self.words
        for layer in self.spec:
            bits.clear_padding(words[layer.packed], layer.size)
        words.flags.writeable = False
        return Mask(self.spec, words)

    def _combined(self, other: "Mask", operation: np.ufunc) -> "Mask":
        if not isinstance(other, Mask):
            return NotImplemented
        self._check_same_spec(other)
        words = operation(self.words, other.words)
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
        if not isinstance(other, Mask):
            raise SpecError(f"masks of one spec: expected another Mask, found {type(other).__name__}")
        if self.spec != other.spec:
            raise SpecError(f"masks of two specs: expected {self.spec!r}, found {other.spec!r}")


def _check_names(spec: MaskSpec, arrays: Mapping[str, object]) -> None:
    for name in [name for name in arrays if name not in spec.shapes]:
        spec.index(name)
    if missing := [name for name in spec.shapes if name not in arrays]:
        raise SpecError(f"mask: expected layers {list(spec.shapes)[:8]}, found none named {missing[:8]}")
