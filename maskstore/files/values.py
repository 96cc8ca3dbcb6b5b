"""Single values as files hold them: names, integers in LEB128 and strict JSON; and a cursor that reads them.

Python's own JSON reader takes what JSON does not have (NaN, Infinity), what a double cannot hold, and halves of
surrogate pairs, which no file can be written with; each would fail later, far from the file that it came from.
"""

import json
import math
import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from maskstore.errors import CorruptError, MaskValueError, SpecError, one_line

_NAME = re.compile("[^\0\ud800-\udfff]{1,512}")  # halves of surrogate pairs cannot be written as UTF-8
_MOST_BYTES = 9  # of an integer, which is below 2**63


def is_name(name: object) -> bool:
    """Whether it is 1 to 512 characters of valid Unicode without NUL."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def check_name(what: str, name: object) -> None:
    """SpecError, which begins with `what`, unless `name` can be the name of a task or layer."""
    if not is_name(name):
        raise SpecError(f"{what}: expected 1 to 512 characters of valid Unicode without NUL, found {name!r:.60}")


def write_leb128(value: int) -> bytes:
    """An integer >= 0 in seven bits a byte, least significant first, the top bit set in all bytes but the last."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


class Cursor:
    """Reads bytes from front to back. Whatever is not there is a CorruptError that begins with `what`."""

    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.what, self.at = data, what, 0

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self.data) - self.at

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        if length > self.left:
            raise CorruptError(f"{self.what}: expected {length} more bytes, found {self.left}")
        self.at += length
        return self.data[self.at - length : self.at]

    def leb128(self) -> int:
        """An integer below 2**63 in its shortest form."""
        value = 0
        for i, byte in enumerate(self.data[self.at : self.at + _MOST_BYTES]):
            value |= (byte & 127) << 7 * i
            if byte < 128:
                if i and not byte:
                    break
                self.at += i + 1
                return value
        raise CorruptError(f"{self.what}: expected an integer of at most {_MOST_BYTES} bytes in its shortest form, "
                           "found other bytes")  # fmt: skip

    def text(self, length: int) -> str:
        """`length` bytes of UTF-8."""
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise CorruptError(f"{self.what}: expected UTF-8, found other bytes") from None

    def numbers(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Numbers of fixed size."""
        return layout.unpack(self.take(layout.size))

    def end(self) -> None:
        """CorruptError unless all bytes were read."""
        if self.left:
            raise CorruptError(f"{self.what}: expected {self.at} bytes, found {len(self.data)}")


def encode_meta(meta: Mapping[str, Any]) -> str:
    """Canonical compact JSON; numpy's numbers are taken as Python's.

    MaskValueError names the key of a value that JSON cannot hold (NaN too).
    """
    if not isinstance(meta, Mapping):
        raise MaskValueError(f"metadata: expected a dict, found {type(meta).__name__}")
    try:
        text = json.dumps(_plain(meta, ""), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        text.encode()  # an unpaired surrogate is valid in a Python string, but not in a file
        return text
    except MaskValueError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise MaskValueError(f"metadata: expected JSON values, found {one_line(error)}") from None


def _plain(value: Any, where: str) -> Any:
    """A value with numpy's numbers, and tensors of one number, as Python's."""
    if isinstance(value, Mapping):
        inside = {
            key.item() if isinstance(key, np.generic) else key: _plain(inner, f"{where}[{key!r:.40}]")
            for key, inner in value.items()
        }
        if len({key if isinstance(key, str) else json.dumps(key) for key in inside}) != len(value):
            raise MaskValueError(
                f"metadata{where}: expected keys that differ as text, found two that JSON writes alike"
            )
        return inside
    if isinstance(value, (list, tuple)):
        return [_plain(inner, f"{where}[{i}]") for i, inner in enumerate(value)]
    if isinstance(value, np.generic) or getattr(value, "shape", None) == ():
        with suppress(Exception):  # a tensor may hold no value
            value = value.item()
    if value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    found = repr(value) if isinstance(value, float) else type(value).__name__
    raise MaskValueError(f"metadata{where}: expected JSON values, found {found}")


def parse_json(text: str) -> Any:
    """JSON from a stored column; CorruptError if it is none."""
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:  # only an escape can hide half a surrogate pair
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError):
        raise CorruptError(f"stored JSON: expected JSON, found {text[:60]!r}") from None


def distinct_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, for `json.loads(..., object_pairs_hook=...)`; ValueError for one that has a name twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"expected each name once, found {name!r:.60} twice")
        found[name] = value
    return found


def same_json(a: Any, b: Any) -> bool:
    """Whether two values from JSON are the same: unlike for Python, True is not 1."""
    open_pairs = [(a, b)]
    while open_pairs:  # no recursion: a file may nest values as deeply as JSON can be read
        a, b = open_pairs.pop()
        if isinstance(a, dict) and isinstance(b, dict):
            if a.keys() != b.keys():
                return False
            open_pairs.extend((value, b[key]) for key, value in a.items())
        elif isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return False
            open_pairs.extend(zip(a, b, strict=True))
        elif a != b or isinstance(a, bool) != isinstance(b, bool):
            return False
    return True


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object from a stored column; CorruptError if it is none."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise CorruptError(f"stored JSON: expected an object, found {text[:60]!r}")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _finite(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(literal)
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
