"""Extra arrays of a task: as they are, or rounded to multiples of a step and compressed.

`docs/format.md`, "A mask's row", is normative.
"""

import json
import struct
from collections.abc import Callable, Mapping
from math import isfinite, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskstore.bank.extras.rounded import KINDS, LEAST_STEP, MOST_STEP, Rounded, multiples
from maskstore.errors import CorruptError, MaskValueError
from maskstore.files import check_claim, parse_json
from maskstore.masks import bits

_EXTRA_DTYPES = frozenset(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"])


_PACKED = b"\xff\xff\xff\xff"
"""What packed extras begin with, in the place of a header's length."""


def encode_extras(extras: Mapping[str, Any]) -> bytes:
    """Arrays as a 4-byte header length, a JSON header `{name: [dtype, shape]}` and the raw bytes in order.

    With a `Rounded` array among them, all of that is one Zstandard frame behind four bytes of ones. The entry of such
    an array also has its step and the dtype of its integers, which are in the place of its values.
    """
    if not extras:
        return b""
    if not hasattr(extras, "items"):
        raise MaskValueError(f"extras: expected a dict of name to array, found {type(extras).__name__}")
    header: dict[str, list[Any]] = {}
    chunks, packed = [], False
    for name, value in extras.items():
        if not isinstance(name, str):
            raise MaskValueError(f"extras: expected names that are strings, found {name!r:.40}")
        if isinstance(value, Rounded):
            packed, integers = True, value.integers
            header[name] = ["f4", list(integers.shape), value.step, integers.dtype.str[1:]]
            chunks.append(np.ascontiguousarray(integers).tobytes())
            continue
        array = bits.as_numpy(value, f"extras {name!r:.80}")
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).reshape(array.shape)
        if array.dtype.str[1:] not in _EXTRA_DTYPES:
            raise MaskValueError(f"extras {name!r}: expected numbers or bools, found dtype {array.dtype}")
        header[name] = [array.dtype.str[1:], list(array.shape)]
        chunks.append(array.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    plain = b"".join([struct.pack("<I", len(text)), text, *chunks])
    return _PACKED + _compressed(plain) if packed else plain


def _compressed(content: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=19).compress(content)


def _unpacked(data: bytes, name: str, limit: int | None, wrong: CorruptError) -> bytes:
    """Extras as they are, or what packed ones hold; their declared size is checked before anything is allocated."""
    if data[:4] != _PACKED:
        return data
    import zstandard

    frame = data[4:]
    try:
        size = zstandard.frame_content_size(frame)
        if size < 0:
            raise wrong
        check_claim(f"mask {name!r:.80}, extra arrays", size, len(data), limit)
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError:
        raise wrong from None


def _decompressor(wrong: CorruptError) -> Callable[[bytes, str, list[int]], NDArray[Any]]:
    """A function of a frame that gives its integers; its declared size is checked before anything is allocated."""
    import zstandard

    decompress = zstandard.ZstdDecompressor().decompress

    def decompressed(frame: bytes, dtype: str, shape: list[int]) -> NDArray[Any]:
        try:
            if zstandard.frame_content_size(frame) != prod(shape) * int(dtype[1:]):
                raise wrong
            content = decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError:
            raise wrong from None
        return np.frombuffer(content, dtype="<" + dtype).reshape(shape)

    return decompressed


def _is_rounded(shape: list[Any], step: float, integers: str, size: int) -> bool:
    whole = all(type(n) is int and n >= 0 for n in (*shape, size))
    return whole and integers in KINDS and isfinite(step) and LEAST_STEP <= step <= MOST_STEP


class _Extra(NamedTuple):
    """Where one extra array lies."""

    dtype: str
    shape: list[int]
    start: int
    bytes: int
    step: float = 0.0
    """Of a rounded array, of which the integers are stored."""
    integers: str = ""
    framed: bool = False
    """Whether these are in a Zstandard frame of their own, as versions before packed extras wrote them."""


def _extras_table(data: bytes, wrong: CorruptError) -> dict[str, _Extra]:
    """Where the arrays lie in unpacked extras; `wrong` unless their table accounts for every byte."""
    if not data:
        return {}
    length = int.from_bytes(data[:4], "little")
    header = parse_json(data[4 : 4 + length].decode(errors="replace"))
    if not isinstance(header, dict):
        raise wrong
    found, start = {}, 4 + length
    for key, entry in header.items():
        match entry:
            case [str(dtype), list(shape)] if dtype in _EXTRA_DTYPES and all(type(n) is int and n >= 0 for n in shape):
                found[key] = _Extra(dtype, shape, start, prod(shape) * np.dtype(dtype).itemsize)
            case ["f4", list(shape), float(step), str(integers), int(size)] if _is_rounded(shape, step, integers, size):
                found[key] = _Extra("f4", shape, start, size, step, integers, framed=True)
            case ["f4", list(shape), float(step), str(integers)] if _is_rounded(shape, step, integers, 0):
                found[key] = _Extra("f4", shape, start, prod(shape) * int(integers[1:]), step, integers)
            case _:
                raise wrong
        start += found[key].bytes
        if start > len(data):
            raise wrong
    if start != len(data):
        raise wrong
    return found


def _wrong(name: str) -> CorruptError:
    return CorruptError(f"mask {name!r}: expected its extra arrays, found bytes that do not describe them")


def extras_sizes(data: bytes, name: str) -> dict[str, int]:
    """Bytes of each extra array that `encode_extras` was given; of packed ones, their shares of the frame.

    CorruptError on anything else.
    """
    wrong = _wrong(name)
    plain = _unpacked(data, name, None, wrong)
    found = _extras_table(plain, wrong)
    return {key: extra.bytes * len(data) // max(1, len(plain)) for key, extra in found.items()}


def decode_extras(data: bytes, name: str, limit: int | None = None) -> dict[str, NDArray[Any]]:
    """What `encode_extras` was given; CorruptError on anything else.

    `limit`: the most bytes that rounded arrays, or packed ones, may take (`check_claim`).
    """
    wrong = _wrong(name)
    arrays, plain = {}, _unpacked(data, name, limit, wrong)
    table = _extras_table(plain, wrong)
    rounded = [extra for extra in table.values() if extra.step]
    if rounded:
        claimed = sum(4 * prod(extra.shape) for extra in rounded)
        check_claim(f"mask {name!r:.80}, extra arrays", claimed, len(data), limit)
        decompressed = _decompressor(wrong)
    for key, (dtype, shape, start, size, step, integers, framed) in table.items():
        kind = "<" + (integers or dtype)
        try:
            if framed:
                arrays[key] = multiples(decompressed(plain[start : start + size], integers, shape), step)
                continue
            values = np.frombuffer(plain, dtype=kind, count=prod(shape), offset=start)
            if kind == "<b1" and values.view(np.uint8).max(initial=0) > 1:  # numpy would compute with such a byte
                raise wrong
            values = values.reshape(shape)
        except ValueError:  # more dimensions than numpy has, or a size beside a 0 that no machine has
            raise wrong from None
        arrays[key] = multiples(values, step) if step else values.copy()
    return arrays
