"""The file of a shard, written from records."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from maskstore.bank import Record, check_sum, pieces_of, standalone
from maskstore.interop.shards import format as shard_format
from maskstore.interop.shards.format import MAGIC, Entry
from maskstore.masks import MaskSpec


def write_file(records: Iterable[Record], spec: MaskSpec, meta: str, path: Path) -> list[Entry]:
    """Write a shard of some records to a path. Returns what its index says of them.

    A record that was coded against other masks is coded anew without them.
    """
    rows: list[bytes] = []
    entries: list[Entry] = []
    with path.open("wb") as file:
        file.write(MAGIC)
        for stored in records:
            row = standalone(stored, spec)
            check_sum(row)
            at = file.tell()
            file.write(row.extras)
            file.writelines(pieces_of(row.data))
            rows.append(shard_format.encode_row(row))
            entries.append(Entry(replace(row, extras=b"", data=b""), at, len(row.extras), len(row.data)))
        file.write(shard_format.encode_end(spec, meta, rows, file.tell()))
    return entries
