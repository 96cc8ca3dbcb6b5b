"""Long strings of bytes that are never in memory as one: in pieces, or still in their file."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise


class Parts:
    """Bytes in the pieces in which they were read or made; they can be measured, sliced and compared as `bytes` can.

    Examples:
        >>> from maskstore.bank.blocks import Parts
        >>> parts = Parts([b"ab", b"cde"])
        >>> len(parts), parts[1:4], parts[3:], parts == Parts([b"abcde"])
        (5, b'bcd', b'de', True)
    """

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = [part for part in parts if part]
        self._ends = list(accumulate(map(len, self._parts)))

    def append(self, part: bytes) -> None:
        """Put bytes at the end; other threads may slice what is there already."""
        if part:
            self._parts.append(part)
            self._ends.append(len(self) + len(part))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[bytes]:
        """The pieces in order."""
        return iter(self._parts)

    def __getitem__(self, place: slice) -> bytes:
        first, stop, _ = place.indices(len(self))
        if stop <= first:
            return b""
        at, found = bisect_right(self._ends, first), []
        while first < stop:
            start = self._ends[at] - len(self._parts[at])
            found.append(self._parts[at][first - start : stop - start])
            first, at = self._ends[at], at + 1
        return found[0] if len(found) == 1 else b"".join(found)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Parts):
            return NotImplemented
        if len(self) != len(other):
            return False
        cuts = sorted({0, *self._ends, *other._ends})
        return all(self[first:stop] == other[first:stop] for first, stop in pairwise(cuts))

    def __hash__(self) -> int:
        return hash((len(self), self[-64:]))


class Unread:
    """Bytes that are read from their file when they are sliced, as long as that is open.

    Args:
        length: How many there are.
        read: Gives those from one place to another, in pieces.
    """

    def __init__(self, length: int, read: Callable[[int, int], Iterable[bytes]]) -> None:
        self._length, self._read = length, read

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: slice) -> bytes:
        first, stop, _ = place.indices(self._length)
        return b"".join(self._read(first, stop)) if stop > first else b""

    def __iter__(self) -> Iterator[bytes]:
        """All of them, piece by piece."""
        return iter(self._read(0, self._length))


Data = bytes | Parts | Unread
"""The coded bytes of a mask."""


def pieces_of(data: Data) -> Iterator[bytes]:
    """The bytes in order, in one piece or several."""
    return iter((data,)) if isinstance(data, bytes) else iter(data)
