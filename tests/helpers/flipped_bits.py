"""Banks with one bit flipped: everything that can be read from them, and what a change may cost."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maskstore import Mask, MaskBank, MaskSpec, Reference, compact
from maskstore.errors import MaskStoreError
from tests.helpers.related_masks import like

SPEC = MaskSpec({"fc1": (8, 10), "fc2": (5, 8)})
PARENT = Mask.from_flat(np.random.default_rng(0).random(SPEC.bits) < 0.4, SPEC)
ABSENT = ("t0", "u3", "t9", "zz")


def small_bank(path: Path, *, related: bool) -> Path:
    """A bank of a few masks on pages of 512 bytes, some of them free; `related`: with references and a snapshot."""
    with MaskBank.create(path, SPEC, meta={"a": 1}, page_size=512) as bank:
        for i in range(5 if related else 8):
            extras = {"k": np.float32([i])}
            bank.put(f"t{i}", like(PARENT, 0.1, i), meta={"i": i}, extras=extras, codec=("ans", "raw")[i % 2])
        if related:
            for i in range(5, 8):
                bank.put(f"t{i}", like(PARENT, 0.05, i), meta={"i": i}, prior=Reference(f"t{i - 4}"))
            bank.delete("t1")
        bank.delete("t0")
        with bank.transaction():
            for i in range(20):
                bank.put(f"x{i}", PARENT, codec="raw")
        with bank.transaction():
            for i in range(20):
                bank.delete(f"x{i}")
    return path


def readings(bank: MaskBank, names: Iterable[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every way to read a bank that holds these masks, and what to call it."""
    yield "meta", lambda: (bank.meta, bank.spec)
    yield "names", lambda: (list(bank), list(bank.keys()))
    yield "len", lambda: len(bank)
    yield "masks", lambda: list(bank.masks())
    yield "values", lambda: list(bank.values())
    yield "records", lambda: [(row.name, row.meta, row.extras) for row in bank.records()]
    yield "infos", bank.infos
    yield "matrix", lambda: [(matrix := bank.matrix()).names, matrix.rows.tolist()]
    yield "absent", lambda: [name in bank or bank.get(name) for name in ABSENT]
    for name in names:
        yield f"in {name}", lambda name=name: name in bank
        yield f"get {name}", lambda name=name: bank[name]
        yield f"info {name}", lambda name=name: bank.info(name)
        yield f"task_meta {name}", lambda name=name: bank.task_meta(name)
        yield f"extras {name}", lambda name=name: {k: v.tolist() for k, v in bank.extras(name).items()}
        yield f"matrix {name}", lambda name=name: bank.matrix([name]).rows.tolist()
        for layer in bank.spec:
            yield f"layer {name}", lambda name=name, layer=layer: bank.layer(name, layer.name).tolist()


def content(path: Path) -> list[Any]:
    """What the readings of a sound bank give."""
    with MaskBank.open(path) as bank:
        return [read() for _, read in readings(bank, list(bank))]


def flipped(image: bytes, bit: int) -> bytes:
    """A file with one bit changed."""
    changed = bytearray(image)
    changed[bit >> 3] ^= 1 << (bit & 7)
    return bytes(changed)


def write_alone(path: Path, image: bytes) -> None:
    """A bank's file, with nothing of an earlier one beside it."""
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    path.write_bytes(image)


def wrong_readings(path: Path, names: list[str], expected: list[Any]) -> list[str]:
    """The readings that give something else than they should, or say that a mask is absent, instead of an error."""
    wrong = []
    try:
        bank = MaskBank.open(path)
    except MaskStoreError:
        return []
    with bank:
        for (what, read), right in zip(readings(bank, names), expected, strict=True):
            try:
                if read() != right:
                    wrong.append(what)
            except KeyError:  # a mask that is there is not "not found"
                wrong.append(what)
            except MaskStoreError:
                continue
    return wrong


CHANGES: dict[str, tuple[Callable[[MaskBank], object], set[str]]] = {
    "delete": (lambda bank: bank.delete("t4"), {"t4"}),
    "overwrite": (lambda bank: bank.put("t3", PARENT, overwrite=True), {"t3"}),
    "put": (lambda bank: bank.put("new", PARENT), set()),
    "put a related one": (lambda bank: bank.put("new", PARENT, prior=Reference("t2")), set()),
    "compact": (lambda bank: compact(bank.path, level="fast"), set()),
}
"""What may be done to a bank, and which masks that takes away."""


def lost_by(change: str, path: Path, names: list[str], expected: dict[str, Mask]) -> set[str]:
    """Masks that could be read from the file at `path` before a change and cannot after it, beside those it takes."""
    work, taken = CHANGES[change]
    before = _readable(path, names, expected)
    try:
        with MaskBank.open(path, "r" if change == "compact" else "a") as bank:
            work(bank)
    except MaskStoreError:
        pass
    return before - _readable(path, names, expected) - taken


def _readable(path: Path, names: list[str], expected: dict[str, Mask]) -> set[str]:
    found = set()
    try:
        with MaskBank.open(path) as bank:
            for name in names:
                try:
                    if bank[name] == expected[name]:
                        found.add(name)
                except MaskStoreError:
                    continue
    except MaskStoreError:
        return set()
    return found
