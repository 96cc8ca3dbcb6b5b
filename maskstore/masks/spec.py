"""`MaskSpec`: which layers a mask covers, in which order, with which shapes."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import Any, Self

from maskstore.errors import LayerNotFoundError, SpecError
from maskstore.files import check_name

MAX_LAYERS = 100_000
MAX_LAYER_BITS = 1 << 33  # one mask is one SQLite blob, and a blob holds at most 10**9 bytes
MAX_BITS = 1 << 36  # over all layers: 8 GiB packed
MAX_DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer of a mask: its name and shape, and where its bits are. A `MaskSpec` makes these.

    The bits of all layers are in one order. A *flat* array has a value for each bit, without padding; a *packed* mask
    has 64-bit words, and each layer starts with a word of its own.

    Examples:
        >>> import numpy as np
        >>> from maskstore import MaskSpec
        >>> layer = MaskSpec({"fc1": (30, 5), "fc2": (2, 30)})["fc2"]
        >>> layer.shape, layer.size, layer.bytes
        ((2, 30), 60, 8)
        >>> gradient = np.arange(210.0)  # a value for each bit of both layers
        >>> gradient[layer.flat].reshape(layer.shape)[0, :3]
        array([150., 151., 152.])
        >>> layer.packed  # in the words of a mask
        slice(3, 4, None)
    """

    name: str
    shape: tuple[int, ...]
    size: int
    """Number of bits, the product of `shape`."""
    flat_start: int
    """Index of this layer's first bit in the flat order over all layers, without padding."""
    word_start: int
    """Index of this layer's first 64-bit word in a packed mask."""
    words: int = field(init=False, repr=False, compare=False)
    """Number of 64-bit words, ceil(size / 64)."""
    bytes: int = field(init=False, repr=False, compare=False)
    """Number of bytes that hold bits, ceil(size / 8)."""
    flat: slice = field(init=False, repr=False, compare=False)
    """This layer's slice of a flat array over all layers."""
    packed: slice = field(init=False, repr=False, compare=False)
    """This layer's slice of a packed mask's words."""

    def __post_init__(self) -> None:
        words = (self.size + 63) // 64
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "bytes", (self.size + 7) // 8)
        object.__setattr__(self, "flat", slice(self.flat_start, self.flat_start + self.size))
        object.__setattr__(self, "packed", slice(self.word_start, self.word_start + words))


