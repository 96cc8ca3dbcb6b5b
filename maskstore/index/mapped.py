"""Opens an index: a matrix over the mapped file, of which only what a question needs is read."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.bank import MaskBank
from maskstore.errors import ForeignFileError, StaleIndexError
from maskstore.files import named_os_errors, open_regular, path_of
from maskstore.index.layout import MOST_HEADER, START, Header, Places, damaged, digest_of, digests_of, read_header
from maskstore.index.write import beside
from maskstore.kernels import LANES
from maskstore.masks import Copies, MaskMatrix


def open_index(path: str | Path, *, bank: MaskBank | None = None, verify: bool = False) -> MaskMatrix:
    """The masks of an index as a matrix, where they lie: nothing but the header and the counts is read.

    `matrix.leader`, and so one-shot inference with an `error`, reads the chunks that it asks for, and whole the few
    masks that may be the best; the operating system keeps in memory what fits. All other calls give what they give for
    a matrix in memory. They read all masks and copy a group of them at a time.

    Args:
        path: The file that `write_index` wrote; it must not change while the matrix is in use.
        bank: The bank that it should be of.
        verify: Check every byte of the file, too.

    Returns:
        A matrix; masks that are appended to it lie in memory, as then do all others.

    Raises:
        FileNotFoundError: There is no such file.
        ForeignFileError, FormatVersionError: There is another file, or one of another version.
        CorruptError: The file is not as it was written.
        StaleIndexError: The bank changed since.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec, open_index, write_index
        >>> masks = {"fc": np.arange(64).reshape(8, 8) % 2 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec.of(masks)) as bank:
        ...         bank.put("even", masks)
        ...         path = write_index(bank)
        ...     matrix = open_index(path, verify=True)
        ...     matrix.dot(np.ones(64)).tolist()
        [32.0]
    """
    file = path_of(path, "path")
    header, places, mapped = _map(file, verify)
    spec, what = header.spec, str(file)
    if bank is not None and (bank.spec != spec or bank.stamp() != header.stamp):
        raise StaleIndexError(
            f"{what}: expected an index of the masks that {bank.path} has, found one of other masks; "
            "`write_index` writes it anew"
        )
    counts = mapped.section("<i4", spec.bits, places.counts)
    masks, full = len(header.names), LANES * header.blocks
    rows = mapped.section("<u8", masks * spec.words, places.rows).reshape(masks, spec.words)
    tail = rows[full:]
    if digest_of(counts.tobytes() + tail.tobytes()).hex() != header.small:
        raise damaged(what, "counts that are not as they were written")
    by_chunk = mapped.section("<u4", 2 * full * spec.words, places.blocks)
    blocks = by_chunk.reshape(2 * spec.words, header.blocks, LANES).transpose(1, 0, 2)
    return MaskMatrix.of_blocks(
        spec,
        blocks.astype(np.uint32, copy=False),
        tail.astype(np.uint64),
        header.names,
        counts.astype(np.int32),
        Copies(rows[:full].astype(np.uint64, copy=False), mapped.expect) if full else None,
    )


def index_of(bank: MaskBank) -> MaskMatrix:
    """The bank's masks: from the index beside it if there is one, else decoded into memory.

    Raises:
        StaleIndexError: There is an index, and the bank changed since.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec
        >>> from maskstore.index import index_of
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec({"fc": (8,)})) as bank:
        ...         bank.put("even", {"fc": np.arange(8) % 2 == 0})
        ...         index_of(bank).names
        ('even',)
    """
    path = beside(bank.path)
    return open_index(path, bank=bank) if path.exists() else bank.matrix()


_ASKED = 1 << 17  # bytes: Linux may take no more of a wish at a time


class _Mapped:
    """A file where the system brings in the pages that are read, and no others unless they are expected."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self._start: int = np.frombuffer(mapped, np.uint8, 1).ctypes.data
        if hasattr(mmap, "MADV_RANDOM"):  # else megabytes around each page are read too
            mapped.madvise(mmap.MADV_RANDOM)

    def section(self, dtype: str, count: int, start: int) -> NDArray[Any]:
        """Some values of the file, where they lie."""
        return np.frombuffer(self._mapped, dtype, count, start) if count else np.zeros(0, dtype)

    def expect(self, part: NDArray[Any]) -> None:
        """What lies in one piece of the file here will be read soon."""
        if hasattr(mmap, "MADV_WILLNEED") and part.nbytes:
            start = part.ctypes.data - self._start
            end = start + part.nbytes
            for first in range(start // mmap.PAGESIZE * mmap.PAGESIZE, end, _ASKED):
                self._mapped.madvise(mmap.MADV_WILLNEED, first, min(_ASKED, end - first))


def _map(file: Path, verify: bool) -> tuple[Header, Places, _Mapped]:
    what = str(file)
    with named_os_errors(file), open_regular(file, what="an index of masks") as opened:
        start = opened.read(START.size)
        if len(start) < START.size:
            raise ForeignFileError(f"{what}: expected an index of masks, found a file of {len(start)} bytes")
        length = START.unpack(start)[3]
        rest = opened.read(min(length, MOST_HEADER))
        size = opened.seek(0, 2)
        header, places = read_header(start, rest, size, what)
        if verify and (pieces := digests_of(opened, places)) != list(header.pieces):
            wrong = next(
                place for place, *two in zip(places.pieces, pieces, header.pieces, strict=True) if len(set(two)) > 1
            )
            raise damaged(what, f"masks that are not as they were written, from byte {wrong} on")
        return header, places, _Mapped(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
