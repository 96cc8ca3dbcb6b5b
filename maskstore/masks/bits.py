"""Packed bits: the one place that knows how mask bits lie in memory.

Bit i of a layer's C-order tensor is bit i mod 8 (least significant first) of byte i div 8. Each layer starts at a
64-bit word, words are little-endian, padding bits are zero.
"""

import sys
from typing import Any

import numpy as np
from bitarray import bitarray
from bitarray.util import count_xor
from numpy.typing import NDArray

from maskstore.errors import MaskValueError


def as_numpy(value: Any, what: str) -> NDArray[Any]:
    """A numpy array of the same shape and values.

    Floats of types that numpy lacks, such as bfloat16, become float32, which holds each of their values. Of a torch
    tensor, gradients and the device do not matter, and a sparse one is filled up with zeros.

    Args:
        value: An array, a tensor, a number, or nested sequences of numbers.
        what: What it is, for errors.

    Raises:
        MaskValueError: Nothing that could be such an array, and tensors that hold no values, as on the device "meta".

    Examples:
        >>> import torch
        >>> from maskstore.masks.bits import as_numpy
        >>> as_numpy(torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)), "mask")
        array([1., 1.], dtype=float32)
    """
    torch = sys.modules.get("torch")  # nobody can have a tensor before torch was imported
    if torch is not None and isinstance(value, torch.Tensor):
        return _of_tensor(value, what)
    if isinstance(value, np.ma.MaskedArray):
        raise MaskValueError(f"{what}: expected an array, found one of numpy.ma, of which some values do not count: "
                             "give `array.filled(value)`")  # fmt: skip
    try:
        array = np.asarray(value)
        if array.dtype.kind == "V" and array.dtype.names is None and array.dtype.name.strip("_0123456789") != "void":
            array = array.astype(np.float32)  # JAX's bfloat16 and its like
    except Exception:  # ragged lists, and objects whose own conversion fails, raise whatever they like
        kind = type(value).__name__
        raise MaskValueError(f"{what}: expected an array of numbers, found {kind} that is none") from None
    return array


def as_floats(value: Any, what: str) -> NDArray[np.float32]:
    """Real numbers as float32, from what `as_numpy` takes; MaskValueError for others.

    Examples:
        >>> from maskstore.masks.bits import as_floats
        >>> as_floats([1, 2], "weights")
        array([1., 2.], dtype=float32)
    """
    array = as_numpy(value, what)
    if array.dtype.kind not in "biuf":
        raise MaskValueError(f"{what}: expected real numbers, found dtype {array.dtype}")
    return array.astype(np.float32, copy=False)


def _of_tensor(tensor: Any, what: str) -> NDArray[Any]:
    if tensor.is_quantized or tensor.device.type == "meta":
        holding = "quantized values" if tensor.is_quantized else "no values (device meta)"
        raise MaskValueError(f"{what}: expected a tensor of numbers, found one of {holding}")
    try:
        plain = tensor.detach().to_dense().cpu().resolve_conj().resolve_neg()
        if plain.dtype.is_floating_point and plain.dtype.itemsize <= 2 and str(plain.dtype) != "torch.float16":
            plain = plain.float()
        return np.asarray(plain.numpy())
    except (RuntimeError, TypeError, NotImplementedError):
        found = f"one of {tensor.dtype} on {tensor.device.type}"
        raise MaskValueError(f"{what}: expected a tensor that numpy can hold, found {found}") from None


def as_bool(array: Any, what: str = "mask") -> NDArray[np.bool_]:
    """A C-contiguous bool array of the same shape; values other than 0 and 1 are a MaskValueError.

    Takes what `as_numpy` takes: bool, integer and float arrays, lists, and tensors of any kind.
    """
    values = as_numpy(array, what)
    if values.dtype == np.bool_:
        return np.ascontiguousarray(values).reshape(values.shape)
    if values.dtype.kind not in "iuf":
        raise MaskValueError(f"{what}: expected bool or 0/1 numbers, found dtype {values.dtype}")
    ones = values == 1
    if not np.all(ones | (values == 0)):
        bad = values[~(ones | (values == 0))].flat[0]
        raise MaskValueError(f"{what}: expected values 0 and 1, found {bad}")
    return np.ascontiguousarray(ones).reshape(values.shape)


def pack(dense: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack a bool array of any shape into `(ceil(size / 64),)` little-endian uint64 words."""
    packed = np.packbits(dense.reshape(-1), bitorder="little")
    if packed.size % 8:  # only here is a copy needed: elsewhere the bytes are whole words already
        packed = np.concatenate([packed, np.zeros(-packed.size % 8, dtype=np.uint8)])
    return packed.view("<u8").astype(np.uint64, copy=False)


def unpack(words: NDArray[np.uint64], size: int) -> NDArray[np.bool_]:
    """The first `size` bits of packed words, as a bool array of shape `(size,)`."""
    return np.unpackbits(as_bytes(words), count=size, bitorder="little").view(np.bool_)


def as_bytes(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Packed words as bytes, in file order (a view on little-endian machines)."""
    return np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)


def from_bytes(data: bytes | memoryview, size: int) -> NDArray[np.uint64]:
    """Words from exactly ceil(size / 8) packed bytes; MaskValueError on another length or non-zero padding."""
    if len(data) != (size + 7) // 8:
        raise MaskValueError(f"packed bits: expected {(size + 7) // 8} bytes for {size} bits, found {len(data)}")
    words = np.zeros((size + 63) // 64, dtype="<u8")
    words.view(np.uint8)[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    words = words.astype(np.uint64, copy=False)
    check_padding(words, size)
    return words


def check_padding(words: NDArray[np.uint64], size: int, what: str = "packed bits") -> None:
    """MaskValueError unless every bit of the last word beyond `size` is zero."""
    if size % 64 and int(words[-1]) >> (size % 64):
        raise MaskValueError(f"{what}: expected zero padding after bit {size}, found set bits")


def clear_padding(words: NDArray[np.uint64], size: int) -> None:
    """Set the bits of the last word beyond `size` to zero, in place."""
    if size % 64:
        words[-1] &= np.uint64((1 << size % 64) - 1)


def bit_view(words: NDArray[np.uint64]) -> bitarray:
    """A `bitarray` (little-endian) that shares memory with packed words; read-only if they are."""
    return bitarray(buffer=as_bytes(words).data, endian="little")


def popcount(words: NDArray[np.uint64]) -> int:
    """Number of set bits."""
    return bit_view(words).count() if words.size else 0


def hamming(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> int:
    """Number of bits in which two packed arrays of the same length differ."""
    return int(count_xor(bit_view(a), bit_view(b))) if a.size else 0
