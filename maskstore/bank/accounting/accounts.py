"""Every byte of a bank, put down to what it is for, beside the static entropy.

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

from maskstore.bank.accounting.sqlite_pages import measure
from maskstore.bank.bank import MaskBank
from maskstore.bank.coding import base_masks, decode_mask, layer_bytes, prior_for
from maskstore.bank.maintenance import Maintenance
from maskstore.bank.record import Record
from maskstore.bank.signs import signed_sizes
from maskstore.bank.sqlite import log_of
from maskstore.codecs import counts_by_context
from maskstore.errors import CorruptError
from maskstore.files import parse_object
from maskstore.masks import Cut, MaskSpec

_CUT_DIGITS = 20  # contexts take a byte a bit: of so many bits at a time


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
    """Where the bytes of a bank are, and what its masks would need by their entropy: what `account` returns.

    Payload, side, index, slack and log bytes add up to `total_bytes`.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec, account
        >>> masks = {"fc1": np.arange(8000).reshape(80, 100) % 10 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec.of(masks)) as bank:
        ...         bank.put("task-0", masks, codec="raw")
        ...     with MaskBank.open(f"{folder}/tasks.bank") as bank:
        ...         found = account(bank)
        >>> found.payload_bytes, [layer.ones for layer in found.layers]
        (1000, [800])
        >>> parts = (found.payload_bytes, found.side_bytes, found.index_bytes, found.slack_bytes, found.log_bytes)
        >>> sum(parts) == found.total_bytes
        True
    """

    tasks: int
    """Masks in the bank."""
    parameters: int
    """Bits of one mask."""
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
    signed: int = 0
    """Masks that have signs."""
    sign_bytes: int = 0
    """Their coded signs, a part of `side_bytes`."""
    scale_bytes: int = 0
    """Their scales, another part of it."""

    @property
    def total_bytes(self) -> int:
        """The file and, while a writer is at work, its log."""
        return self.file_bytes + self.log_bytes

    def per_parameter(self, bits: float) -> float | None:
        """A number of bits over all masks as bits per parameter and task; None for a bank without masks."""
        return bits / (self.tasks * self.parameters) if self.tasks and self.parameters else None


def account(bank: MaskBank) -> Account:
    """Read a whole bank and account for its bytes.

    Args:
        bank: An open bank.

    Returns:
        Where its bytes are, and how many bits its masks need by their entropy.

    Raises:
        CorruptError: The bank is damaged.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec, account
        >>> rng = np.random.default_rng(0)
        >>> spec = MaskSpec({"fc1": (300, 784)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", spec) as bank:
        ...         for task in range(3):
        ...             bank.put(f"task-{task}", {"fc1": rng.random((300, 784)) < 0.05})
        ...     with MaskBank.open(f"{folder}/tasks.bank") as bank:
        ...         found = account(bank)
        >>> found.tasks, found.parameters, found.codecs
        (3, 235200, {'ans': 3})
        >>> print(f"{found.per_parameter(8 * found.total_bytes):.2f} bits a parameter, in all")
        0.31 bits a parameter, in all
        >>> print(f"{found.per_parameter(found.entropy_bits):.2f} bits by the entropy")
        0.29 bits by the entropy
    """
    keeper = Maintenance(bank)
    with keeper.one_moment():
        side = keeper.side_bytes()
        size, slack, log = _measure_file(bank)
        totals = np.zeros((len(bank.spec), 4))  # of each layer: bytes of payload and side information, ones, entropy
        tasks, codecs, signs = 0, Counter[str](), np.zeros(3, dtype=np.int64)
        for row, layers in bank.map_records(lambda row: _account_record(row, bank.spec)):
            tasks += 1
            codecs[parse_object(row.codec)["id"]] += 1
            side += len(row.extras) + len(row.data) - sum(payload + own for payload, own, _, _ in layers)
            totals += layers
            sizes = signed_sizes(row)
            signs += [sizes[0] > 0, *sizes]
        snapshots = keeper.snapshots()
        payload = int(totals[:, 0].sum())
        side += int(totals[:, 1].sum())
        slack += keeper.dead_bytes()
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
        entropy_bits=float(sum(totals[:, 3])),
        snapshots=len(snapshots),
        snapshot_bytes=sum(len(row.data) for row in snapshots),
        codecs=dict(codecs),
        layers=[
            LayerAccount(layer.name, layer.size, int(payload), int(table), int(ones), float(entropy))
            for layer, (payload, table, ones, entropy) in zip(bank.spec, totals, strict=True)
        ],
        signed=int(signs[0]),
        sign_bytes=int(signs[1]),
        scale_bytes=int(signs[2]),
    )


def _measure_file(bank: MaskBank) -> tuple[int, int, int]:
    """(bytes of the file, slack in it, bytes of the log)."""
    log = log_of(bank.path)
    log_bytes = log.stat().st_size if log.exists() else 0
    keeper = Maintenance(bank)
    with keeper.image_file() as file:  # the bank itself must not be opened beside SQLite
        header = file.read(100)
        size = int.from_bytes(header[16:18], "big")
        size = 65536 if size == 1 else size

        def page(number: int) -> bytes:
            file.seek((number - 1) * size)
            return file.read(size)

        use = measure(page, keeper.root_pages())
    found = bank.path.stat().st_size
    if not log_bytes and use.file != found:
        raise CorruptError(f"{bank.path}: expected {use.file} bytes in its pages, found {found}")
    return use.file, use.slack, log_bytes


def _account_record(row: Record, spec: MaskSpec) -> list[tuple[int, int, int, float]]:
    """(payload bytes, side bytes, ones, entropy bits) of each layer."""
    mask, prior, others = decode_mask(row, spec), prior_for(row), base_masks(row.bases, spec)
    result = []
    for index, (layer, (payload, side)) in enumerate(zip(spec, layer_bytes(row, spec), strict=True)):
        known = [prior.contexts(spec, index, others, block) for block in Cut.of(layer, _CUT_DIGITS)]
        words = [mask.words[layer.packed][block.packed] for block in Cut.of(layer, _CUT_DIGITS)]
        counts = sum(map(counts_by_context, words, known), np.zeros((1, 2), dtype=np.int64))
        result.append((payload, side, int(counts[:, 1].sum()), _entropy_bits(counts)))
    return result


def _entropy_bits(counts: np.ndarray) -> float:
    """Sum over contexts of n * h(n1 / n), in bits."""
    total = counts.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(counts > 0, -counts * np.log2(counts / total), 0.0)
    return float(bits.sum())
