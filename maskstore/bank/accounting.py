"""Every byte of a bank, put down to what it is for, beside the entropy bound.

payload   what the coders wrote for the bits
side      everything else that is needed to decode, or that belongs to a task: probability tables, offset tables, codec
          and prior descriptions, checksums, metadata, extra arrays, names, the bank's head, and snapshots: masks that
          were removed or replaced, and that others need
index     what SQLite spends on finding things: page and cell headers, pointers, the index on names, its schema
slack     bytes that hold nothing: unfilled pages, free pages, and gaps that removed masks left
log       the write-ahead log beside the file while a writer is at work
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from maskstore.bank import record
from maskstore.bank.bank import MaskBank
from maskstore.bank.record import Record
from maskstore.bank.sqlite_pages import measure
from maskstore.codecs import counts_by_context
from maskstore.errors import CorruptError
from maskstore.files import parse_json
from maskstore.masks import MaskSpec
from maskstore.priors import prior_from_config


@dataclass(frozen=True)
class LayerAccount:
    """Totals of one layer over all masks."""

    name: str
    parameters: int
    payload_bytes: int
    side_bytes: int
    ones: int
    entropy_bits: float


@dataclass(frozen=True)
class Account:
    """Where the bytes of a bank are; the five parts add up to `total_bytes`."""

    tasks: int
    parameters: int
    file_bytes: int
    payload_bytes: int
    side_bytes: int
    index_bytes: int
    slack_bytes: int
    log_bytes: int
    entropy_bits: float
    """Sum over masks, layers and contexts of the prior of n * h(n1 / n): what ideal static coding given the prior
    would need, tables not counted."""
    snapshots: int
    """Masks that are kept only for others."""
    snapshot_bytes: int
    """Their coded bytes, a part of `side_bytes`."""
    codecs: dict[str, int]
    """How many masks are coded by each codec."""
    layers: list[LayerAccount] = field(repr=False)

    @property
    def total_bytes(self) -> int:
        """The file and, while a writer is at work, its log."""
        return self.file_bytes + self.log_bytes

    def per_parameter(self, bits: float) -> float | None:
        """A number of bits over all masks as bits per parameter and task; None for a bank without masks."""
        return bits / (self.tasks * self.parameters) if self.tasks and self.parameters else None


def account(bank: MaskBank) -> Account:
    """Read a whole bank and account for its bytes."""
    head_bytes = bank.head_bytes()
    size, slack, log = _measure_file(bank)
    totals = [[0, 0, 0, 0.0] for _ in bank.spec]
    in_rows, dead = bank.rows_bytes()
    side, tasks, codecs = head_bytes + in_rows, 0, Counter[str]()
    for row, layers in bank.map_records(lambda row: _account_record(row, bank.spec)):
        tasks += 1
        codecs[parse_json(row.codec)["id"]] += 1
        side += len(row.extras) + record.read_table(row.data, bank.spec, row.what, len(row.data))[1]
        for total, found in zip(totals, layers, strict=True):
            for i, value in enumerate(found):
                total[i] += value
    snapshots = bank.snapshots()
    payload = int(sum(total[0] for total in totals))
    side += int(sum(total[1] for total in totals))
    slack += dead
    index = size - payload - side - slack
    if log == 0 and index < 0:
        raise CorruptError(f"{bank.path}: expected its parts to fit into {size} bytes, found {-index} more")
    return Account(
        tasks=tasks,
        parameters=bank.spec.bits,
        file_bytes=size,
        payload_bytes=payload,
        side_bytes=side,
        index_bytes=index,
        slack_bytes=slack,
        log_bytes=log,
        entropy_bits=sum(total[3] for total in totals),
        snapshots=len(snapshots),
        snapshot_bytes=sum(len(row.data) for row in snapshots),
        codecs=dict(codecs),
        layers=[
            LayerAccount(layer.name, layer.size, int(payload), int(table), int(ones), entropy)
            for layer, (payload, table, ones, entropy) in zip(bank.spec, totals, strict=True)
        ],
    )


def _measure_file(bank: MaskBank) -> tuple[int, int, int]:
    """(bytes of the file, slack in it, bytes of the log)."""
    log = bank.path.with_name(bank.path.name + "-wal")
    log_bytes = log.stat().st_size if log.exists() else 0
    image, roots = bank.image() if log_bytes else None, bank.root_pages()
    with bank.path.open("rb") as file:
        header = image[:100] if image is not None else file.read(100)
        size = int.from_bytes(header[16:18], "big")
        size = 65536 if size == 1 else size

        def page(number: int) -> bytes:
            if image is not None:
                return image[(number - 1) * size : number * size]
            file.seek((number - 1) * size)
            return file.read(size)

        use = measure(page, roots)
    if image is None and use.file != bank.path.stat().st_size:
        raise CorruptError(f"{bank.path}: expected {use.file} bytes in its pages, found {bank.path.stat().st_size}")
    return use.file, use.slack, log_bytes


def _account_record(row: Record, spec: MaskSpec) -> list[tuple[int, int, int, float]]:
    """(payload bytes, side bytes, ones, entropy bits) of each layer."""
    mask = record.decode_mask(row, spec)
    prior = prior_from_config(parse_json(row.prior))
    entries, _ = record.read_table(row.data, spec, row.what, len(row.data))
    others = record.base_masks(row.bases, spec)
    result = []
    for index, (layer, (side, payload, _)) in enumerate(zip(spec, entries, strict=True)):
        known = prior.contexts(spec, index, others)
        counts = counts_by_context(mask.words[layer.packed], known)
        result.append((payload, side, int(counts[:, 1].sum()), _entropy_bits(counts)))
    return result


def _entropy_bits(counts: np.ndarray) -> float:
    """Sum over contexts of n * h(n1 / n), in bits."""
    total = counts.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(counts > 0, -counts * np.log2(counts / total), 0.0)
    return float(bits.sum())
