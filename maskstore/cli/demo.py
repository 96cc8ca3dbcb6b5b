"""`maskstore demo`: the tour of the store alone, on a pruned layer that is drawn from a seed. It needs no torch."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.bank import MaskBank
from maskstore.cli import console
from maskstore.errors import MaskStoreError
from maskstore.masks import MaskSpec
from maskstore.philox import Role, random_uniform

ROWS, COLUMNS = 512, 1024
PICTURE = 24, 72
"""Rows of cells of the picture, and cells in a row; a cell of the picture stands for a rectangle of weights."""
_SHADES = " ░▒▓█", " .:*#"  # for terminals that can show the first and for all others

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Pruned:
    """One mask of the tour."""

    name: str
    what: str
    kept: float
    """Share of the weights that the mask keeps."""
    packed_bytes: int
    coded_bytes: int
    codec: str


@dataclass(frozen=True)
class DemoResult:
    """What the tour made."""

    bank: str
    parameters: int
    masks: tuple[Pruned, ...]
    file_bytes: int

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def weights_of_a_layer() -> NDArray[np.float64]:
    """Weights `(512, 1024)` such as training leaves them: some rows and columns have larger ones than others."""
    rows, columns = (random_uniform(0, Role.SAMPLE, size, layer=1, stream=size) for size in (ROWS, COLUMNS))
    noise = random_uniform(0, Role.SAMPLE, ROWS * COLUMNS).reshape(ROWS, COLUMNS) * 2 - 1
    wave = 1 + 0.9 * np.sin(np.linspace(0, 9, ROWS))[:, None] * np.cos(np.linspace(0, 14, COLUMNS))
    found: NDArray[np.float64] = noise * (0.3 + rows)[:, None] * (0.3 + columns) * wave
    return found


def pruned(sizes: NDArray[np.float64]) -> dict[str, tuple[str, Bools]]:
    """The layer pruned in three ways, given the sizes of its weights."""
    smallest = np.partition(sizes.reshape(-1), -sizes.size // 10)[-sizes.size // 10]
    fours = sizes.reshape(ROWS, COLUMNS // 4, 4)
    two = (np.argsort(np.argsort(fours, axis=2), axis=2) >= 2).reshape(sizes.shape)
    half = sizes >= np.median(sizes, axis=1, keepdims=True)
    return {
        "largest-tenth": ("the largest tenth of all weights", sizes >= smallest),
        "two-of-four": ("the two largest of every four in a row (2:4)", two),
        "half-of-each-row": ("the larger half of each row", half),
    }


def run_demo(path: Path) -> DemoResult:
    """Write the bank, read every mask back, compare each bit; the bank may be one of an earlier demo.

    Raises:
        MaskStoreError: for a path that holds another bank or something else, and if a bit comes back wrong.
    """
    masks = pruned(np.abs(weights_of_a_layer()))
    spec = MaskSpec({"layer": (ROWS, COLUMNS)})
    made = []
    with MaskBank.create(path, spec, meta={"made by": "maskstore demo"}, exist_ok=True) as bank:
        for name, (what, mask) in masks.items():
            if name not in bank or not np.array_equal(bank[name].dense()["layer"], mask):
                bank.put(name, {"layer": mask}, meta={"what": what}, codec="max", overwrite=True)
    with MaskBank.open(path) as bank:
        for name, (what, mask) in masks.items():
            if not np.array_equal(bank[name].dense()["layer"], mask):
                raise MaskStoreError(f"{path}: mask {name!r}: expected the bits that were put, found others")
            info = bank.info(name)
            codec = str(info.codec["id"])
            made.append(Pruned(name, what, float(mask.mean()), -(-mask.size // 8), info.coded_bytes, codec))
    return DemoResult(str(path), spec.bits, tuple(made), path.stat().st_size)


def picture(mask: Bools) -> list[str]:
    """The mask as lines of text: the darker a cell, the more of its weights are kept."""
    shades = _SHADES[0] if _can_print(_SHADES[0]) else _SHADES[1]
    rows, columns = PICTURE
    high, wide = mask.shape[0] // rows, mask.shape[1] // columns
    share = mask[: high * rows, : wide * columns].reshape(rows, high, columns, wide).mean(axis=(1, 3))
    level = np.minimum((share / max(share.max(), 1e-9) * len(shades)).astype(int), len(shades) - 1)
    return ["".join(shades[each] for each in row) for row in level]


def print_demo(result: DemoResult) -> None:
    """The table of the masks, a picture of one, and what to do next."""
    table = console.table(f"a layer of {result.parameters:,} weights, pruned in {len(result.masks)} ways")
    for heading, left in (
        ("mask", True),
        ("kept", False),
        ("packed", False),
        ("coded", False),
        ("bits a weight", False),
    ):
        table.add_column(heading, justify="left" if left else "right")
    for each in result.masks:
        bits = 8 * each.coded_bytes / result.parameters
        sizes = f"{each.packed_bytes:,} bytes", f"{each.coded_bytes:,} bytes"
        table.add_row(each.name, f"{each.kept:.0%}", *sizes, f"{bits:.3f} ({each.codec})")
    console.terminal().print(table)
    mask = pruned(np.abs(weights_of_a_layer()))[result.masks[0].name][1]
    console.say(f"\n{result.masks[0].name}: darker where more weights are kept\n" + "\n".join(picture(mask)))
    console.say(f"\n{result.bank}: {result.file_bytes:,} bytes; every mask was read back, bit for bit. Go on with")
    for line in ("maskstore ls", "maskstore stats", "maskstore verify"):
        console.say(f"  {line} {result.bank}")


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