class MaskSpec:
    """The layers of a mask: their names and shapes, in order; immutable and hashable.

    Two specs are equal when names, order and shapes are. A spec is a sequence of its layers: `for layer in spec`,
    `len(spec)`, and `spec[name]` for one of them.

    Args:
        shapes: Layer name to shape. Shapes are `(out, in)` for linear layers, `(out, in, kernel...)` for convolutions.

    Raises:
        SpecError: For no layers, more than 100 000, a layer of more than 2**33 bits, or more than 2**36 bits in all.

    Examples:
        >>> from maskstore import MaskSpec
        >>> spec = MaskSpec({"fc1": (300, 784), "fc2": (100, 300)})
        >>> spec.bits
        265200
        >>> [(layer.name, layer.size) for layer in spec]
        [('fc1', 235200), ('fc2', 30000)]
        >>> MaskSpec.from_json(spec.to_json()) == spec
        True
    """

    layers: tuple[LayerSpec, ...]
    bits: int
    """Number of bits over all layers, without padding."""
    words: int
    """Number of 64-bit words of a packed mask; each layer starts at a word."""

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        if not hasattr(shapes, "items"):
            raise SpecError(f"a mask spec: expected a dict of layer name to shape, found {type(shapes).__name__}")
        if not shapes:
            raise SpecError("a mask spec: expected at least one layer, found none")
        if len(shapes) > MAX_LAYERS:
            raise SpecError(f"a mask spec: expected at most {MAX_LAYERS} layers, found {len(shapes)}")
        layers, flat, word = [], 0, 0
        for name, dims in shapes.items():
            shape = _checked_shape(name, dims)
            layer = LayerSpec(name, shape, prod(shape), flat, word)
            layers.append(layer)
            flat += layer.size
            word += layer.words
        if flat > MAX_BITS:
            raise SpecError(f"a mask spec: expected at most 2**36 bits in all, found {flat}")
        self.layers, self.bits, self.words = tuple(layers), flat, word
        self._index = {layer.name: i for i, layer in enumerate(layers)}

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Self:
        """The spec of a dict of layer name to array, or to anything else with a `shape`."""
        if not hasattr(arrays, "items"):
            raise SpecError(f"a mask spec: expected a dict of layer name to array, found {type(arrays).__name__}")
        for name, array in arrays.items():
            if not hasattr(array, "shape"):
                raise SpecError(f"layer {name!r:.80}: expected an array, found {type(array).__name__}")
        return cls({name: tuple(array.shape) for name, array in arrays.items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; SpecError on anything else."""
        try:
            pairs = json.loads(text)
            shapes = {name: tuple(shape) for name, shape in pairs}
            if len(shapes) != len(pairs):
                raise SpecError("a mask spec: expected distinct layer names, found one twice")
        except (ValueError, TypeError, RecursionError) as error:
            raise SpecError(f"a mask spec: expected JSON [[name, [size, ...]], ...], found {text[:80]!r}") from error
        return cls(shapes)

    def to_json(self) -> str:
        """Canonical JSON: `[["fc1",[300,784]],["fc2",[100,300]]]`."""
        return json.dumps([[layer.name, list(layer.shape)] for layer in self.layers], separators=(",", ":"))

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Ordered mapping of layer name to shape."""
        return MappingProxyType({layer.name: layer.shape for layer in self.layers})

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits: BLAKE2b-128 of the canonical JSON."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=16).hexdigest()

    def __getitem__(self, name: str) -> LayerSpec:
        return self.layers[self.index(name)]

    def index(self, name: str) -> int:
        """Position of a layer in the order; LayerNotFoundError if there is none of that name."""
        try:
            return self._index[name]
        except (KeyError, TypeError):  # the latter for what no dict can hold
            known = ", ".join(list(self._index)[:8]) + (", ..." if len(self._index) > 8 else "")
            raise LayerNotFoundError(f"layer {name!r}: expected one of {known}") from None

    def __iter__(self) -> Iterator[LayerSpec]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self.shapes),)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MaskSpec):
            return NotImplemented
        return self.layers == other.layers

    def __hash__(self) -> int:
        return hash(self.layers)

    def __repr__(self) -> str:
        inside = ", ".join(f"{layer.name!r}: {layer.shape}" for layer in self.layers[:6])
        return f"MaskSpec({{{inside}{', ...' if len(self.layers) > 6 else ''}}})"


def _checked_shape(name: object, dims: Sequence[int]) -> tuple[int, ...]:
    check_name("a layer's name", name)
    if not isinstance(dims, Iterable):
        raise SpecError(f"layer {name!r}: expected a shape of integers >= 0, found {dims!r:.80}")
    shape = tuple(dims)
    if len(shape) > MAX_DIMENSIONS:
        raise SpecError(f"layer {name!r}: expected at most {MAX_DIMENSIONS} dimensions, found {len(shape)}")
    for size in shape:
        if isinstance(size, bool) or not hasattr(size, "__index__") or size < 0:
            raise SpecError(f"layer {name!r}: expected a shape of integers >= 0, found {shape!r:.80}")
    shape = tuple(int(size) for size in shape)
    if prod(size for size in shape if size) > MAX_LAYER_BITS:  # numpy has no shape (0, 2**70) either
        raise SpecError(f"layer {name!r}: expected at most 2**33 bits, found shape {shape!r:.80}")
    return shape
