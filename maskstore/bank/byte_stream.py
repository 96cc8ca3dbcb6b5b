"""The bytes of all masks of a bank, end to end in one stream that is cut into chunks.

SQLite keeps a long blob in whole pages and its remainder beside other rows; were every mask a blob, these remainders of
half a page on average would fit badly. In a stream a mask begins where the last one ended, and every chunk but the last
has a length that fills its pages. `docs/format.md`, "The stream", is normative. A chunk's key is the place of its first
byte; `dead` counts the bytes of it that no row uses any more, and a chunk of nothing else goes.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from maskstore.bank.record import MAX_PLACE
from maskstore.errors import CorruptError

Pieces = Callable[[int, int], Iterable[tuple[int, int]]]
_CHUNK_BYTES = 1 << 20
_WHOLE_BYTES = 1 << 14  # of larger chunks small parts are read without the rest
_HOLDER = (
    f"SELECT start,length(data),typeof(data),iif(length(data)<={_WHOLE_BYTES},data,NULL) FROM chunks "
    "WHERE start<=? ORDER BY start DESC LIMIT 1"
)


def append(link: sqlite3.Connection, data: bytes, *, least: int = 1, apart: bool = False) -> int:
    """As `append_pieces`, of one piece; its place."""
    return append_pieces(link, (data,), least=least, apart=apart)[0]


def append_pieces(
    link: sqlite3.Connection, pieces: Iterable[bytes], *, least: int = 1, apart: bool = False
) -> tuple[int, int]:
    """Write bytes, which come in pieces, at the end of the stream; (their place, how many they were).

    The last chunk is filled first, up to `least` bytes and on to the next full page; `apart` begins a new one. Chunks
    of a long string have about a mebibyte: no more is in memory, and a part of it is read without most of its pages.
    """
    (page,) = link.execute("PRAGMA page_size").fetchone()
    query = "SELECT start,dead,length(data),typeof(data) FROM chunks ORDER BY start DESC LIMIT 1"
    last = link.execute(query).fetchone()
    place, missing = 0, 0
    if last is not None:
        start, dead, size, kind = last
        if kind != "blob" or type(dead) is not int or not 0 <= start <= MAX_PLACE - size:
            raise CorruptError(f"bank's bytes: expected a last chunk that can be filled, found one at {start:.20g}")
        place = start + size
        missing = 0 if apart else max(0, _full(max(size, least), page) - size)
    whole = _full(_CHUNK_BYTES, page)
    waiting = _Waiting()
    end = place
    for piece in pieces:
        waiting.append(piece)
        if missing and len(waiting) >= missing:
            end += _fill(link, start, dead, waiting.first(missing))
            missing = 0
        while not missing and len(waiting) >= whole:
            end += _insert(link, end, 0, waiting.first(whole))
    if rest := waiting.first(len(waiting)):
        end += _fill(link, start, dead, rest) if missing else _insert(link, end, 0, rest)
    if end > MAX_PLACE:
        raise CorruptError(f"bank's bytes: expected places up to 2**62, found {end}")
    return place, end - place


class _Waiting:
    """Bytes that came in pieces, and are not in a chunk yet."""

    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)

    def first(self, count: int) -> bytes:
        """Take so many of them, copied once."""
        self._size -= count
        taken: list[bytes | memoryview] = []
        for number, piece in enumerate(self._pieces):
            if len(piece) > count:
                whole = memoryview(piece)
                taken.append(whole[:count])
                self._pieces[: number + 1] = [whole[count:]]
                break
            taken.append(piece)
            count -= len(piece)
        else:
            self._pieces.clear()
        return b"".join(taken)


def _fill(link: sqlite3.Connection, start: int, dead: int, more: bytes) -> int:
    """Lengthen a chunk; the number of bytes."""
    (before,) = link.execute("SELECT data FROM chunks WHERE start=?", (start,)).fetchone()
    # taken away first, so that SQLite fits the record, now shorter on its page, among those before it
    link.execute("DELETE FROM chunks WHERE start=?", (start,))
    _insert(link, start, dead, before + more)
    return len(more)


def _insert(link: sqlite3.Connection, start: int, dead: int, data: bytes) -> int:
    """A new chunk; the number of its bytes."""
    link.execute("INSERT INTO chunks(start,dead,data) VALUES(?,?,?)", (start, dead, data))
    return len(data)


def read(link: sqlite3.Connection, start: int, length: int) -> bytes:
    """`length` bytes from a place; CorruptError if they are not there."""
    parts = list(read_parts(link, start, length))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_parts(link: sqlite3.Connection, start: int, length: int) -> Iterator[bytes]:
    """The same piece by piece, as chunks have them."""
    if not (0 <= start <= MAX_PLACE and 0 <= length < MAX_PLACE):
        raise CorruptError(f"bank's bytes: expected places below 2**62, found {start:.20g} and {length:.20g} bytes")
    at, end = start, start + length
    while at < end:
        first, size, kind, data = link.execute(_HOLDER, (at,)).fetchone() or (0, 0, "blob", None)
        stop = min(first + (size or 0), end)
        if stop <= at or kind != "blob":
            raise CorruptError(f"bank's bytes: expected {length} from place {start}, found {at - start}")
        yield _part(link, first, at, stop) if data is None else data[at - first : stop - first]
        at = stop


def _part(link: sqlite3.Connection, first: int, start: int, stop: int) -> bytes:
    """The bytes from `start` to `stop` of a large chunk, which begins at `first`."""
    try:
        with link.blobopen("chunks", "data", first, readonly=True) as blob:
            blob.seek(start - first)
            return blob.read(stop - start)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        raise CorruptError(f"bank's bytes: expected a chunk at place {first}, found: {error}") from None


def release(link: sqlite3.Connection, start: int, length: int, pieces: Pieces) -> None:
    """Forget the bytes that no row uses any more. `pieces(a, b)`: what rows use from place a to before b, in order."""
    for first, size in list(_chunks(link, start, start + length)) if length else ():
        unused, at = size, first
        for begin, end in pieces(first, first + size):  # a place that two rows claim counts once
            unused -= max(0, min(end, first + size) - max(begin, at))
            at = max(at, end)
        if unused == size:
            link.execute("DELETE FROM chunks WHERE start=?", (first,))
        else:
            link.execute("UPDATE chunks SET dead=? WHERE start=?", (unused, first))


def dead_bytes(link: sqlite3.Connection) -> int:
    """Bytes of the stream that no row uses: they go when the bank is compacted."""
    return int(link.execute("SELECT total(dead) FROM chunks").fetchone()[0])


def drop_before(link: sqlite3.Connection, place: int) -> None:
    """Forget all chunks that begin before a place."""
    link.execute("DELETE FROM chunks WHERE start<?", (place,))


def check(link: sqlite3.Connection, used: Iterable[tuple[int, int]]) -> None:
    """CorruptError unless the pieces `(place, bytes)` that rows use are apart, and chunks know how much they hold."""
    pieces = sorted(piece for piece in used if piece[1])
    for (start, length), (following, _) in pairwise(pieces):
        if start + length > following:
            raise CorruptError(f"bank's bytes: expected masks apart, found two that share place {following}")
    at, end = 0, 0
    query = "SELECT start,length(data),dead,typeof(data) FROM chunks ORDER BY start"
    for first, size, dead, kind in link.execute(query):
        if (
            kind != "blob"
            or type(dead) is not int
            or not (0 <= first <= MAX_PLACE and end <= first and 0 <= dead < size)
        ):
            raise CorruptError(f"bank's bytes: expected chunks in order and in use, found another at {first}")
        end, unused = first + size, size
        while at < len(pieces) and pieces[at][0] < end:
            start, length = pieces[at]
            unused -= max(0, min(end, start + length) - max(first, start))
            if start + length > end:
                break
            at += 1
        if unused != dead:
            raise CorruptError(f"bank's bytes: expected {dead} unused in the chunk at {first}, found {unused}")
    if at != len(pieces):
        raise CorruptError(f"bank's bytes: expected chunks up to place {sum(pieces[-1])}, found them end at {end}")


def _chunks(link: sqlite3.Connection, start: int, end: int) -> list[tuple[int, int]]:
    """(first place, bytes) of the chunks that reach into start ... end - 1, in order."""
    query = (
        "SELECT start,length(data) FROM chunks WHERE start>=ifnull((SELECT max(start) FROM chunks WHERE start<=?),?) "
        "AND start<? ORDER BY start"
    )
    found = [(first, size or 0) for first, size in link.execute(query, (start, start, end))]
    return [(first, size) for first, size in found if first + size > start]


def _full(size: int, page: int) -> int:
    """The least length of a chunk from `size` on that leaves only the least part of its record beside other rows.

    SQLite's page on its file format, section 1.6; a record is a head of 3 bytes and the blob's type, and the blob, as
    long as nothing in it is dead.
    """
    least = (page - 12) * 32 // 255 - 23
    length = size
    while True:
        around = 3 + _varint_bytes(12 + 2 * length)
        missing = (least - around - length) % (page - 4)
        if missing == 0:
            return length
        length += missing


def _varint_bytes(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))
