"""Shards: a bank's masks in one immutable file that can be read by byte ranges, from any store that fsspec reaches.

Opening takes two requests, for the tail and the index, or one where the tail holds the index already; a mask takes one,
and one of 4 194 304 bits and more takes two, since its table of blocks is read first. Of such a mask, rows of a layer
take the table and their own blocks.
Rows are stored as the bank coded them.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from maskstore import errors
from maskstore.bank import (
    MaskInfo,
    MaskSource,
    Record,
    Unread,
    check_own_sum,
    check_source,
    decode_extras,
    in_blocks,
)
from maskstore.files import byte_limit, encode_meta, nearest, parse_object, path_of, replacing, text_of
from maskstore.interop.shards import format as shard_format
from maskstore.interop.shards.byte_ranges import is_url, open_ranges
from maskstore.interop.shards.format import FOOTER_BYTES, MAGIC, Entry
from maskstore.interop.shards.shard_file import write_file
from maskstore.priors import Backbone, checked_backbone

T = TypeVar("T")
TAIL_BYTES = 1 << 16  # holds the index of some three thousand masks
_SCAN_BYTES, _SCAN_ROWS = 8 << 20, 64  # records read at a time while scanning


def write_shard(source: MaskSource, location: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write all masks of a bank, or of another shard, to one read-only file, whole or not at all.

    Masks keep their coded bytes. Those that were coded against others are coded anew without them, so that one read
    gives one mask.

    Args:
        source: An open bank or shard.
        location: A path, or a URL that fsspec can write to.
        overwrite: Replace a file that is there.

    Raises:
        BankExistsError: There is a file, and `overwrite` is not set.
        BankIOError: The store refused the file.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec
        >>> from maskstore.interop import ShardReader, write_shard
        >>> masks = {"fc1": np.arange(800).reshape(20, 40) % 10 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec.of(masks)) as bank:
        ...         bank.put("task-0", masks)
        ...         write_shard(bank, f"{folder}/tasks.shard")
        ...     with ShardReader(f"{folder}/tasks.shard") as shard:
        ...         print(list(shard), shard.verify())
        ['task-0'] 1
    """
    check_source(source)
    text = text_of(location)
    if is_url(text):
        _upload(source, text, overwrite=overwrite)
        return
    with replacing(path_of(text), overwrite=overwrite) as scratch:
        write_file(source.records(), source.spec, encode_meta(source.meta), scratch)


