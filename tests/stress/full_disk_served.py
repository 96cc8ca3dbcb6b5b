"""A server over a bank on a disk that a writer fills: answers go on, and what was committed is served.

`unshare -rm python -m tests.stress.full_disk_served` mounts a small file system in memory for the bank and for all
temporary files. It also starts a server when the disk is full already.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from maskstore import MaskBank
from maskstore.errors import BankFullError
from supsup_models.serving import Client, Engine, Limits, serve_http
from tests.helpers.servers import IMAGES, expected, mask_bank, network

ASKED = IMAGES[:4]


def run(disk: Path) -> dict[str, int]:
    """Counts of tasks, of answers beside the writer and after it, and of wrong ones."""
    model, path = network(), mask_bank(disk / "m.bank", 4)
    known = [f"task-{number}" for number in range(4)]
    added: list[str] = []
    full = threading.Event()
    found = {"answers": 0, "wrong": 0, "refused": 0}

    def check(client: Client, task: str) -> None:
        right = expected(path, ASKED, [task] * len(ASKED))
        found["answers"] += len(ASKED)
        found["wrong"] += sum((a.task, a.label) != b for a, b in zip(client.predict(ASKED, task), right, strict=True))

    def write() -> None:
        try:
            with MaskBank.open(path, "a") as bank:
                for number in range(10_000):
                    try:
                        bank.put(f"new-{number}", model.mask_of(model.initial_scores(number)), codec="raw")
                    except BankFullError:
                        found["refused"] += 1
                        if found["refused"] == 3:  # again and again: a full disk stays one for a while
                            break
                    else:
                        added.append(f"new-{number}")
        except BankFullError:  # when it was closed: the log stays beside the bank
            found["kept in the log"] = 1
        finally:
            full.set()

    # room for half of the masks only: the others are read again and again
    limits = Limits(memory=2 * 4 * 8 * model.spec.words, refresh_seconds=0.05)
    with serve_http(Engine(path, limits=limits), port=0) as running, Client(running.url) as client:
        writer = threading.Thread(target=write)
        writer.start()
        while not full.is_set():
            for task in [*known, *added[-1:]]:
                check(client, task)
        writer.join(60)
        for task in [*known, *added]:
            check(client, task)
    while True:  # to the last byte
        try:
            with (disk / "fill").open("ab") as file:
                file.write(b"x" * 512)
        except OSError:
            break
    with serve_http(Engine(path, limits=limits), port=0) as running, Client(running.url) as client:
        found["shown"] = len(client.tasks())
        for task in [*known, *added]:
            check(client, task)
    found["tasks"] = 4 + len(added)
    return found


def main() -> int:
    """Mount, run, and print what was found."""
    disk = Path(tempfile.mkdtemp())
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        print("expected the right to mount a file system (try `unshare -rm` before this command)", file=sys.stderr)
        return 2
    tempfile.tempdir = os.environ["TMPDIR"] = os.environ["SQLITE_TMPDIR"] = str(disk)
    try:
        found = run(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=False)
    print(json.dumps(found))
    served = found["refused"] == 3 and found["tasks"] == found["shown"] > 4
    return int(found["wrong"] > 0 or not served)


if __name__ == "__main__":
    sys.exit(main())
