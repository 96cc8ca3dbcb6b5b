"""`MaskBank`: many masks of one spec in one file.

SQLite gives transactions, crash safety and readers beside a writer (`maskstore.bank.open_file` holds those); this
module adds the masks. A `put` that returned is on the disk; one that did not left no trace.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from maskstore._version import __version__
from maskstore.bank import byte_stream as stream
from maskstore.bank import record
from maskstore.bank.open_file import BankFile, fitting_page_size
from maskstore.bank.record import Record
from maskstore.bank.rows import Rows
from maskstore.codecs import AnyCodec, get_codec
from maskstore.errors import CorruptError, MaskStoreError, SpecError, TaskNotFoundError
from maskstore.files import check_name, encode_meta, is_name, parse_object
from maskstore.masks import Mask, MaskMatrix, MaskSpec, bits
from maskstore.priors import Prior, Uniform

T = TypeVar("T")
_BATCH = 64  # records read from the file at a time while scanning
_BATCH_BYTES = 1 << 28  # packed masks that are decoded at a time


class MaskInfo(NamedTuple):
    """What a bank knows about a mask without decoding it."""

    name: str
    meta: dict[str, Any]
    codec: dict[str, Any]
    prior: dict[str, Any]
    """The prior's id and fields; where it refers to other masks, `tasks` are their names, "" for one that was removed
    or replaced since and is kept for those that need it."""
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
        try:
            self.spec = MaskSpec.from_json(file.head["spec"])
            self.meta = parse_object(file.head["meta"])
        except MaskStoreError as error:
            file.close()
            raise CorruptError(f"{file.path}: {error}") from None
        self._rows = Rows(self.spec)

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
            page_size = fitting_page_size(spec.bits)
        if page_size not in [1 << n for n in range(9, 17)]:
            raise SpecError(f"page size: expected a power of two from 512 to 65536, found {page_size}")
        head = {
            "created_by": f"maskstore {__version__}",
            "meta": encode_meta(meta or {}),
            "spec": spec.to_json(),
            "templates": "[]",
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
            return int(link.execute("SELECT count(name) FROM masks").fetchone()[0])

    def __iter__(self) -> Iterator[str]:
        """Task names in insertion order."""
        with self._file.reading() as link:
            names = [name for (name,) in link.execute("SELECT name FROM masks WHERE name IS NOT NULL ORDER BY id")]
        if not all(isinstance(name, str) for name in names):  # two tables of a damaged file can share their pages
            raise CorruptError(f"{self.path}: expected the names of masks, found other values")
        return iter(names)

    def __contains__(self, name: object) -> bool:
        if not is_name(name):
            return False
        with self._file.reading() as link:
            return link.execute("SELECT 1 FROM masks WHERE name=?", (name,)).fetchone() is not None

    def __getitem__(self, name: str) -> Mask:
        """The mask of a task, packed; its checksums are checked. TaskNotFoundError if there is none."""
        return record.decode_mask(self.record(name), self.spec)

    def layer(self, name: str, layer: str) -> NDArray[np.bool_]:
        """One layer of one mask as a bool array; reads only the offset table and that layer's bytes.

        Masks that it was coded against are read whole.
        """
        index = self.spec.index(layer)
        self._check_known(name)
        with self._file.snapshot() as link:
            found = self._rows.part(link, name, index)
        if found is None:
            raise self._missing(name)
        row, entry, chunk = found
        words = record.layer_decoder(row, self.spec, record.base_masks(row.bases, self.spec))(index, entry, chunk)
        shape = self.spec.layers[index]
        return bits.unpack(words, shape.size).reshape(shape.shape)

    def task_meta(self, name: str) -> dict[str, Any]:
        """The metadata stored beside a mask; its checksum is checked."""
        return parse_object(self.record(name).meta)

    def extras(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays stored beside a mask, such as normalisation statistics."""
        return record.decode_extras(self.record(name).extras, name)

    def info(self, name: str) -> MaskInfo:
        """Metadata, codec, prior and sizes of a mask, for listings: neither decoded nor checked."""
        self._check_known(name)
        for info in self._infos("name=?", name):
            return info
        raise self._missing(name)

    def infos(self) -> list[MaskInfo]:
        """`info` of all masks, in insertion order."""
        return self._infos("name IS NOT NULL ORDER BY id")

    def record(self, name: str) -> Record:
        """The stored row of a mask, its checksum checked."""
        self._check_known(name)
        with self._file.snapshot() as link:
            row = self._rows.find(link, name)
        if row is None:
            raise self._missing(name)
        return row

    def records(self) -> Iterator[Record]:
        """All stored rows in insertion order, checksums checked, read in batches; masks put meanwhile may be seen."""
        last = -(1 << 63)
        with self._file.snapshot() as link:
            self._rows.check_room(link)
        while True:
            with self._file.snapshot() as link:
                rows = self._rows.after(link, last, _BATCH)
            if not rows:
                return
            for row in rows:
                if row.id <= last:
                    raise CorruptError(f"{self.path}: expected rows in order, found id {row.id} after {last}")
                last = row.id
                yield row

    def snapshots(self) -> list[Record]:
        """The rows of masks that were removed or replaced and that others still need, checksums checked."""
        with self._file.snapshot() as link:
            return self._rows.snapshots(link)

    def map_records(self, work: Callable[[Record], T]) -> Iterator[tuple[Record, T]]:
        """(row, work(row)) for all rows in insertion order; work runs on all cores, a batch of rows at a time.

        A batch has as many rows as have 256 MiB of masks, at least one and at most 64.
        """
        ahead = decoded_ahead(self.spec)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            rows = self.records()
            while batch := list(islice(rows, ahead)):
                yield from zip(batch, pool.map(work, batch), strict=True)

    def masks(self) -> Iterator[tuple[str, Mask]]:
        """All (name, mask) pairs in insertion order."""
        for row, mask in self.map_records(lambda row: record.decode_mask(row, self.spec)):
            yield row.name, mask

    def matrix(self, names: Sequence[str] | None = None) -> MaskMatrix:
        """All masks, or those named, as packed rows ready for inference."""
        pairs = self.masks() if names is None else ((name, self[name]) for name in names)
        first = next(iter(pairs), None)  # a mask must be there before memory for all that a forged file claims is taken
        result = MaskMatrix(self.spec, room=(len(self) if names is None else len(names)) if first else 0)
        for name, mask in chain([first] if first else [], pairs):
            result.append(name, mask)
        return result

    def head_bytes(self) -> int:
        """Bytes of the texts stored about the whole bank: spec, metadata, origin, templates and their checksum."""
        with self._file.reading() as link:
            total = link.execute("SELECT sum(length(CAST(key||value AS BLOB))) FROM head").fetchone()[0]
        return int(total)

    def rows_bytes(self) -> tuple[int, int]:
        """(bytes of side information in rows beside extras and data, bytes that belong to no row any more)."""
        with self._file.snapshot() as link:
            return self._rows.side_bytes(link), stream.dead_bytes(link)

    def root_pages(self) -> list[int]:
        """Page numbers of the roots of all b-trees of the file, for `maskstore.bank.sqlite_pages`."""
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
                    found = " ".join(line.removeprefix("*** in database main ***").split())
                    raise CorruptError(f"{self._file.path}: expected an intact bank, found: {found}")
            self._file.check_size(link)
        self._file.read_head()
        with self._file.snapshot() as link:
            self._rows.check(link)
        count = 0
        for row in chain(self.snapshots(), self.records()):
            record.decode_extras(row.extras, row.name)
            parse_object(row.meta)
            record.decode_mask(row, self.spec)
            count += bool(row.name)
        return count

    # -- writing ------------------------------------------------------------------------------------------------------

    def put(
        self,
        name: str,
        masks: Mask | Mapping[str, Any],
        *,
        meta: Mapping[str, Any] | None = None,
        extras: Mapping[str, Any] | None = None,
        codec: AnyCodec = "auto",
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
        known, chosen = prior or Uniform(), get_codec(codec)
        if known.tasks or known.needs[0]:
            with self._file.changing() as link:
                missing = [task for task in known.tasks if task not in self]
                if missing:
                    raise self._missing(missing[0])
                bases = self._rows.resolve(link, known)
                coded = record.encode_record(name, mask, chosen, known, meta or {}, extras or {}, bases)
                self._rows.insert(link, coded, overwrite=overwrite)
            return
        coded = record.encode_record(name, mask, chosen, known, meta or {}, extras or {})
        with self._file.changing() as link:
            self._rows.insert(link, coded, overwrite=overwrite)

    def put_record(self, row: Record, *, overwrite: bool = False) -> None:
        """Store a row as another bank of the same spec holds it, without coding anew; with it the masks it needs."""
        row.check()
        check_name(row.name)
        for text in (row.meta, row.codec, row.prior):
            parse_object(text)
        with self._file.changing() as link:
            self._rows.insert(link, row, overwrite=overwrite)

    def recode(self, row: Record) -> None:
        """Replace the coded bytes of a row by others for the same bits; masks that refer to it stay as they are."""
        with self._file.changing() as link:
            self._rows.recode(link, row)

    def tidy(self) -> None:
        """Close the gaps that removed and replaced masks left; `vacuum` then gives the room back."""
        with self._file.changing() as link:
            self._rows.tidy(link)

    def delete(self, name: str) -> None:
        """Remove a mask; TaskNotFoundError if there is none. Masks that were coded against it keep what they need."""
        self._file.check_writable()
        self._check_known(name)
        with self._file.changing() as link:
            if not self._rows.remove(link, name):
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

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _infos(self, where: str, *arguments: str) -> list[MaskInfo]:
        with self._file.snapshot() as link:
            outlines = self._rows.outlines(link, where, *arguments)
        infos = []
        for found in outlines:
            meta, codec, prior = (parse_object(text) for text in (found.meta, found.codec, found.prior))
            if found.bases:
                prior = {**prior, "tasks": list(found.bases)}
            infos.append(MaskInfo(found.name, meta, codec, prior, found.data_bytes, found.extras_bytes))
        return infos

    def _check_known(self, name: str) -> None:
        """TaskNotFoundError for what cannot be a name, before SQLite is asked about it."""
        if not is_name(name):
            raise self._missing(name)

    def _missing(self, name: str) -> TaskNotFoundError:
        import difflib

        near = difflib.get_close_matches(str(name), list(self), n=1)
        hint = f", nearest is {near[0]!r}" if near else ""
        return TaskNotFoundError(f"task {name!r}: expected one of {len(self)} tasks in {self._file.path}{hint}")

    def __repr__(self) -> str:
        state = "closed" if self._file.closed else f"{len(self)} masks x {self.spec.bits} bits"
        return f"MaskBank({str(self._file.path)!r}, {state})"


def decoded_ahead(spec: MaskSpec) -> int:
    """How many masks are decoded side by side while scanning."""
    return max(1, min(_BATCH, _BATCH_BYTES // (8 * spec.words + 1)))
