"""`MaskBank`: many masks of one spec in one file.

SQLite gives transactions, crash safety and readers beside a writer (`maskstore.bankfile` holds those); this module adds
the masks. A `put` that returned is on the disk; one that did not left no trace.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

import maskstore
from maskstore import bits, record
from maskstore.bankfile import BankFile
from maskstore.codecs.base import Codec
from maskstore.errors import (
    CorruptError,
    MaskStoreError,
    SpecError,
    TaskExistsError,
    TaskNotFoundError,
)
from maskstore.mask import Mask
from maskstore.matrix import MaskMatrix
from maskstore.priors import Prior, Uniform
from maskstore.record import Record
from maskstore.registry import get_codec
from maskstore.spec import MaskSpec

_COLUMNS = "id,name,meta,codec,prior,checksum,extras,data"
_TYPES = (int, str, str, str, str, bytes, bytes, bytes)
T = TypeVar("T")
_BATCH = 64  # records read from the file at a time while scanning


class MaskInfo(NamedTuple):
    """What a bank knows about a mask without decoding it."""

    name: str
    meta: dict[str, Any]
    codec: dict[str, Any]
    prior: dict[str, Any]
    coded_bytes: int
    """Bytes of offset table, side information and payload."""
    extras_bytes: int


class MaskBank:
    """A bank of masks: a mapping from task name to `Mask`, in insertion order. Use `create` or `open`.

    A bank opened for reading may be used from any thread and after a fork: each gets a connection of its own. A bank
    opened for writing belongs to the thread that opened it (`BankThreadError` elsewhere).
    """

    def __init__(self, file: BankFile) -> None:
        self._file = file
        self.spec = MaskSpec.from_json(file.head["spec"])
        self.meta: dict[str, Any] = record.parse_json(file.head["meta"])

    # -- opening and closing ------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        spec: MaskSpec,
        *,
        meta: Mapping[str, Any] | None = None,
        page_size: int | None = None,
        timeout: float = 60.0,
    ) -> Self:
        """Create an empty bank and open it for writing; BankExistsError if the path is taken.

        `meta` is JSON about the whole bank, such as the seed of the network. `page_size` (a power of two from 512 to
        65536) defaults to what suits the size of one coded mask.
        """
        if page_size is None:
            page_size = _fitting_page_size(spec)
        if page_size not in [1 << n for n in range(9, 17)]:
            raise SpecError(f"page size: expected a power of two from 512 to 65536, found {page_size}")
        head = {
            "created_by": f"maskstore {maskstore.__version__}",
            "meta": record.encode_meta(meta or {}),
            "spec": spec.to_json(),
        }
        return cls(BankFile.create(Path(path), page_size, head, timeout=timeout))

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: str = "r", *, timeout: float = 60.0) -> Self:
        """Open an existing bank: mode "r" reads, "a" also writes. `timeout`: seconds to wait for another writer."""
        if mode not in ("r", "a"):
            raise SpecError(f'mode: expected "r" to read or "a" to write, found {mode!r:.20}')
        return cls(BankFile(Path(path), writable=mode == "a", timeout=timeout))

    def close(self) -> None:
        """Close; a writer first folds its write-ahead log into the file. Closing twice is fine."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except MaskStoreError:
            if error is None:  # the error that ended the block says more than the one it causes on the way out
                raise

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """Where the bank lies."""
        return self._file.path

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._file.writable

    def __len__(self) -> int:
        with self._file.reading() as link:
            return int(link.execute("SELECT count(*) FROM masks").fetchone()[0])

    def __iter__(self) -> Iterator[str]:
        """Task names in insertion order."""
        with self._file.reading() as link:
            names = [name for (name,) in link.execute("SELECT name FROM masks ORDER BY id")]
        return iter(names)

    def __contains__(self, name: object) -> bool:
        if not _is_name(name):
            return False
        with self._file.reading() as link:
            return link.execute("SELECT 1 FROM masks WHERE name=?", (name,)).fetchone() is not None

    def __getitem__(self, name: str) -> Mask:
        """The mask of a task, packed; its checksums are checked. TaskNotFoundError if there is none."""
        return record.decode_mask(self.record(name), self.spec)

    def layer(self, name: str, layer: str) -> NDArray[np.bool_]:
        """One layer of one mask as a bool array; reads only the offset table and that layer's bytes."""
        index = self.spec.index(layer)
        self._check_known(name)
        with self._file.reading() as link:
            row = link.execute("SELECT id,codec,prior,length(data) FROM masks WHERE name=?", (name,)).fetchone()
            if row is None:
                raise self._missing(name)
            with link.blobopen("masks", "data", row[0], readonly=True) as blob:
                entries = record.read_table(blob.read(record.table_bytes(self.spec)), self.spec, name, row[3])
                blob.seek(record.table_bytes(self.spec) + sum(side + load for side, load, _ in entries[:index]))
                chunk = blob.read(entries[index][0] + entries[index][1])
        stub = Record(row[0], name, "", row[1], row[2], b"", b"", b"")
        words = record.decode_layer(stub, self.spec, index, entries[index], chunk)
        found = self.spec.layers[index]
        return bits.unpack(words, found.size).reshape(found.shape)

    def task_meta(self, name: str) -> dict[str, Any]:
        """The metadata stored beside a mask; its checksum is checked."""
        meta: dict[str, Any] = record.parse_json(self.record(name).meta)
        return meta

    def extras(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays stored beside a mask, such as normalisation statistics."""
        return record.decode_extras(self.record(name).extras, name)

    def info(self, name: str) -> MaskInfo:
        """Metadata, codec, prior and sizes of a mask, for listings: neither decoded nor checked."""
        self._check_known(name)
        for info in self._infos("WHERE name=?", (name,)):
            return info
        raise self._missing(name)

    def infos(self) -> list[MaskInfo]:
        """`info` of all masks, in insertion order."""
        return self._infos("ORDER BY id", ())

    def record(self, name: str) -> Record:
        """The stored row of a mask, its checksum checked."""
        self._check_known(name)
        with self._file.reading() as link:
            row = link.execute(f"SELECT {_COLUMNS} FROM masks WHERE name=?", (name,)).fetchone()
        if row is None:
            raise self._missing(name)
        return _checked(row)

    def records(self) -> Iterator[Record]:
        """All stored rows in insertion order, checksums checked, read in batches; masks put meanwhile may be seen."""
        last = -(1 << 63)
        query = f"SELECT {_COLUMNS} FROM masks WHERE id>? ORDER BY id LIMIT {_BATCH}"
        while True:
            with self._file.reading() as link:
                rows = link.execute(query, (last,)).fetchall()
            if not rows:
                return
            for row in rows:
                yield _checked(row)
            if rows[-1][0] <= last:
                raise CorruptError(f"{self._file.path}: expected rows in order, found id {rows[-1][0]} after {last}")
            last = rows[-1][0]

    def map_records(self, work: Callable[[Record], T]) -> Iterator[tuple[Record, T]]:
        """(row, work(row)) for all rows in insertion order; work runs on all cores, a batch of rows at a time."""
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            rows = self.records()
            while batch := list(islice(rows, _BATCH)):
                yield from zip(batch, pool.map(work, batch), strict=True)

    def masks(self) -> Iterator[tuple[str, Mask]]:
        """All (name, mask) pairs in insertion order."""
        for row, mask in self.map_records(lambda row: record.decode_mask(row, self.spec)):
            yield row.name, mask

    def matrix(self, names: Sequence[str] | None = None) -> MaskMatrix:
        """All masks, or those named, as packed rows ready for inference."""
        result = MaskMatrix(self.spec, room=len(self) if names is None else len(names))
        pairs = self.masks() if names is None else ((name, self[name]) for name in names)
        for name, mask in pairs:
            result.append(name, mask)
        return result

    def head_bytes(self) -> int:
        """Bytes of the texts stored about the whole bank: spec, metadata, origin and their checksum."""
        with self._file.reading() as link:
            total = link.execute("SELECT sum(length(CAST(key||value AS BLOB))) FROM head").fetchone()[0]
        return int(total)

    def root_pages(self) -> list[int]:
        """Page numbers of the roots of all b-trees of the file, for `maskstore.pages`."""
        with self._file.reading() as link:
            return [1] + [root for (root,) in link.execute("SELECT rootpage FROM sqlite_schema WHERE rootpage>0")]

    def image(self) -> bytes:
        """The file as it would be after a checkpoint, in memory."""
        with self._file.reading() as link:
            return link.serialize()

    def verify(self) -> int:
        """Check every page, row and bit; returns the number of masks. CorruptError names the first thing wrong."""
        with self._file.reading() as link:
            for (line,) in link.execute("PRAGMA integrity_check(1)"):
                if line != "ok":
                    raise CorruptError(f"{self._file.path}: expected an intact bank, found: {line}")
            self._check_size(link)
        self._file.read_head()
        count = 0
        for row in self.records():
            record.decode_extras(row.extras, row.name)
            record.parse_json(row.meta)
            record.decode_mask(row, self.spec)
            count += 1
        return count

    # -- writing ------------------------------------------------------------------------------------------------------

    def _check_size(self, link: sqlite3.Connection) -> None:
        """CorruptError if the file is longer or shorter than its pages, once no log holds some of them."""
        path = self._file.path
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            return
        pages, size = link.execute("SELECT * FROM pragma_page_count, pragma_page_size").fetchone()
        if path.stat().st_size != pages * size:
            raise CorruptError(f"{path}: expected {pages * size} bytes in pages, found {path.stat().st_size}")

    def put(
        self,
        name: str,
        masks: Mask | Mapping[str, Any],
        *,
        meta: Mapping[str, Any] | None = None,
        extras: Mapping[str, Any] | None = None,
        codec: str | Codec = "auto",
        prior: Prior | None = None,
        overwrite: bool = False,
    ) -> None:
        """Store a mask under a task name, atomically and durably.

        `masks` is a `Mask`, or a dict of layer name to array of 0/1 values, of the bank's spec. `meta` is any JSON,
        `extras` numeric arrays that belong to the task. `prior` says what is known about the mask (default: nothing).
        TaskExistsError if the name is taken, unless `overwrite`; the new mask then takes the old one's place in the
        order. Inside `transaction()` the mask is durable when the block ends.
        """
        self._file.check_writable()
        check_name(name)
        mask = masks if isinstance(masks, Mask) else Mask.from_dense(masks, self.spec)
        if mask.spec != self.spec:
            raise SpecError(f"mask {name!r}: expected the bank's spec {self.spec!r}, found {mask.spec!r}")
        coded = record.encode_record(name, mask, get_codec(codec), prior or Uniform(), meta or {}, extras or {})
        with self._file.changing() as link:
            self._insert(link, coded, overwrite)

    def put_record(self, row: Record, *, overwrite: bool = False) -> None:
        """Store a row as another bank of the same spec holds it, without coding anew."""
        row.check()
        check_name(row.name)
        with self._file.changing() as link:
            self._insert(link, row, overwrite)

    def delete(self, name: str) -> None:
        """Remove a mask; TaskNotFoundError if there is none."""
        self._file.check_writable()
        self._check_known(name)
        with self._file.changing() as link:
            if not link.execute("DELETE FROM masks WHERE name=?", (name,)).rowcount:
                raise self._missing(name)

    __delitem__ = delete

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes in the block together: either every one is stored, when the block ends, or none."""
        with self._file.transaction():
            yield

    def vacuum(self) -> None:
        """Give free pages back to the file system; BankBusyError inside `transaction`."""
        self._file.vacuum()

    def _insert(self, link: sqlite3.Connection, row: Record, overwrite: bool) -> None:
        found = link.execute("SELECT id FROM masks WHERE name=?", (row.name,)).fetchone()
        if found is not None and not overwrite:
            raise TaskExistsError(f"task {row.name!r}: expected a new name, found it stored (overwrite was not asked)")
        if found is not None:
            id = int(found[0])
            link.execute("DELETE FROM masks WHERE id=?", (id,))
        else:
            id = int(link.execute("SELECT ifnull(max(id),0)+1 FROM masks").fetchone()[0])
        row = record.sealed(row, id)
        values = (row.id, row.name, row.meta, row.codec, row.prior, row.checksum, row.extras, row.data)
        link.execute(f"INSERT INTO masks({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?)", values)

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _infos(self, where: str, arguments: tuple[str, ...]) -> list[MaskInfo]:
        query = f"SELECT name,meta,codec,prior,length(data),length(extras) FROM masks {where}"
        with self._file.reading() as link:
            rows = link.execute(query, arguments).fetchall()
        return [
            MaskInfo(name, record.parse_json(meta), record.parse_json(codec), record.parse_json(prior), coded, extras)
            for name, meta, codec, prior, coded, extras in rows
        ]

    def _check_known(self, name: str) -> None:
        """TaskNotFoundError for what cannot be a name, before SQLite is asked about it."""
        if not _is_name(name):
            raise self._missing(name)

    def _missing(self, name: str) -> TaskNotFoundError:
        import difflib

        near = difflib.get_close_matches(str(name), list(self), n=1)
        hint = f", nearest is {near[0]!r}" if near else ""
        return TaskNotFoundError(f"task {name!r}: expected one of {len(self)} tasks in {self._file.path}{hint}")

    def __repr__(self) -> str:
        state = "closed" if self._file.closed else f"{len(self)} masks x {self.spec.bits} bits"
        return f"MaskBank({str(self._file.path)!r}, {state})"


def _checked(row: tuple[Any, ...]) -> Record:
    if tuple(map(type, row)) != _TYPES:
        raise CorruptError(f"mask row {row[0]!r:.20}: expected the columns' types, found others")
    found = Record(*row)
    found.check()
    return found


def check_name(name: object) -> None:
    """SpecError unless `name` can be a task's name."""
    if not _is_name(name):
        raise SpecError(f"task name: expected 1 to 512 characters of valid Unicode without NUL, found {name!r:.60}")


def _is_name(name: object) -> bool:
    if not isinstance(name, str) or not 0 < len(name) <= 512 or "\0" in name:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fitting_page_size(spec: MaskSpec) -> int:
    """About a thirtieth of a coded mask, at 0.4 bits a parameter: then neither slack nor page headers weigh much."""
    coded = spec.bits * 0.4 / 8
    return next((size for size in (512, 1024, 2048, 4096, 8192, 16384, 32768) if coded <= 32 * size), 65536)
