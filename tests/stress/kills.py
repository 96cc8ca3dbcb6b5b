"""Writers of every kind, killed with SIGKILL at random moments: nothing that they acknowledged may be lost.

`python -m tests.stress.kills --kills 2000` prints JSON: the kills of each kind of work, the acknowledgements, and what
was lost. Work: put (puts, overwrites, deletes, transactions), delete, compact, merge, import, export, train.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from maskstore import Mask, MaskBank, MaskSpec, compact, open_source
from maskstore.errors import MaskStoreError
from maskstore.interop import merge, read_masks, store, write_npz, write_shard
from maskstore.priors import Reference
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"fc1": (40, 50), "fc2": (10, 40)})
_LONGEST = {"compact": 0.6, "train": 0.4}  # seconds from a writer's first acknowledgement to its death


class LostError(AssertionError):
    """Something that was acknowledged is not there, or not as it was."""


def _mask(number: int) -> Mask:
    return random_mask(SPEC, 0.1, number)


def _put(folder: Path, first: int) -> Iterator[int]:
    with MaskBank.open(folder / "a.bank", "a") as bank:
        for number in range(first, first + 100_000):
            with bank.transaction():
                prior = Reference("latest") if number % 2 and "latest" in bank else None
                bank.put(f"task-{number}", _mask(number), **({"prior": prior} if prior else {}))
                if number % 3 == 0:
                    bank.put("latest", _mask(number), meta={"n": number}, overwrite=True)
                if number % 5 == 0:
                    bank.put("passing", _mask(number))
                    bank.delete("passing")
            yield number


def _check_put(folder: Path, acknowledged: set[int]) -> None:
    with MaskBank.open(folder / "a.bank") as bank:
        bank.verify()
        stored = {int(name[5:]) for name in bank if name.startswith("task-")}
        _same(acknowledged - stored, set())
        for number in sorted(stored)[-40:]:
            _same(bank[f"task-{number}"], _mask(number))
        if "latest" in bank:
            _same(bank["latest"], _mask(bank.task_meta("latest")["n"]))
        _same("passing" in bank, False)


def _delete(folder: Path, first: int) -> Iterator[int]:
    with MaskBank.open(folder / "a.bank", "a") as bank:
        for name in list(bank):
            bank.delete(name)
            yield int(name[5:])
        while True:
            time.sleep(1)


def _check_delete(folder: Path, acknowledged: set[int]) -> None:
    with MaskBank.open(folder / "a.bank") as bank:
        bank.verify()
        here = {int(name[5:]) for name in bank}
        _same(here & acknowledged, set())
        for number in here:
            _same(bank[f"task-{number}"], _mask(number))
    if len(here) < 30:
        MaskBank.open(folder / "a.bank", "a").close()  # folds the log of the killed writer in
        (folder / "a.bank").unlink()
        _fill(folder / "a.bank", range(max(acknowledged) + 1, max(acknowledged) + 120))


def _compact(folder: Path, first: int) -> Iterator[int]:
    for number in range(first, first + 100_000):
        compact(folder / "a.bank", level="max" if number % 2 else "fast")
        with MaskBank.open(folder / "a.bank", "a") as bank:
            bank.delete("task-0")
            bank.put("task-0", _mask(0), codec="raw")
        yield number


def _check_compact(folder: Path, acknowledged: set[int]) -> None:
    with MaskBank.open(folder / "a.bank") as bank:
        bank.verify()
        _same(len(set(bank) - {"task-0"}), 118)
        for name in bank:
            _same(bank[name], _mask(int(name[5:])))


def _merge(folder: Path, first: int) -> Iterator[int]:
    for number in range(first, first + 100_000):
        merge([folder / "b.bank", folder / "c.shard"], folder / "a.bank", prefix=f"{number}-{{source}}/")
        yield number


def _check_merge(folder: Path, acknowledged: set[int]) -> None:
    def names(number: int) -> set[str]:
        return {f"{number}-{source}/task-{i}" for source in "bc" for i in (1, 2, 3)}

    _check_batches(folder, acknowledged, names)


def _import(folder: Path, first: int) -> Iterator[int]:
    for number in range(first, first + 100_000):
        found = read_masks(folder / "c.npz")
        tasks = tuple(
            type(task)(f"{number}-c/{task.name}", task.mask, task.meta, task.extras, None, None) for task in found.tasks
        )
        store(type(found)(found.layout, found.spec, tasks, found.meta), folder / "a.bank")
        yield number


def _check_import(folder: Path, acknowledged: set[int]) -> None:
    _check_batches(folder, acknowledged, lambda number: {f"{number}-c/task-{i}" for i in (1, 2, 3)})


def _check_batches(folder: Path, acknowledged: set[int], names: Callable[[int], set[str]]) -> None:
    with MaskBank.open(folder / "a.bank") as bank:
        bank.verify()
        stored = set(bank)
        for number in acknowledged:
            _same(names(number) - stored, set())
        for number in {int(name.split("-")[0]) for name in stored}:
            _same(names(number) - stored, set())  # all of a batch or nothing of it
        for name in sorted(stored)[-40:]:
            _same(bank[name], _mask(int(name.rsplit("-", 1)[1])))
    if len(stored) > 3000:
        MaskBank.open(folder / "a.bank", "a").close()
        (folder / "a.bank").unlink()
        MaskBank.create(folder / "a.bank", SPEC).close()
        acknowledged.clear()


def _export(folder: Path, first: int) -> Iterator[int]:
    with MaskBank.open(folder / "a.bank") as bank:
        for number in range(first, first + 100_000):
            write_npz(bank, folder / "out.npz", overwrite=True)
            write_shard(bank, folder / "out.shard", overwrite=True)
            yield number


def _check_export(folder: Path, acknowledged: set[int]) -> None:
    for task in read_masks(folder / "out.npz").tasks:
        _same(task.mask, _mask(int(task.name[5:])))
    with open_source(folder / "out.shard") as shard:
        shard.verify()
        _same(len(shard), 119)


def _train(folder: Path, first: int) -> Iterator[int]:
    from supsup_models.cli.app import run_command

    run_command([*_TRAINING, "--out", str(folder / "run")])  # prints a line for each task once it is stored
    yield from ()
    while True:
        time.sleep(1)


_TRAINING = ["train", "--stream", "permuted-digits", "--tasks", "40", "--outputs", "20", "--batches", "3"]


def _check_train(folder: Path, acknowledged: set[int]) -> None:
    with MaskBank.open(folder / "run" / "masks.bank") as bank:
        bank.verify()
        _same({f"task-{number}" for number in acknowledged} - set(bank), set())
        for name in bank:
            _same(bank[name], _trained.setdefault(name, bank[name]))  # also the same as in every other run
        done = len(bank) == 40
    if done:
        shutil.rmtree(folder / "run")
        acknowledged.clear()


_trained: dict[str, Mask] = {}
WORKS = {
    "put": (_put, _check_put),
    "delete": (_delete, _check_delete),
    "compact": (_compact, _check_compact),
    "merge": (_merge, _check_merge),
    "import": (_import, _check_import),
    "export": (_export, _check_export),
    "train": (_train, _check_train),
}


def _same(found: object, expected: object) -> None:
    if found != expected:
        raise LostError(f"expected {str(expected)[:200]}, found {str(found)[:200]}")


def _fill(path: Path, numbers: range) -> None:
    with MaskBank.create(path, SPEC) as bank, bank.transaction():
        for number in numbers:
            bank.put(f"task-{number}", _mask(number))


def _prepare(folder: Path, work: str) -> None:
    if work in ("delete", "compact", "export"):
        _fill(folder / "a.bank", range(119))
    else:
        MaskBank.create(folder / "a.bank", SPEC).close()
    _fill(folder / "b.bank", range(1, 4))
    with MaskBank.open(folder / "b.bank") as bank:
        write_shard(bank, folder / "c.shard")
        write_npz(bank, folder / "c.npz")
    if work == "export":
        next(_export(folder, 0))
    if work == "train":  # what a writer needs is loaded before the forks; threads of this process would not survive one
        from torch import set_num_threads

        from supsup_models.cli.app import run_command

        set_num_threads(1)
        run_command([*_TRAINING, "--tasks", "1", "--out", str(folder / "first")])


def kill_once(folder: Path, work: str, first: int, wait: float) -> set[int]:
    """Fork a worker, kill it `wait` seconds after its first acknowledgement; what it acknowledged."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(writing, 2)  # where a command prints its progress
        try:
            for number in WORKS[work][0](folder, first):
                os.write(writing, b"%d\n" % number)
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".replace("\n", " ").encode())
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = [pipe.readline()]
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        lines += pipe.read().split(b"\n")
    os.waitpid(child, 0)
    said = [line.strip().decode() for line in lines if line.strip()]
    wrong = [line for line in said if re.match(r"\w*Error|LostError|supsup:", line)]
    if wrong:
        raise LostError(f"{work}: {wrong[0]}")
    found = [re.match(r"(?:task-)?(\d+)( \(.*: accuracy.*)?$", line) for line in said]
    return {int(match[1]) for match in found if match}


