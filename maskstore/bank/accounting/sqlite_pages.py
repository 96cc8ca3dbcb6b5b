"""How much of an SQLite file its pages use: a walk over its b-trees, for `maskstore.bank.accounting`.

Follows SQLite's page on its file format (sections 1.3 to 1.6). A page is a b-tree page, part of an overflow chain or on
the free list; each is accounted for once, and the walk checks that together they are the whole file.
"""

from collections.abc import Callable
from dataclasses import dataclass

from maskstore.errors import CorruptError, MaskStoreError

_TABLE_LEAF, _TABLE_INTERIOR, _INDEX_LEAF, _INDEX_INTERIOR = 0x0D, 0x05, 0x0A, 0x02
_LOCK_BYTE = 1 << 30  # the page that holds this byte is never used


@dataclass
class PageUse:
    """Bytes of a file by use."""

    file: int
    slack: int
    """Unused bytes inside pages, and pages on the free list."""


def measure(page: Callable[[int], bytes], roots: list[int]) -> PageUse:
    """Walk a file given its pages (numbered from 1) and the root pages of its tables and indexes."""
    try:
        return _measure(page, roots)
    except (IndexError, ValueError, OSError) as error:
        if isinstance(error, MaskStoreError):
            raise
        raise CorruptError("bank pages: expected trees, found a page that leads out of the file") from None


def _measure(page: Callable[[int], bytes], roots: list[int]) -> PageUse:
    header = page(1)
    size = int.from_bytes(header[16:18], "big")
    size = 65536 if size == 1 else size
    usable = size - header[20]
    count = int.from_bytes(header[28:32], "big")
    seen, slack, waiting = 0, 0, list(roots)
    met: set[int] = set()
    while waiting:
        number = waiting.pop()
        seen += 1
        if number in met or seen > count:
            raise CorruptError("bank pages: expected trees, found a page that is reached twice")
        met.add(number)
        unused, overflow_pages, children = _walk_page(page(number), 100 if number == 1 else 0, usable)
        slack += unused
        seen += overflow_pages
        waiting += children
    free = int.from_bytes(header[36:40], "big")
    lock_pages = 1 if count * size > _LOCK_BYTE else 0
    if seen + free + lock_pages != count:
        raise CorruptError(f"bank pages: expected {count}, found {seen} in use, {free} free and {lock_pages} reserved")
    return PageUse(file=count * size, slack=slack + (free + lock_pages) * size)


def _walk_page(data: bytes, start: int, usable: int) -> tuple[int, int, list[int]]:
    """(unused bytes on the page and at the ends of its overflow chains, overflow pages, child pages)."""
    kind = data[start]
    if kind not in (_TABLE_LEAF, _TABLE_INTERIOR, _INDEX_LEAF, _INDEX_INTERIOR):
        raise CorruptError(f"bank pages: expected a b-tree page, found kind {kind}")
    interior = kind in (_TABLE_INTERIOR, _INDEX_INTERIOR)
    cells = _u16(data, start + 3)
    pointers = start + (12 if interior else 8)
    content = _u16(data, start + 5) or 65536
    unused = content - (pointers + 2 * cells) + data[start + 7]
    block = _u16(data, start + 1)
    while block:  # freed cells are chained in ascending order
        unused += _u16(data, block + 2)
        following = _u16(data, block)
        if following and following <= block:
            raise CorruptError("bank pages: expected free blocks in order, found a loop")
        block = following
    children = [int.from_bytes(data[start + 8 : start + 12], "big")] if interior else []
    overflow_pages = 0
    for cell in range(cells):
        at = _u16(data, pointers + 2 * cell)
        if interior:
            children.append(int.from_bytes(data[at : at + 4], "big"))
            at += 4
        if kind != _TABLE_INTERIOR:
            payload, at = _varint(data, at)
            spilled = payload - _local(payload, usable, table=kind == _TABLE_LEAF)
            pages = -(-spilled // (usable - 4))
            overflow_pages += pages
            unused += pages * (usable - 4) - spilled
    return unused, overflow_pages, children


def _local(payload: int, usable: int, *, table: bool) -> int:
    """How many bytes of a cell's payload stay on its b-tree page."""
    most = usable - 35 if table else (usable - 12) * 64 // 255 - 23
    if payload <= most:
        return payload
    least = (usable - 12) * 32 // 255 - 23
    fitting = least + (payload - least) % (usable - 4)
    return fitting if fitting <= most else least


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(9):
        byte = data[at + i]
        if i == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    raise AssertionError("unreachable")
