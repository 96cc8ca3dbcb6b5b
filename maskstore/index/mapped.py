"""Opens an index: a matrix over the mapped file, of which only what a question needs is read."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.bank import MaskBank
from maskstore.errors import ForeignFileError, StaleIndexError
from maskstore.files import named_os_errors, open_regular, path_of
from maskstore.index.layout import MOST_HEADER, START, Header, Places, damaged, digest_of, group_of, read_header
from maskstore.index.write import beside
from maskstore.kernels import LANES
from maskstore.masks import MaskMatrix


def open_index(path: str | Path, *, bank: MaskBank | None = None, verify: bool = False) -> MaskMatrix:
    """The masks of an index as a matrix, where they lie: nothing but the header and the counts is read.

    `matrix.leader`, and so one-shot inference with an `error`, reads the chunks that it asks for; the operating system
    keeps in memory what fits. All other calls give what they give for a matrix in memory. They read the whole file and
    copy a group of masks at a time.

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
    header, places, mapped = _map(file)
    spec, what = header.spec, str(file)
    if bank is not None and (bank.spec != spec or bank.stamp() != header.stamp):
        raise StaleIndexError(
            f"{what}: expected an index of the masks that {bank.path} has, found one of other masks; "
            "`write_index` writes it anew"
        )
    counts = _section(mapped, "<i4", spec.bits, places.counts)
    rows = len(header.names) % LANES
    tail = _section(mapped, "<u8", rows * spec.words, places.tail).reshape(rows, spec.words)
    if digest_of(counts.tobytes() + tail.tobytes()).hex() != header.small:
        raise damaged(what, "counts that are not as they were written")
    size = 2 * spec.words * header.blocks * LANES
    by_chunk = _section(mapped, "<u4", size, places.blocks).reshape(2 * spec.words, header.blocks, LANES)
    blocks = by_chunk.transpose(1, 0, 2)
    if verify:
        _verify(blocks, header, what)
    return MaskMatrix.of_blocks(
        spec,
        blocks.astype(np.uint32, copy=False),
        tail.astype(np.uint64, copy=False),
        header.names,
        counts.astype(np.int32),
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


def _map(file: Path) -> tuple[Header, Places, mmap.mmap]:
    what = str(file)
    with named_os_errors(file), open_regular(file, what="an index of masks") as opened:
        start = opened.read(START.size)
        if len(start) < START.size:
            raise ForeignFileError(f"{what}: expected an index of masks, found a file of {len(start)} bytes")
        length = START.unpack(start)[3]
        rest = opened.read(min(length, MOST_HEADER))
        size = opened.seek(0, 2)
        header, places = read_header(start, rest, size, what)
        return header, places, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)


def _section(mapped: mmap.mmap, dtype: str, count: int, start: int) -> NDArray[Any]:
    """Some values of the file, where they lie."""
    return np.frombuffer(mapped, dtype, count, start) if count else np.zeros(0, dtype)


def _verify(blocks: NDArray[np.uint32], header: Header, what: str) -> None:
    step = group_of(header.spec)
    for number, digest in enumerate(header.groups):
        some = np.ascontiguousarray(blocks[number * step : (number + 1) * step])
        if digest_of(some.data.cast("B")).hex() != digest:
            raise damaged(what, f"masks from {number * step * LANES} on that are not as they were written")
