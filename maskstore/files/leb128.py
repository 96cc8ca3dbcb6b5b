"""Integers in LEB128, and a cursor that reads them, and all else that a file of ours holds, from front to back."""

import struct
from typing import Any

from maskstore.errors import CorruptError

_MOST_BYTES = 9  # so every integer is below 2**63


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
