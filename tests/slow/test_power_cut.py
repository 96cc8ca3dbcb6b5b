"""A simulated power cut: what a writer did to its files is recorded, and replayed up to a random moment.

Of what a file had not yet synced then, each write is kept, dropped, or torn at a sector. A removal that its folder had
not synced may be undone. The bank must come up whole, with everything that was acknowledged before the cut.
"""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from maskstore import MaskBank
from maskstore.errors import MaskStoreError
from tests.helpers.masks import random_mask
from tests.helpers.writers.recorded import SPEC

ROOT = Path(__file__).parents[2]
RECORDER = ROOT / "tests" / "helpers" / "writers" / "recorder.c"
COMPILER = shutil.which("cc") or shutil.which("gcc")
CUTS = int(os.environ.get("MASKSTORE_TEST_CUTS", "150"))  # 2 000 were used for the figure in docs/format.md
SECTOR = 512
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler for the recorder"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the recorder is preloaded the way Linux does it"),
]


class Operation(NamedTuple):
    kind: str  # (w)rite, (t)runcate, (s)ync, (u)nlink
    name: str
    offset: int
    data: bytes


def _record(folder: Path, environment: dict[str, str]) -> tuple[dict[str, bytes], list[Operation]]:
    """Run the writer under the recorder: the files before, and everything done to them."""
    library, log, work = folder / "recorder.so", folder / "log", folder / "work"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O1", "-o", library, RECORDER, "-ldl"], check=True)
    work.mkdir()
    bank = work / "a.bank"
    MaskBank.create(bank, SPEC).close()
    before = {bank.name: bank.read_bytes()}
    variables = {
        **os.environ, **environment, "LD_PRELOAD": str(library), "RECORD_LOG": str(log), "RECORD_UNDER": str(work),
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "tests.helpers.writers.recorded", bank, work / "ack"], env=variables, check=True
    )
    operations, data, at = [], log.read_bytes(), 0
    while at < len(data):
        kind, length, offset, size = struct.unpack_from("=cHQI", data, at)
        at += 15
        path = data[at : at + length].decode().removesuffix(" (deleted)")
        operations.append(Operation(kind.decode(), os.path.relpath(path, work), offset, data[at + length :][:size]))
        at += length + size
    return before, operations


def _apply(content: bytearray, operation: Operation) -> None:
    if operation.kind == "t":
        del content[operation.offset :]
        content.extend(bytes(operation.offset - len(content)))
        return
    end = operation.offset + len(operation.data)
    content.extend(bytes(max(0, end - len(content))))
    content[operation.offset : end] = operation.data


def _after_the_cut(before: dict[str, bytes], done: list[Operation], rng: np.random.Generator) -> dict[str, bytes]:
    """One possible state of the files on the disk after the power went away behind the last of `done`."""
    files = {name: bytearray(content) for name, content in before.items()}
    for name in {operation.name for operation in done} - {"."}:
        own = [operation for operation in done if operation.name == name]
        synced = max((i for i, operation in enumerate(own) if operation.kind == "s"), default=-1)
        folder_synced = max((i for i, operation in enumerate(done) if operation[:2] == ("s", ".")), default=-1)
        content: bytearray | None = files.get(name, bytearray())
        for i, operation in enumerate(own):
            if operation.kind == "s":
                continue
            if operation.kind == "u":
                durable = done.index(operation) < folder_synced
                content = None if durable or rng.random() < 0.5 else content
                continue
            content = bytearray() if content is None else content
            fate = 0.0 if i < synced else rng.random()
            if fate < 0.4 or (fate < 0.7 and operation.kind == "t"):
                _apply(content, operation)
            elif fate < 0.7:
                sectors = -(-len(operation.data) // SECTOR)
                for sector in np.flatnonzero(rng.random(sectors) < 0.5):
                    start = int(sector) * SECTOR
                    piece = operation.data[start : start + SECTOR]
                    _apply(content, Operation("w", name, operation.offset + start, piece))
        if content is None:
            files.pop(name, None)
        else:
            files[name] = content
    return {name: bytes(content) for name, content in files.items() if not name.endswith(("-shm", ".lock", "ack"))}


def _lost_after_cuts(folder: Path, environment: dict[str, str], cuts: int) -> int:
    """How many of the cuts lost something that was acknowledged, or left a bank that does not open."""
    before, operations = _record(folder, environment)
    assert sum(operation.kind == "w" for operation in operations) > 100
    rng = np.random.default_rng(0)
    lost = 0
    for number in range(cuts):
        cut = int(rng.integers(len(operations) + 1))
        done = operations[:cut]
        acknowledged = [operation.data[0] for operation in done if operation.name == "ack"]
        disk = folder / f"disk-{number}"
        disk.mkdir()
        for name, content in _after_the_cut(before, done, rng).items():
            (disk / name).write_bytes(content)
        lost += not _whole(disk / "a.bank", max(acknowledged, default=-1))
        shutil.rmtree(disk)
    return lost


def _whole(path: Path, last: int) -> bool:
    """Whether the bank comes up as it was after change `last`, or the one under way."""
    try:
        with MaskBank.open(path, "a") as bank:
            bank.verify()
            reached = bank.task_meta("latest")["n"] if "latest" in bank else -1
            names = [f"task-{n}" for n in range(reached + 1) if n % 4 or n + 3 > reached]
            expected = {name: random_mask(SPEC, 0.5, int(name[5:])) for name in names}
            if reached >= 0:
                expected["latest"] = random_mask(SPEC, 0.5, reached)
            return reached >= last and dict(bank.masks()) == expected
    except MaskStoreError:
        return False


@pytest.mark.parametrize("blocks", ["0", "1"])
def test_a_power_cut_loses_nothing_acknowledged(tmp_path, blocks):
    assert _lost_after_cuts(tmp_path, {"BLOCKS": blocks}, CUTS) == 0


def test_the_power_cut_test_can_fail(tmp_path):
    """Without syncing, the same cuts do lose masks."""
    assert _lost_after_cuts(tmp_path, {"UNSYNCED": "1"}, 60) > 0
