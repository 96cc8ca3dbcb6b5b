"""Every single bit of two small banks flipped, and every reading call: each answer is right, or refused by name.

One bank has masks that stand alone, the other has masks that were coded against others, with a snapshot.
`python -m tests.stress.bit_flips` prints JSON for each bank: the flips, the calls, how many calls were refused, and how
many gave something wrong, lacked a mask without a word, or ended in an error without a name of ours. With `--write`
each flip and its reads are followed by one change (delete, overwrite, put, in turn). Then others are read again: what
could be read before must still be there. `--stride 97` flips every 97th bit only.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from maskstore import MaskBank, MaskSpec, RunningMean
from maskstore.bank import Maintenance
from maskstore.errors import MaskStoreError
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"fc1": (20, 30), "fc2": (10, 20)})
NAMES = tuple(f"t{i}" for i in range(6))


def make(path: Path, *, related: bool) -> None:
    """A bank of six small masks with metadata and extras."""
    with MaskBank.create(path, SPEC, meta={"seed": 3}) as bank:
        for i, name in enumerate(NAMES):
            mask = random_mask(SPEC, 0.5 if i % 2 else 0.05, i)
            extras = {"scale": np.arange(i, dtype=np.float32)} if i % 3 == 0 else None
            prior = RunningMean(list(NAMES[:2])) if related and i == 4 else None
            bank.put(name, mask, meta={"i": i, "accuracy": 0.5 + i / 16}, extras=extras, prior=prior)
        if related:
            bank.put("t0", random_mask(SPEC, 0.5, 10), overwrite=True)  # leaves a snapshot


CALLS: dict[str, Callable[[MaskBank], Any]] = {
    "len": len,
    "list": list,
    "in": lambda bank: [name in bank for name in (*NAMES, "t9")],
    "meta": lambda bank: bank.meta,
    "spec": lambda bank: bank.spec,
    "infos": lambda bank: [(info.name, info.meta, info.codec, info.extras_bytes) for info in bank.infos()],
    "masks": lambda bank: [(name, mask.words.tolist()) for name, mask in bank.masks()],
    "matrix": lambda bank: (list(bank.matrix().names), [bank.matrix()[i].words.tolist() for i in range(len(bank))]),
    "matrix of two": lambda bank: [m.words.tolist() for m in (bank.matrix(["t5", "t1"])[i] for i in range(2))],
    "records": lambda bank: [(row.name, row.data) for row in bank.records()],
    "items": lambda bank: [(name, mask.words.tolist()) for name, mask in bank.items()],
}
for _name in NAMES:
    CALLS |= {
        f"get {_name}": lambda bank, name=_name: bank[name].words.tolist(),
        f"layer {_name}": lambda bank, name=_name: [bank.layer(name, layer).tolist() for layer in ("fc1", "fc2")],
        f"info {_name}": lambda bank, name=_name: (bank.info(name).meta, bank.info(name).codec),
        f"task_meta {_name}": lambda bank, name=_name: bank.task_meta(name),
        f"extras {_name}": lambda bank, name=_name: {k: v.tolist() for k, v in bank.extras(name).items()},
    }


def read(path: Path, calls: tuple[str, ...] = tuple(CALLS)) -> dict[str, Any]:
    """What each call gives: its value, or a refusal in one word; other errors as they are named."""
    try:
        bank = MaskBank.open(path)
    except MaskStoreError:
        return dict.fromkeys(calls, "refused")
    except Exception as error:
        return dict.fromkeys(calls, f"unnamed {type(error).__name__}: {error}")
    found = {}
    with bank:
        for name in calls:
            try:
                found[name] = CALLS[name](bank)
            except MaskStoreError:
                found[name] = "refused"
            except Exception as error:
                found[name] = f"unnamed {type(error).__name__}: {error}"
    return found


def flip_and_read(path: Path, right: dict[str, Any], data: bytes, bit: int) -> Counter[str]:
    """One flip, all calls."""
    _flip(path, data, bit)
    return _judged(read(path), right)


_OF_A_TASK = ("get", "layer", "extras", "task_meta")


def flip_and_write(path: Path, right: dict[str, Any], data: bytes, bit: int) -> Counter[str]:
    """One flip, all calls, one change: every other mask that could be read is still there, as it was."""
    _flip(path, data, bit)
    before = read(path)
    result = _judged(before, right)
    target = NAMES[bit // 3 % len(NAMES)]
    try:
        with MaskBank.open(path, "a") as bank:
            match bit % 3:
                case 0:
                    bank.delete(target)
                case 1:
                    bank.put(target, random_mask(SPEC, 0.5, 77), overwrite=True)
                case 2:
                    bank.put("t9", random_mask(SPEC, 0.5, 77))
    except MaskStoreError:
        result["changes refused"] += 1
    except Exception as error:
        result["unnamed"] += 1
        result[f"unnamed {type(error).__name__} in a change"] += 1
    # the first touch of a damaged page is refused, whatever is asked for then: so each call is made twice
    after = read(path, 2 * tuple(f"{call} {name}" for name in NAMES for call in _OF_A_TASK))
    for name in NAMES:
        if name == target and bit % 3 < 2:
            continue
        for call in _OF_A_TASK:
            was, now = before[f"{call} {name}"], after[f"{call} {name}"]
            if was != "refused" and was != now:
                result["lost"] += 1
                result[f"lost {call} {name} at bit {bit}"] += 1
    result["changes"] += 1
    return result


def _flip(path: Path, data: bytes, bit: int) -> None:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    for beside in path.parent.glob(path.name + "*"):
        beside.unlink()
    path.write_bytes(changed)


def _judged(found: dict[str, Any], right: dict[str, Any]) -> Counter[str]:
    result: Counter[str] = Counter()
    for name, value in found.items():
        result["calls"] += 1
        if isinstance(value, str):
            result["refused" if value == "refused" else "unnamed"] += 1
            result[f"{value} in {name}"] += value != "refused"
        elif value != right[name]:
            result["wrong"] += 1
            result[f"wrong: {name}"] += 1
    return +result


def run(*, stride: int, write: bool, kinds: tuple[str, ...] = ("alone", "related")) -> dict[str, dict[str, int]]:
    """All flips of both banks."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / f"{kind}.bank"
            make(path, related=kind == "related")
            with MaskBank.open(path) as bank:
                assert bank.verify() == len(NAMES)
                assert bool(Maintenance(bank).snapshots()) == (kind == "related")
            right, data = read(path), path.read_bytes()
            shutil.copy(path, path.with_suffix(".kept"))
            total: Counter[str] = Counter(flips=0)
            for bit in range(0, 8 * len(data), stride):
                total["flips"] += 1
                total += flip_and_write(path, right, data, bit) if write else flip_and_read(path, right, data, bit)
            found[kind] = dict(total)
    return found


def main() -> int:
    """Flip, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--bank", choices=["alone", "related"], action="append", help="only this one")
    options = parser.parse_args()
    found = run(stride=options.stride, write=options.write, kinds=tuple(options.bank or ("alone", "related")))
    print(json.dumps(found, indent=1))
    return int(any(counts.get(fault) for counts in found.values() for fault in ("wrong", "unnamed", "lost")))


if __name__ == "__main__":
    sys.exit(main())
