"""`Maintenance`: what merging, compacting and accounting do to a bank below its masks."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import BinaryIO

from maskstore.bank import byte_stream
from maskstore.bank.bank import MaskBank
from maskstore.bank.coding import check_sum
from maskstore.bank.record import MAX_PLACE, Record
from maskstore.bank.sqlite import side_files
from maskstore.errors import ArgumentTypeError, CorruptError
from maskstore.files import check_name, named_os_errors, parse_object

_CHUNK_BYTES, _SMALL_BYTES = 1 << 16, 1 << 12
_IN_MEMORY_BYTES = 1 << 26


class Maintenance:
    """Changes and measures the rows and pages of an open bank, within its transaction where one is open."""

    def __init__(self, bank: MaskBank) -> None:
        if not isinstance(bank, MaskBank):
            raise ArgumentTypeError(f"bank: expected an open MaskBank, found {type(bank).__name__}")
        self._file, self._rows = bank._file, bank._rows

    def put_record(self, row: Record, *, overwrite: bool = False) -> None:
        """Store a row as another bank of the same spec holds it, without coding anew; with it the masks it needs."""
        check_sum(row)
        check_name("task name", row.name)
        for text in (row.meta, row.codec, row.prior):
            parse_object(text)
        with self._file.changing() as link:
            self._rows.insert(link, row, overwrite=overwrite)

    def trust(self) -> None:
        """CorruptError unless all that a change relies on is sound: pages, index and rows."""
        with self._file.changing() as link:
            self._rows.trust(link)

    def recode(self, row: Record) -> None:
        """Replace the coded bytes of a row by others for the same bits; masks that refer to it stay as they are."""
        with self._file.changing() as link:
            self._rows.recode(link, row)

    def tidy(self) -> None:
        """Write stream and texts anew in the order of the rows, without gaps and without templates nobody needs.

        Chunks then hold several masks, if these are not so small that reading one would mean to read much else.
        `vacuum` gives the room back.
        """
        with self._file.changing() as link:
            rows, templates = self._rows, self._rows.templates
            rows.trust(link)
            ids = [id for (id,) in link.execute("SELECT id FROM masks ORDER BY id")]
            texts = [templates.unpack(link, rows.known(link, id).about) for id in ids]
            (mean,) = link.execute("SELECT ifnull(avg(extras+data),0) FROM masks").fetchone()
            least = min(_CHUNK_BYTES, int(8 * mean)) if mean >= _SMALL_BYTES else 1
            templates.store(link, [])
            first: int | None = None
            for id, text in zip(ids, texts, strict=True):
                row = rows.known(link, id)
                blobs = byte_stream.read_parts(link, row.start, row.extras + row.data)
                start, _ = byte_stream.append_pieces(link, blobs, least=least, apart=first is None)
                first = start if first is None else first
                link.execute("UPDATE masks SET about=?,start=? WHERE id=?", (templates.pack(link, text), start, id))
            byte_stream.drop_before(link, MAX_PLACE if first is None else first)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """What is read in the block is the bank as it was at one moment, whoever writes to it meanwhile."""
        with self._file.snapshot():
            yield

    def vacuum(self) -> None:
        """Give free pages back to the file system; BankBusyError inside a transaction."""
        self._file.vacuum()

    def snapshots(self) -> list[Record]:
        """The rows of masks that were removed or replaced and that others still need, checksums checked."""
        with self._file.snapshot() as link:
            return self._rows.snapshots(link)

    def side_bytes(self) -> int:
        """Bytes of the head, of names, texts, checksums and pointers of all rows, and all bytes of snapshots."""
        query = (
            "SELECT (SELECT total(length(CAST(key||value AS BLOB))) FROM head)+total("
            "length(CAST(ifnull(name,'') AS BLOB))+length(about)+length(checksum)+ifnull(length(bases),0)"
            "+iif(name IS NULL,extras+data,0)) FROM masks"
        )
        with self._file.reading() as link:
            return int(link.execute(query).fetchone()[0])

    def dead_bytes(self) -> int:
        """Bytes of the stream that belong to no row any more."""
        with self._file.reading() as link:
            return byte_stream.dead_bytes(link)

    def root_pages(self) -> list[int]:
        """Page numbers of the roots of all b-trees of the file, for `maskstore.bank.accounting.sqlite_pages`."""
        with self._file.reading() as link:
            return [1] + [root for (root,) in link.execute("SELECT rootpage FROM sqlite_schema WHERE rootpage>0")]

    def image(self) -> bytes:
        """The file as it would be after a checkpoint, in memory."""
        self._size()
        with self._file.reading() as link:
            return link.serialize()

    @contextmanager
    def image_file(self) -> Iterator[BinaryIO]:
        """The file as it would be after a checkpoint: in memory if it is small, else as a temporary file."""
        if self._size() <= _IN_MEMORY_BYTES:
            yield BytesIO(self.image())
            return
        with named_os_errors(Path(gettempdir())), TemporaryDirectory(prefix="maskstore-") as folder:
            copy = Path(folder) / "image"
            with self._file.reading() as link, closing(sqlite3.connect(copy)) as target:
                link.backup(target)
            with copy.open("rb") as file:
                yield file

    def _size(self) -> int:
        """How long the file would be after a checkpoint; CorruptError if it claims more pages than it and its log have.

        A log of a few bytes can claim any number. Within a transaction, pages may also be in memory.
        """
        with self._file.reading() as link:
            changing = self._file.writable and link.in_transaction
        with self._file.snapshot() as link:
            pages, size = link.execute("SELECT * FROM pragma_page_count, pragma_page_size").fetchone()
            parts = [self._file.path, *side_files(self._file.path)[:1]]
            there = sum(part.stat().st_size for part in parts if part.exists())
        if not changing and pages * size > there:
            raise CorruptError(f"{self._file.path}: expected {pages * size} bytes in pages, found {there} with the log")
        return int(pages * size)
