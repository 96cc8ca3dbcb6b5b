"""A long-lived reader with threads, and children of forks, beside another process that writes to the same bank.

`python -m tests.stress.readers --seconds 30` prints JSON: how many reads each kind of reader made, how many of these
gave a stale bank (it lacks masks that were acknowledged before the read began), a wrong mask, or an error.
"""

import argparse
import json
import mmap
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from maskstore import MaskBank, MaskSpec, account, open_source
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"fc1": (40, 50), "fc2": (10, 40)})
THREADS = 4


class Tally(dict[str, int]):
    """Counts of one reader, and the first error in words."""

    first = ""

    def __init__(self) -> None:
        super().__init__(reads=0, stale=0, wrong=0, errors=0)


def main() -> int:
    """Run all, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        _write(options.write, time.monotonic() + options.seconds)
        return 0
    found = run(options.seconds)
    print(json.dumps(found, indent=1))
    return int(any(tally[fault] for tally in found.values() for fault in ("stale", "wrong", "errors")))


def _write(path: Path, until: float) -> None:
    """Put masks, closing now and then; one line each time a mask is stored."""
    number = 0
    while time.monotonic() < until:
        with MaskBank.open(path, "a") as bank:
            for _ in range(7):
                bank.put(f"task-{number % 60}", random_mask(SPEC, 0.5, number), meta={"n": number}, overwrite=True)
                print(number, flush=True)
                number += 1
                time.sleep(0.002)


def run(seconds: float) -> dict[str, Tally]:
    """Readers of all kinds beside a writer, for so many seconds."""
    shared = mmap.mmap(-1, 8)  # children of forks see it change
    stop = threading.Event()

    def stored() -> int:
        """The last mask that the writer acknowledged, plus one."""
        return int(struct.unpack("q", shared)[0])

    def follow(pipe) -> None:
        for line in pipe:
            shared[:] = struct.pack("q", int(line) + 1)
        stop.set()

    def look(bank: MaskBank, tally: Tally, known: int) -> None:
        tally["reads"] += 1
        try:
            name = f"task-{known % 60}"
            number = bank.task_meta(name)["n"]
            tally["stale"] += number < known
            mask = bank[name]
            later = bank.task_meta(name)["n"]
            tally["wrong"] += not any(mask == random_mask(SPEC, 0.5, n) for n in range(number, later + 1, 60))
            if tally["reads"] % 50 == 0:
                tally["stale"] += len(bank.matrix()) < min(known + 1, 60)
        except Exception as error:
            tally["errors"] += 1
            tally.first = tally.first or f"{type(error).__name__}: {error}"

    def read(bank: MaskBank, tally: Tally) -> None:
        while not stop.is_set():
            look(bank, tally, stored() - 1)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "read.bank"
        MaskBank.create(path, SPEC).close()
        command = [sys.executable, "-m", "tests.stress.readers", "--write", str(path), "--seconds", str(seconds)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        follower = threading.Thread(target=follow, args=(writer.stdout,), daemon=True)
        follower.start()
        while not stored():
            time.sleep(0.01)
        bank = MaskBank.open(path)
        tallies = {"thread": Tally(), "child": Tally(), "opens again": Tally()}
        parts = [Tally() for _ in range(THREADS)]
        threads = [threading.Thread(target=read, args=(bank, part)) for part in parts]
        children = [_fork(bank, look, stored, writer.pid) for _ in range(2)]
        for thread in threads:
            thread.start()
        while not stop.is_set():  # what the same process does meanwhile must not disturb anybody
            tally = tallies["opens again"]
            with open_source(path) as other:
                look(other, tally, stored() - 1)
            if tally["reads"] % 20 == 1:
                with MaskBank.open(path) as other:
                    account(other)
            time.sleep(0.02)
        for thread in threads:
            thread.join()
        writer.wait()
        follower.join()
        assert writer.stdout is not None
        writer.stdout.close()
        bank.close()
        for part in parts:
            _add(tallies["thread"], part)
        for child, pipe in children:
            os.waitpid(child, 0)
            with os.fdopen(pipe) as file:
                part = json.loads(file.read())
            _add(tallies["child"], part)
        for name, tally in tallies.items():
            if tally.first:
                print(f"{name}: {tally.first}", file=sys.stderr)
        return tallies


def _add(tally: Tally, part: dict[str, int]) -> None:
    for key, count in part.items():
        if key != "first":
            tally[key] += count
    tally.first = tally.first or str(getattr(part, "first", "") or part.get("first", ""))


def _fork(bank: MaskBank, look, stored, writer: int) -> tuple[int, int]:
    """A child that reads through the parent's bank while the writer lives, and checks masks against their metadata."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    tally = Tally()
    try:
        while Path(f"/proc/{writer}/stat").read_text().split()[2] != "Z":
            look(bank, tally, stored() - 1)
    except FileNotFoundError:  # the writer is gone
        pass
    with os.fdopen(writing, "w") as file:
        file.write(json.dumps({**tally, "first": tally.first}))
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
