"""Texts that differ from row to row only in their numbers: a template, kept once for the bank, and the numbers.

`docs/format.md`, "Texts", is normative. A template is the text with every number that is outside a string replaced by
`#`. Training writes the same keys for every task, so a hundred bytes of JSON become a few numbers.
"""

import re
import struct
from collections.abc import Sequence
from functools import lru_cache

from maskstore.errors import CorruptError, MaskValueError

MAX_TEMPLATES = 64
MAX_TEMPLATE = 1 << 12  # characters: a row of a few bytes can stand for no more than that
# a string that does not end takes the rest: were it no string, each later quote would be tried to the end, n**2 steps
_STRING = r'"(?:[^"\\]++|\\.)*+"?'
_NUMBERS = re.compile(_STRING + r"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_GAPS = re.compile(_STRING + r"|#")
_DOUBLE, _LITERAL, _SMALL = 127, 126, 128
_MOST_DECIMALS = 62


def split(text: str) -> tuple[str, list[str]]:
    """(template, the numbers as they are written)."""
    numbers: list[str] = []

    def cut(found: re.Match[str]) -> str:
        if found[0][0] == '"':
            return found[0]
        numbers.append(found[0])
        return "#"

    return _NUMBERS.sub(cut, text), numbers


def pack(text: str, templates: Sequence[str]) -> bytes:
    """The text by its place in `templates` if its template is there, else with the template itself.

    MaskValueError for a text with `#` outside of strings, which JSON never has.
    """
    template, numbers = split(text)
    if "#" in re.sub(_STRING, "", text):
        raise MaskValueError(f"text about a mask: expected JSON, found {text[:40]!r}")
    coded = b"".join(map(_pack_number, numbers))
    if template in templates:
        return write_leb128(templates.index(template) + 1) + coded
    raw = template.encode()
    return write_leb128(0) + write_leb128(len(raw)) + raw + coded


def unpack(data: bytes, templates: Sequence[str]) -> str:
    """What `pack` was given; CorruptError for other bytes, or for a template that is not there."""
    reader = _Reader(data)
    place = reader.leb128()
    if place > len(templates):
        raise CorruptError(f"stored text: expected one of {len(templates)} templates, found number {place}")
    pieces = _pieces(templates[place - 1]) if place else _pieces(reader.text(reader.leb128()))
    text = pieces[0] + "".join([reader.number() + piece for piece in pieces[1:]])
    reader.end()
    return text


@lru_cache(maxsize=256)
def _pieces(template: str) -> tuple[str, ...]:
    """A template cut at its gaps."""
    cuts = [gap.start() for gap in _GAPS.finditer(template) if gap[0] == "#"]
    return tuple(template[a:b] for a, b in zip([0, *(cut + 1 for cut in cuts)], [*cuts, None], strict=True))


def write_leb128(value: int) -> bytes:
    """An integer >= 0 in seven bits a byte, least significant first, the top bit set in all bytes but the last."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def read_leb128(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends) of the integer at a place; CorruptError unless one below 2**63 is there."""
    value = 0
    for i in range(9):
        if at + i >= len(data):
            break
        value |= (data[at + i] & 127) << 7 * i
        if data[at + i] < 128:
            return value, at + i + 1
    raise CorruptError("stored integer: expected one of at most 9 bytes, found its end missing")


def _pack_number(literal: str) -> bytes:
    """The shortest of three: decimal digits, a double, the literal itself."""
    digits, _, decimals = literal.lstrip("-").partition(".")
    negative = literal.startswith("-")
    forms = [bytes([_LITERAL]) + write_leb128(len(literal)) + literal.encode()]
    if "e" not in literal.lower() and len(digits + decimals) <= 18 and len(decimals) <= _MOST_DECIMALS:
        mantissa = int(digits + decimals)
        if not negative and not decimals and mantissa < 128:
            forms.append(bytes([_SMALL + mantissa]))
        forms.append(bytes([2 * len(decimals) + negative]) + write_leb128(mantissa))
    if repr(float(literal)) == literal:
        forms.append(bytes([_DOUBLE]) + struct.pack("<d", float(literal)))
    return min((form for form in forms if _Reader(form).number() == literal), key=len)


class _Reader:
    """Reads packed bytes from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def leb128(self) -> int:
        value, self._at = read_leb128(self._data, self._at)
        return value

    def text(self, length: int) -> str:
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise CorruptError("stored text: expected UTF-8, found other bytes") from None

    def number(self) -> str:
        kind = self._take(1)[0]
        if kind >= _SMALL:
            return str(kind - _SMALL)
        if kind == _DOUBLE:
            return repr(struct.unpack("<d", self._take(8))[0])
        if kind == _LITERAL:
            return self.text(self.leb128())
        digits, decimals = str(self.leb128()), kind >> 1
        if decimals:
            digits = digits.rjust(decimals + 1, "0")
            digits = f"{digits[:-decimals]}.{digits[-decimals:]}"
        return "-" * (kind & 1) + digits

    def end(self) -> None:
        if self._at != len(self._data):
            raise CorruptError(f"stored text: expected {self._at} bytes, found {len(self._data)}")

    def _take(self, length: int) -> bytes:
        if length > len(self._data) - self._at:
            raise CorruptError(f"stored text: expected {length} more bytes, found {len(self._data) - self._at}")
        self._at += length
        return self._data[self._at - length : self._at]