def run(kills: int, works: list[str], seed: int = 0) -> dict[str, dict[str, int | str]]:
    """So many kills in all, spread over the kinds of work, each on a bank of its own that survives its writers."""
    draw, found = np.random.default_rng(seed), {}
    for work in works:
        acknowledged: set[int] = set()
        result: dict[str, int | str] = {"kills": 0, "acknowledged": 0, "lost": 0}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            _prepare(folder, work)
            for turn in range(kills // len(works)):
                latest = kill_once(
                    folder, work, 1000 * (turn + 1) + 1, float(draw.uniform(0, _LONGEST.get(work, 0.12)))
                )
                acknowledged |= latest
                result["kills"] = turn + 1
                result["acknowledged"] = int(result["acknowledged"]) + len(latest)
                try:
                    WORKS[work][1](folder, acknowledged)
                except (LostError, MaskStoreError) as error:
                    result |= {"lost": 1, "how": f"{type(error).__name__}: {error}"}
                    break
            result["left_behind"] = len(list(folder.glob(".*")))
        found[work] = result
    return found


def main() -> int:
    """Kill, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--work", choices=WORKS, action="append", help="only this; may be given again")
    options = parser.parse_args()
    found = run(options.kills, options.work or list(WORKS))
    print(json.dumps(found, indent=1))
    return int(any(result["lost"] for result in found.values()))


if __name__ == "__main__":
    sys.exit(main())
