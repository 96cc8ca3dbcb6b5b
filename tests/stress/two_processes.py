"""One process keeps a bank open for writing and opens it again and again; another opens it, puts, and closes.

POSIX drops every lock of a process on a file when any descriptor of that file is closed. A process that opens a bank
twice must keep its lock all the same: else the other process deletes the log that this one still writes to.

`python -m tests.stress.two_processes --seconds 60` prints a JSON line: how many masks were acknowledged, how many of
these are lost, and how often the first process's lock was missing from `/proc/locks`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from maskstore import MaskBank, MaskSpec, account, compact, open_source
from maskstore.errors import BankBusyError
from maskstore.interop import write_npz
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"fc1": (40, 50), "fc2": (10, 40)})
_AT_LEAST = 12  # masks that each process puts, however busy the machine is


def main() -> int:
    """Run both processes, and compare the bank with what they acknowledged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--careless", action="store_true", help="the first process also copies the bank's file itself")
    parser.add_argument("--role", choices=["keeper", "visitor"], help=argparse.SUPPRESS)
    parser.add_argument("--bank", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        work = {"keeper": _keep, "visitor": _visit}[options.role]
        work(options.bank, time.monotonic() + options.seconds, careless=options.careless)
        return 0
    found = run(options.seconds, careless=options.careless)
    print(json.dumps(found))
    return int(found["lost"] > 0 or found["wrong"] > 0)


def run(seconds: float, *, careless: bool = False) -> dict[str, int]:
    """Both processes on a new bank for so long: acknowledged, lost and wrong masks, and missing locks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shared.bank"
        MaskBank.create(path, SPEC).close()
        processes = []
        for role in ("keeper", "visitor"):
            command = [sys.executable, "-m", "tests.stress.two_processes", "--role", role, "--bank", str(path)]
            command += ["--seconds", str(seconds), *(["--careless"] if careless else [])]
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        outputs = [process.communicate()[0].split() for process in processes]
        if any(process.returncode for process in processes):
            raise RuntimeError(f"expected both processes to end well, found {[p.returncode for p in processes]}")
        acknowledged = {word for words in outputs for word in words if "-" in word}
        with MaskBank.open(path) as bank:
            bank.verify()
            lost = sum(name not in bank for name in acknowledged)
            wrong = sum(bank[name] != _mask(name) for name in acknowledged if name in bank)
    unlocked = outputs[0].count("unlocked")
    return {"acknowledged": len(acknowledged), "lost": lost, "wrong": wrong, "unlocked": unlocked}


def _keep(path: Path, until: float, *, careless: bool) -> None:
    with MaskBank.open(path, "a") as bank:
        number = 0
        looks = [_look, lambda path: account(bank), _compact, _look_any, _export, lambda path: bank.verify()]
        while time.monotonic() < until or number < _AT_LEAST:
            name = f"keeper-{number}"
            try:
                bank.put(name, _mask(name))
                print(name, flush=True)
                if number % 4 == 0:
                    looks[number // 4 % len(looks)](path)
            except BankBusyError:  # "try again" is an honest answer to somebody who drops the locks
                if not careless:
                    raise
            if careless:
                shutil.copy(path, path.with_suffix(".copy"))
            elif not has_lock(path):
                print("unlocked", flush=True)
            number += 1


def _visit(path: Path, until: float, *, careless: bool) -> None:
    number = 0
    while time.monotonic() < until or number < _AT_LEAST:
        name = f"visitor-{number}"
        with MaskBank.open(path, "a") as bank:
            bank.put(name, _mask(name))
        print(name, flush=True)
        number += 1


def has_lock(path: Path) -> bool:
    """Whether this process has a lock on the bank's file."""
    inode, own = path.stat().st_ino, str(os.getpid())
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "POSIX" and fields[4] == own and int(fields[5].rsplit(":", 1)[1]) == inode:
            return True
    return False


def _look(path: Path) -> None:
    with MaskBank.open(path) as bank:
        assert len(bank.matrix())


def _look_any(path: Path) -> None:
    with open_source(path) as bank:
        assert len(bank)


def _compact(path: Path) -> None:
    compact(path, level="fast")


def _export(path: Path) -> None:
    with MaskBank.open(path) as bank:
        write_npz(bank, path.with_suffix(".npz"), overwrite=True)


def _mask(name: str):
    who, number = name.split("-")
    return random_mask(SPEC, 0.5, 2 * int(number) + (who == "keeper"))


if __name__ == "__main__":
    sys.exit(main())