class ShardReader(MaskSource):
    """The masks of a shard: a mapping from task name to `Mask`, as an open `MaskBank` is.

    Any thread may use it, and so may a process that was forked. A copy, and a reader that is sent to another process,
    opens the file again.

    What is read is checked against checksums, from the footer over the index to every record.

    Args:
        location: A path, or a URL that fsspec can read.
        tail_bytes: Bytes at the end of the file that the first request reads. If they hold the index, there is no
            second request.
        options: fsspec's own options for the URL.
        limit: The most bytes that one call may decode, as in `MaskBank.open`.
        backbone: The weights that masks were coded against, if some have the prior `KeptWeights`.

    Raises:
        BankNotFoundError: There is no file.
        NotABankError: The file is not a shard.
        CorruptError: The file is damaged.
        BankIOError: The store cannot be read.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec
        >>> from maskstore.interop import ShardReader, write_shard
        >>> masks = {"fc1": np.arange(800).reshape(20, 40) % 10 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec.of(masks)) as bank:
        ...         bank.put("task-0", masks, meta={"accuracy": 0.95})
        ...         write_shard(bank, f"{folder}/tasks.shard")
        ...     with ShardReader(f"{folder}/tasks.shard") as shard:
        ...         print(shard["task-0"].ones, shard.task_meta("task-0"))
        80 {'accuracy': 0.95}
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        *,
        tail_bytes: int = TAIL_BYTES,
        options: dict[str, Any] | None = None,
        limit: int | None = None,
        backbone: Backbone | None = None,
    ) -> None:
        self.location = text_of(location)
        self.limit, self.backbone = byte_limit(limit), checked_backbone(backbone)
        self._closed = False
        place = self.location if is_url(self.location) else os.path.abspath(self.location)
        self._arguments = (place, tail_bytes, options)
        self._ranges = open_ranges(self.location, options or {})
        try:
            self._open(max(tail_bytes, FOOTER_BYTES))
        except BaseException:
            self.close()
            raise

    def _open(self, tail_bytes: int) -> None:
        wrong: errors.MaskStoreError | None = None
        for tail in self._ranges.tails(tail_bytes):
            try:
                footer = shard_format.decode_footer(tail, self.location)
                break
            except (errors.NotABankError, errors.CorruptError) as error:
                wrong = error  # some stores answer with other bytes than those that were asked for
        else:
            raise wrong or errors.NotABankError(f"{self.location}: expected a shard, found an empty file")
        size = len(tail) if len(tail) < tail_bytes else self._ranges.size
        if (size is not None and footer.file_size != size) or footer.file_size < len(tail):
            raise errors.CorruptError(
                f"{self.location}: expected a file of {footer.file_size} bytes, found another size"
            )
        self._ranges.size, self._footer = footer.file_size, footer
        tail_start = footer.file_size - len(tail)
        if footer.index_start >= tail_start:
            stored = tail[footer.index_start - tail_start : footer.index_stop - tail_start]
        else:
            stored = self._ranges.read(footer.index_start, footer.index_stop)
        index = shard_format.decode_index(stored, footer, self.location)
        self.spec, self.meta = index.spec, index.meta
        self._entries = {entry.row.name: entry for entry in index.entries}

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies, and readers that are sent to other processes, open the file anew; it has to be the same shard."""
        if self._closed:
            raise errors.BankClosedError(f"{self.location}: expected an open shard, found it closed")
        return _reopened, (*self._arguments, self.limit, self.backbone, self._footer)

    def close(self) -> None:
        """Release the file. Closing twice is fine."""
        self._closed = True
        self._ranges.close()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        """Task names in insertion order."""
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def task_meta(self, name: str) -> dict[str, Any]:
        """The metadata stored beside a mask; it is in the index, so this is no request."""
        return self.info(name).meta

    def extras(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays stored beside a mask; no request if there are none."""
        entry = self._entry(name)
        return decode_extras(self.record(name).extras, name) if entry.extras_bytes else {}

    def info(self, name: str) -> MaskInfo:
        """Metadata, codec, prior and sizes of a mask, from the index."""
        entry = self._entry(name)
        row = entry.row
        meta, codec, prior = (parse_object(text) for text in (row.meta, row.codec, row.prior))
        return MaskInfo(name, meta, codec, prior, entry.data_bytes, entry.extras_bytes)

    def record(self, name: str) -> Record:
        """The stored row of a mask, its checksum checked: one request."""
        entry = self._entry(name)
        return replace(entry.record(self._read(entry.start, entry.stop)), limit=self.limit, backbone=self.backbone)

    def _of_record(self, name: str, work: Callable[[Record], T]) -> T:
        """Of a mask in blocks, the table is read, and blocks when `work` wants them."""
        entry = self._entry(name)
        return work(self._unread(entry) if in_blocks(entry.row.codec) else self.record(name))

    def _unread(self, entry: Entry) -> Record:
        """A row whose checksum is checked, and whose data are read when they are sliced."""
        begin = entry.start + entry.extras_bytes
        known_from = max(begin, entry.stop - TAIL_BYTES)
        known = self._read(known_from, entry.stop)

        def read(first: int, stop: int) -> Iterator[bytes]:
            first, stop = begin + first, begin + stop
            yield known[first - known_from : stop - known_from] if first >= known_from else self._read(first, stop)

        extras = self._read(entry.start, begin) if entry.extras_bytes else b""
        data = Unread(entry.data_bytes, read)
        record = replace(entry.row, extras=extras, data=data, limit=self.limit, backbone=self.backbone)
        check_own_sum(record)
        return record

    def records(self) -> Iterator[Record]:
        """All rows in insertion order; neighbours are fetched by one request, up to 8 MiB at a time."""
        batch: list[Entry] = []
        for entry in self._entries.values():
            if batch and (len(batch) == _SCAN_ROWS or entry.stop - batch[0].start > _SCAN_BYTES):
                yield from self._fetch(batch)
                batch = []
            batch.append(entry)
        yield from self._fetch(batch)

    def _fetch(self, batch: Sequence[Entry]) -> Iterator[Record]:
        """The records of neighbours, by one request."""
        data = self._read(batch[0].start, batch[-1].stop) if batch else b""
        for entry in batch:
            start = entry.start - batch[0].start
            row = entry.record(data[start : start + entry.extras_bytes + entry.data_bytes])
            yield replace(row, limit=self.limit, backbone=self.backbone)

    def _check_file(self) -> None:
        if self._read(0, len(MAGIC)) != MAGIC:
            raise errors.CorruptError(f"{self.location}: expected to start with {MAGIC!r}, found other bytes")

    def _entry(self, name: str) -> Entry:
        if name not in self:
            found = f"expected one of {len(self)} tasks in {self.location}{nearest(str(name), self)}"
            raise errors.TaskNotFoundError(f"task {name!r:.80}: {found}")
        return self._entries[name]

    def _read(self, start: int, stop: int) -> bytes:
        if self._closed:
            raise errors.BankClosedError(f"{self.location}: expected an open shard, found it closed")
        return self._ranges.read(start, stop)

    def __repr__(self) -> str:
        return f"ShardReader({self.location!r}, {len(self)} masks x {self.spec.bits} bits)"


def _reopened(
    location: str,
    tail_bytes: int,
    options: dict[str, Any] | None,
    limit: int | None,
    backbone: Backbone | None,
    footer: shard_format.Footer,
) -> ShardReader:
    reader = ShardReader(location, tail_bytes=tail_bytes, options=options, limit=limit, backbone=backbone)
    if reader._footer != footer:
        reader.close()
        raise errors.CorruptError(f"{location}: expected the shard that was open when the reader was copied, "
                                  "found another")  # fmt: skip
    return reader


def _upload(source: MaskSource, url: str, *, overwrite: bool) -> None:
    """Written here first, so that an error in the middle leaves nothing there."""
    import tempfile

    with errors.needing("fsspec", url):
        import fsspec

    try:
        files, path = fsspec.core.url_to_fs(url)
        if "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,)):
            write_shard(source, path, overwrite=overwrite)
            return
        if not overwrite and files.exists(path):
            raise errors.BankExistsError(f"{url}: expected no file there, found one (`overwrite=True` replaces it)")
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder) / "shard"
            write_file(source.records(), source.spec, encode_meta(source.meta), scratch)
            files.put_file(str(scratch), path)
    except errors.MaskStoreError:
        raise
    except Exception as error:  # every file system has its own errors
        raise errors.BankIOError(f"{url}: expected to write there, found: {errors.one_line(error)}") from error
