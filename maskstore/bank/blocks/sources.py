"""Where the bits of a mask come from: packed words, arrays of any kind, or an iterator that gives layer after layer."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import SpecError
from maskstore.masks import LayerSpec, Mask, MaskSpec, SignedMask, bits

Take = Callable[[LayerSpec], Callable[[], NDArray[np.uint64]]]
"""Of a block of a layer: a function that gives its packed words, and may be called in any thread."""

AnyMask = Mask | Mapping[str, Any] | Iterable[tuple[str, Any]]
"""What a caller may give as a mask: packed, arrays by name, or (name, array) pairs in the order of the spec."""

_EXPECTED = "a Mask, a dict of layer name to array, or (name, array) pairs"


class SourceError(Exception):
    """Carries the system's error about what a caller gave past those who would take it for one about the bank."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def _given() -> Iterator[None]:
    """Around whatever runs the caller's own code."""
    try:
        yield
    except OSError as error:
        raise SourceError(error) from None


def layers_of(masks: AnyMask, spec: MaskSpec) -> Iterator[Take]:
    """The layers of a mask in the order of the spec, each taken when it is asked for.

    Raises:
        SpecError: Layers or shapes are not those of the spec, or pairs come in another order.
    """
    if isinstance(masks, Mask):
        return (partial(_packed, masks.words[layer.packed]) for layer in spec)
    return (_of_array(array, layer) for layer, array in zip(spec, _arrays(masks, spec), strict=True))


def gathered(masks: AnyMask, spec: MaskSpec) -> Mask:
    """A mask in memory; SpecError as `layers_of`, MaskValueError for values other than 0 and 1."""
    if isinstance(masks, Mask):
        return masks
    words = np.empty(spec.words, dtype=np.uint64)
    for layer, array in zip(spec, _arrays(masks, spec), strict=True):
        words[layer.packed] = _of_array(array, layer)(LayerSpec(layer.name, layer.shape, layer.size, 0, 0))()
    words.flags.writeable = False
    return Mask(spec, words)


def _arrays(masks: Any, spec: MaskSpec) -> Iterator[Any]:
    """The array of each layer in order, one at a time."""
    if isinstance(masks, SignedMask):
        raise SpecError(f"mask: expected {_EXPECTED}, found a SignedMask (`put_signed` stores one)")
    if hasattr(masks, "get_slice") and hasattr(masks, "keys"):  # an open safetensors file
        names = list(masks.keys())
        _check_names(spec, names)
        return (masks.get_slice(layer.name) for layer in spec)
    if hasattr(masks, "keys"):
        _check_names(spec, list(masks.keys()))
        return (_read(masks, layer.name) for layer in spec)
    if isinstance(masks, str | bytes) or not isinstance(masks, Iterable):
        raise SpecError(f"mask: expected {_EXPECTED}, found {type(masks).__name__}")
    return _in_order(masks, spec)


def _in_order(pairs: Iterable[Any], spec: MaskSpec) -> Iterator[Any]:
    given = iter(pairs)
    for layer in spec:
        with _given():
            pair = next(given, None)
        match pair:
            case (str(name), array) if name == layer.name:
                yield array
            case None:
                raise SpecError(f"layers one by one: expected {layer.name!r} next, found no more")
            case (str(name), _):
                raise SpecError(f"layers one by one: expected {layer.name!r} next, as in the spec, found {name!r:.80}")
            case other:
                raise SpecError(f"mask: expected {_EXPECTED}, found {type(pairs).__name__} of {type(other).__name__}")
    with _given():
        more = next(given, None)
    if more is not None:
        raise SpecError(f"layers one by one: expected {len(spec)} of them, found more")


def _check_names(spec: MaskSpec, names: list[str]) -> None:
    for name in names:
        if name not in spec.shapes:
            spec.index(name)
    if missing := [name for name in spec.shapes if name not in names]:
        raise SpecError(f"mask: expected layers {list(spec.shapes)[:8]}, found none named {missing[:8]}")


def _read(array: Any, where: Any) -> Any:
    with _given():
        return array[where]


def _packed(words: NDArray[np.uint64], block: LayerSpec) -> Callable[[], NDArray[np.uint64]]:
    return lambda: words[block.packed]


def _of_array(array: Any, layer: LayerSpec) -> Take:
    """Blocks of an array, or of anything that gives rows as arrays when it is sliced."""
    what = f"layer {layer.name!r}"
    shape = array.get_shape() if hasattr(array, "get_shape") else getattr(array, "shape", None)
    if shape is None or not hasattr(array, "__getitem__") or not layer.shape:
        array = bits.as_numpy(_read(array, slice(None)) if hasattr(array, "get_shape") else array, what)
        shape = array.shape
    if tuple(shape) != layer.shape:
        raise SpecError(f"{what}: expected shape {layer.shape}, found {tuple(shape)}")
    row_bits = layer.size // max(1, layer.shape[0]) if layer.shape else 1

    def take(block: LayerSpec) -> Callable[[], NDArray[np.uint64]]:
        whole = block.size == layer.size
        first, stop = 0, layer.shape[0] if layer.shape else 1
        if not whole:
            first, stop = block.flat_start // row_bits, -(-(block.flat_start + block.size) // row_bits)
        rows = array if whole and not hasattr(array, "get_shape") else _read(array, slice(first, stop))
        expected, skip = (stop - first) * row_bits, block.flat_start - first * row_bits

        def words() -> NDArray[np.uint64]:
            values = bits.as_numpy(rows, what)
            if values.size != expected:
                raise SpecError(f"{what}: expected {expected} values in rows {first} to {stop - 1}, as its shape "
                                f"{layer.shape} says, found an array of shape {values.shape}")  # fmt: skip
            return bits.pack(bits.as_bool(values.reshape(-1)[skip : skip + block.size], what))

        return words

    return take
