"""`compact`: code the masks of a bank anew in fewer bytes, all or none, with every bit checked before it counts.

All happens inside the bank's own file, as one transaction under the writers' lock followed by SQLite's VACUUM. A second
file put in the old one's place would be as atomic for who opens the bank afterwards, but whoever had it open would go
on with the file that is gone, and what they then write would be lost (SQLite, "How to corrupt an SQLite database
file", section 2.4). Here readers keep what they see until the change is complete, and a process that ends early, even
by a power cut, leaves the bank as it was.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from maskstore.bank.bank import MaskBank
from maskstore.bank.coding import decode_mask, digest_of, encode_record, prior_for, sealed
from maskstore.bank.maintenance import Maintenance
from maskstore.bank.open_file import named_errors
from maskstore.bank.record import Base, Record
from maskstore.bank.relations import cost_of, relate
from maskstore.codecs import CodecChoice
from maskstore.errors import CorruptError
from maskstore.files import path_of
from maskstore.masks import Mask, MaskSpec
from maskstore.priors import Backbone, Prior

_MEASURED_BYTES = 1 << 24  # in larger banks a page more or less says nothing
_RELATED_BYTES = 1 << 29  # of larger banks masks are coded one by one: relations need all masks in memory


@dataclass(frozen=True)
class Compaction:
    """What `compact` did."""

    tasks: int
    """Masks in the bank."""
    recoded: int
    """Masks that now take fewer bytes; the others keep theirs."""
    bytes_before: int
    """Bytes of the file."""
    bytes_after: int


def compact(
    path: str | os.PathLike[str],
    *,
    level: str = "max",
    timeout: float = 60.0,
    limit: int | None = None,
    backbone: Backbone | None = None,
    on_mask: Callable[[int, int], None] | None = None,
) -> Compaction:
    """Code every mask of a bank anew in fewer bytes, all or none, and give free pages back.

    Every bit is checked before the bank changes. A mask that would not get smaller keeps its bytes, and so does a whole
    bank whose file would get larger. Other writers wait meanwhile; readers do not.

    Args:
        path: The bank file.
        level: "max" tries every codec, and also codes masks against others of the bank where that saves bytes, as long
            as all masks packed take at most 512 MiB. "fast" is what `MaskBank.put` does by default.
        timeout: Seconds to wait for another writer.
        limit: The most bytes that each scan of the masks may decode, as in `MaskBank.open`.
        backbone: As in `MaskBank.open`.
        on_mask: Called as `on_mask(done, of)` as masks are coded and then checked; `of` is twice their number.

    Returns:
        How many masks got smaller, and the file's bytes before and after.

    Raises:
        CodecError: There is no such level.
        CorruptError: A mask did not come back as it was. The bank is then as before.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec, compact
        >>> masks = {"fc1": np.arange(8000).reshape(80, 100) % 10 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/tasks.bank"
        ...     with MaskBank.create(path, MaskSpec.of(masks)) as bank:
        ...         for task in range(4):
        ...             bank.put(f"task-{task}", masks, codec="raw")
        ...     found = compact(path, level="fast")
        >>> found.tasks, found.recoded, found.bytes_after < found.bytes_before
        (4, 4, True)
    """
    codec, tell = CodecChoice(level), on_mask or (lambda done, of: None)
    bank_path = path_of(path)
    with MaskBank.open(bank_path, "a", timeout=timeout, limit=limit, backbone=backbone) as bank:
        bytes_before = bank_path.stat().st_size
        total = recoded = 0
        try:
            with bank.transaction():
                keeper = Maintenance(bank)
                keeper.trust()
                total, size_before = len(bank), _size_alone(bank)
                relations = _relations(bank) if level == "max" else {}

                def work(row: Record) -> Record | None:
                    return _recoded(row, bank.spec, codec, relations.get(row.id))

                for done, (_, new) in enumerate(bank.map_records(work), 1):
                    if new is not None:
                        keeper.recode(new)
                        recoded += 1
                    tell(done, 2 * total)
                if recoded or keeper.dead_bytes():
                    keeper.tidy()
                    _check(bank_path, bank, lambda done: tell(total + done, 2 * total))
                    if 0 < size_before < _size_alone(bank):
                        raise _LargerError
        except _LargerError:
            recoded = 0
        Maintenance(bank).vacuum()
    return Compaction(total, recoded, bytes_before, bank_path.stat().st_size)


class _LargerError(Exception):
    """Rolls back what would enlarge the file."""


def _size_alone(bank: MaskBank) -> int:
    """How long the file would be after VACUUM, as far as a few pages matter (otherwise 0)."""
    if bank.path.stat().st_size > _MEASURED_BYTES:
        return 0
    image = Maintenance(bank).image()
    with named_errors(bank.path), closing(sqlite3.connect(":memory:", isolation_level=None)) as link:
        link.deserialize(image[:18] + b"\1\1" + image[20:])  # a file in memory has no log
        link.execute("PRAGMA temp_store=MEMORY")
        link.execute("VACUUM")
        pages, size = link.execute("SELECT * FROM pragma_page_count, pragma_page_size").fetchone()
    return int(pages * size)


_Related = tuple[Prior, tuple[Base, ...]]


def _relations(bank: MaskBank) -> dict[int, _Related]:
    """Row id -> a prior that refers to other masks, and these; for masks that seem to need fewer bits under it."""
    if len(bank) * bank.spec.words * 8 > _RELATED_BYTES:
        return {}
    rows, masks = [], []
    for row, mask in bank.map_records(lambda row: decode_mask(row, bank.spec)):
        rows.append(row)
        masks.append(mask)
    needed = {base.record.id for row in rows for base in row.bases}
    alone = [prior_for(row).alone for row in rows]
    found = relate(masks, alone, [not row.bases for row in rows])
    return {
        rows[i].id: (
            relation.prior,
            tuple(Base(digest_of(masks[j]), rows[j]) for j in relation.bases),
        )
        for i, relation in found.items()
        if rows[i].id not in needed
    }


def _recoded(row: Record, spec: MaskSpec, codec: CodecChoice, related: _Related | None) -> Record | None:
    """The row in fewer bytes, under its id and with its checksum; None if there is no such."""
    mask = decode_mask(row, spec)
    prior = prior_for(row)
    ways: list[_Related] = [(prior, row.bases)]
    if row.bases:
        ways.append((prior.alone, ()))
    if related is not None:
        ways.append(related)
    coded = [encode_record(row.name, mask, codec, known, bases=bases) for known, bases in ways]
    best = min(coded, key=cost_of)
    if cost_of(best) >= cost_of(row):
        return None
    return sealed(replace(best, meta=row.meta, extras=row.extras), row.id)


def _check(path: Path, bank: MaskBank, on_mask: Callable[[int], None]) -> None:
    """Every row of `bank`, as its transaction has it, against the rows that others still see in the file."""

    def content(row: Record) -> tuple[int, str, str, bytes, Mask]:
        return row.id, row.name, row.meta, row.extras, decode_mask(row, bank.spec)

    with MaskBank.open(path, limit=bank.limit, backbone=bank.backbone) as before:
        pairs = zip_longest(before.map_records(content), bank.map_records(content))
        for done, (old, new) in enumerate(pairs, 1):
            if old is None or new is None or old[1] != new[1]:
                raise CorruptError(f"{path}, mask {done}: expected to read back what was stored, found something else")
            on_mask(done)
