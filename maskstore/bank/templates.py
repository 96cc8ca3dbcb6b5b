"""Texts that differ from row to row only in their numbers: a template, kept once for the bank, and the numbers.

`docs/format.md`, "Texts", is normative. A template is the text with every number that is outside a string replaced by
`#`. Training writes the same keys for every task, so a hundred bytes of JSON become a few numbers.
"""

import json
import re
import sqlite3
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from maskstore.bank.head import change_head
from maskstore.errors import CorruptError, MaskValueError
from maskstore.files import Cursor, parse_json, write_leb128

MAX_TEMPLATES = 64
MAX_TEMPLATE = 1 << 12  # characters: a row of a few bytes can stand for no more than that
# a string that does not end takes the rest: were it no string, each later quote would be tried to the end, n**2 steps
_STRING = r'"(?:[^"\\]++|\\.)*+"?'
_NUMBERS = re.compile(_STRING + r"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_GAPS = re.compile(_STRING + r"|#")
_DOUBLE, _LITERAL, _SMALL = 127, 126, 128
_MOST_DECIMALS = 62
_FLOAT = struct.Struct("<d")


class Templates:
    """The templates of one bank, which other writers may change at any time. Methods want an open transaction."""

    def __init__(self) -> None:
        # the head's checksum, and its templates then; replaced in one step, as threads may share a bank
        self._last: tuple[str, list[str]] = ("", [])

    def pack(self, link: sqlite3.Connection, text: str) -> bytes:
        """A text as it is stored; a template that is new is kept while there is room."""
        templates = self._now(link)
        template, _ = split(text)
        if template not in templates and len(templates) < MAX_TEMPLATES and len(template) <= MAX_TEMPLATE:
            templates = [*templates, template]
            self.store(link, templates)
        return pack(text, templates)

    def unpack(self, link: sqlite3.Connection, data: bytes) -> str:
        """What `pack` was given."""
        return unpack(data, self._now(link))

    def unpack_by_last(self, data: bytes) -> str:
        """What `unpack` nearly always gives, without a look into the file: read with the templates seen last."""
        return unpack(data, self._last[1])

    def store(self, link: sqlite3.Connection, templates: Sequence[str]) -> None:
        """Put other templates in the place of all."""
        change_head(link, "templates", json.dumps(templates, separators=(",", ":"), ensure_ascii=False))

    def _now(self, link: sqlite3.Connection) -> list[str]:
        (checksum,) = link.execute("SELECT value FROM head WHERE key='checksum'").fetchone() or ("",)
        known, templates = self._last
        if checksum != known:
            found = link.execute("SELECT value FROM head WHERE key='templates'").fetchone()
            stored: Any = parse_json(found[0]) if found and isinstance(found[0], str) else None
            few = isinstance(stored, list) and len(stored) <= MAX_TEMPLATES
            if not few or not all(isinstance(text, str) and len(text) <= MAX_TEMPLATE for text in stored):
                raise CorruptError(f"bank's head: expected at most {MAX_TEMPLATES} short texts, found others")
            templates = stored
            self._last = checksum, templates
        return templates


def split(text: str) -> tuple[str, list[str]]:
    """(template, the numbers as they are written)."""
    numbers: list[str] = []

    def cut(found: re.Match[str]) -> str:
        if found[0][0] == '"':
            return found[0]
        numbers.append(found[0])
        return "#"

    return _NUMBERS.sub(cut, text), numbers


def three_texts(text: str, id: int) -> tuple[str, str, str]:
    """Metadata, codec and prior of the row of this id."""
    parts = text.split("\n")
    if len(parts) != 3:
        raise CorruptError(f"mask row {id}: expected metadata, codec and prior, found {len(parts)} texts")
    return parts[0], parts[1], parts[2]


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
    cursor = Cursor(data, "stored text")
    place = cursor.leb128()
    if place > len(templates):
        raise CorruptError(f"stored text: expected one of {len(templates)} templates, found number {place}")
    pieces = _pieces(templates[place - 1] if place else cursor.text(cursor.leb128()))
    text = pieces[0] + "".join([_unpack_number(cursor) + piece for piece in pieces[1:]])
    cursor.end()
    return text


@lru_cache(maxsize=256)
def _pieces(template: str) -> tuple[str, ...]:
    """A template cut at its gaps."""
    cuts = [gap.start() for gap in _GAPS.finditer(template) if gap[0] == "#"]
    return tuple(template[a:b] for a, b in zip([0, *(cut + 1 for cut in cuts)], [*cuts, None], strict=True))


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
        forms.append(bytes([_DOUBLE]) + _FLOAT.pack(float(literal)))
    return min((form for form in forms if _unpack_number(Cursor(form, "number")) == literal), key=len)


def _unpack_number(cursor: Cursor) -> str:
    kind = cursor.take(1)[0]
    if kind >= _SMALL:
        return str(kind - _SMALL)
    if kind == _DOUBLE:
        return repr(cursor.numbers(_FLOAT)[0])
    if kind == _LITERAL:
        return cursor.text(cursor.leb128())
    digits, decimals = str(cursor.leb128()), kind >> 1
    if decimals:
        digits = digits.rjust(decimals + 1, "0")
        digits = f"{digits[:-decimals]}.{digits[-decimals:]}"
    return "-" * (kind & 1) + digits
