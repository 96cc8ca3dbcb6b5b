"""Writers of every kind on disks of every fullness: what was acknowledged stays, and every refusal is named.

`unshare -rm python -m tests.stress.full_disks --cases 3000` mounts a small file system in memory, fills it up to some
free pages, and does one piece of work there. It prints JSON: the cases of each kind, how many were refused, and what
was lost, unreadable or wrongly named. Without the right to mount (Linux, a user namespace) it says so and ends with 2.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from maskstore import Mask, MaskBank, MaskSpec, compact
from maskstore.errors import MaskStoreError
from maskstore.interop import merge, read_masks, store, write_npz, write_shard
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"fc1": (40, 50), "fc2": (10, 40)})
_PAGE = 4096


def _mask(number: int) -> Mask:
    return random_mask(SPEC, 0.5, number)


_acknowledged: dict[str, int | None] = {}
"""What the work of a case said was done: names and numbers of masks, None for a mask that is gone."""


def _put(folder: Path) -> dict[str, int | None]:
    with MaskBank.open(folder / "a.bank", "a") as bank:
        for number in range(100, 112):
            bank.put(f"task-{number}", _mask(number))
            _acknowledged[f"task-{number}"] = number
    return {}


def _delete(folder: Path) -> dict[str, int | None]:
    with MaskBank.open(folder / "a.bank", "a") as bank:
        bank.delete("task-1")
        _acknowledged["task-1"] = None
    return {}


def _overwrite(folder: Path) -> dict[str, int | None]:
    with MaskBank.open(folder / "a.bank", "a") as bank:
        bank.put("task-2", _mask(50), overwrite=True)
        _acknowledged["task-2"] = 50
    return {}


def _compact(folder: Path) -> dict[str, int | None]:
    compact(folder / "a.bank")
    return {}


def _merge(folder: Path) -> dict[str, int | None]:
    merge([folder / "b.bank", folder / "c.shard"], folder / "a.bank", prefix="{source}/")
    return {f"{source}/task-{i}": i for source in "bc" for i in range(6)}


def _import(folder: Path) -> dict[str, int | None]:
    found = read_masks(folder / "c.npz")
    tasks = tuple(replace(task, name=f"c/{task.name}") for task in found.tasks)
    store(replace(found, tasks=tasks), folder / "a.bank")
    return {f"c/task-{i}": i for i in range(6)}


def _export(folder: Path) -> dict[str, int | None]:
    with MaskBank.open(folder / "a.bank") as bank:
        write_npz(bank, folder / "c.npz", overwrite=True)
        write_shard(bank, folder / "c.shard", overwrite=True)
    return {}


def _create(folder: Path) -> dict[str, int | None]:
    try:
        with MaskBank.create(folder / "new.bank", SPEC) as bank:
            bank.put("task-0", _mask(0))
    except MaskStoreError:
        if (folder / "new.bank").exists():
            with MaskBank.open(folder / "new.bank") as bank:
                bank.verify()
        raise
    return {}


WORKS: dict[str, Callable[[Path], dict[str, int | None]]] = {
    "put": _put, "delete": _delete, "overwrite": _overwrite, "compact": _compact, "merge": _merge, "import": _import,
    "export": _export, "create": _create,
}  # fmt: skip


def case(disk: Path, model: Path, work: str, free: int) -> str:
    """One piece of work with about `free` bytes free on the disk: "" if it was done, or the refusal.

    Raises AssertionError for everything that must not happen.
    """
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in model.iterdir():
        shutil.copy(path, disk / path.name)
    status = os.statvfs(disk)
    filler = status.f_bavail * status.f_bsize - free
    with (disk / "filler").open("wb") as file:
        file.write(bytes(max(filler, 0)))
    os.environ["TMPDIR"] = tempfile.tempdir = str(disk)
    _acknowledged.clear()
    refusal = ""
    try:
        _acknowledged.update(WORKS[work](disk))
    except MaskStoreError as error:
        refusal = f"{type(error).__name__}: {error}"
    expected: dict[str, int | None] = {f"task-{i}": i for i in range(20)} | _acknowledged
    with MaskBank.open(disk / "a.bank") as bank:  # on the disk that is still full
        for name, number in expected.items():
            if number is None:
                assert name not in bank, f"{name} is there again"
            else:
                assert name in bank, f"{name} is lost"
                assert bank[name] == _mask(number), f"{name} is wrong"
        extra = set(bank) - set(expected)
    if "nothing" in refusal and "kept" in refusal:
        assert not extra, f"said that nothing was kept, but {sorted(extra)[:2]} are there: {refusal}"
    for name in ("c.npz", "c.shard"):
        assert (disk / name).exists(), f"{name} is lost"
    read_masks(disk / "c.npz")
    (disk / "filler").unlink()
    with MaskBank.open(disk / "a.bank", "a") as bank:
        bank.verify()
        bank.put("afterwards", _mask(1))
    left = [path.name for path in disk.iterdir() if path.name.startswith((".", "tmp"))]
    assert not left, f"{left} left behind"
    return refusal


def run(cases: int, disk: Path) -> dict[str, dict[str, object]]:
    """So many cases in all, spread over the kinds of work and over free space from none to plenty."""
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        model = Path(name)
        for file, count in (("a.bank", 20), ("b.bank", 6)):
            with MaskBank.create(model / file, SPEC) as bank:
                for number in range(count):
                    bank.put(f"task-{number}", _mask(number), codec="raw")
        with MaskBank.open(model / "b.bank") as bank:
            write_shard(bank, model / "c.shard")
            write_npz(bank, model / "c.npz")
        (model / "a.bank.lock").touch()
        each = cases // len(WORKS)
        for work in WORKS:
            refusals: list[str] = []
            faults: list[str] = []
            for turn in range(each):
                free = 40 * turn // each * _PAGE
                try:
                    refusals += filter(None, [case(disk, model, work, free)])
                except Exception as error:
                    faults.append(f"{free} bytes free: {type(error).__name__}: {error}"[:300])
            kinds = sorted({refusal.split(":")[0] for refusal in refusals})
            found[work] = {"cases": each, "refused": len(refusals), "by": kinds, "faults": len(faults)}
            if faults:
                found[work]["first faults"] = faults[:3]
    return found


def main() -> int:
    """Mount, run, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3000)
    options = parser.parse_args()
    disk = Path(tempfile.mkdtemp())
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        print("expected the right to mount a file system (try `unshare -rm` before this command)", file=sys.stderr)
        return 2
    try:
        found = run(options.cases, disk)
    finally:
        subprocess.run(["umount", str(disk)], check=False)
        disk.rmdir()
    print(json.dumps(found, indent=1))
    return int(any(result["faults"] for result in found.values()))


if __name__ == "__main__":
    sys.exit(main())
