"""Masks in a bank file: what ours costs, to the byte."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.storage.clock import RUNS, timed
from benchmarks.storage.judged import StoredMask
from maskstore import MaskBank, MaskSpec
from maskstore.bank.accounting import account
from maskstore.bank.compaction import compact
from maskstore.masks.matrix import MaskMatrix

Measured = tuple[dict[str, int], float, float, dict[str, Any]]
"""Bytes by what they are for, processor seconds of encoding and of decoding, and what else was found."""


def measure_bank(
    spec: MaskSpec, meta: Mapping[str, Any], masks: Sequence[StoredMask], *, level: str, runs: int = RUNS
) -> Measured:
    """Write a bank, by codec auto and for level "max" compacted after, and read it back.

    Encoding ends with the closed file on the disk, decoding begins with opening it and ends with all masks packed.
    AssertionError unless every mask came back as it was.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.bank"

        def write() -> None:
            for earlier in Path(folder).iterdir():
                earlier.unlink()
            with MaskBank.create(path, spec, meta=meta) as bank, bank.transaction():
                for each in masks:
                    bank.put(each.name, each.mask, meta=each.meta, prior=each.prior, extras=each.extras)

        def read() -> MaskMatrix:
            with MaskBank.open(path) as bank:
                return bank.matrix()

        _, encoding = timed(write, runs)
        if level == "max":
            source = Path(folder) / "source"
            shutil.copy(path, source)

            def compacted() -> None:
                shutil.copy(source, path)
                compact(path, level="max")

            encoding += timed(compacted, runs)[1]
        matrix, decoding = timed(read, runs)
        assert all(matrix[each.name] == each.mask for each in masks), "a mask did not come back from its bank"
        with MaskBank.open(path) as bank:
            found = account(bank)
    parts = {"masks": found.payload_bytes, "side": found.side_bytes, "index": found.index_bytes + found.slack_bytes}
    notes = {"codecs": found.codecs, "entropy_bits_per_parameter": found.per_parameter(found.entropy_bits),
             "coded_bits_per_parameter": found.per_parameter(8 * (found.payload_bytes + found.side_bytes))}  # fmt: skip
    return parts, encoding, decoding, notes
