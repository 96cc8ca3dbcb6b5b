"""A writer that is meant to be killed: it puts tasks FIRST, FIRST + 1, ... for ever.

Usage: `python -m tests.helpers.writers.killed BANK FIRST`.

It prints a line `n` after each put that returned, and does every kind of change: puts, overwrites, deletes, whole
transactions, reopening. `EARLY=1` acknowledges before the transaction is committed: the control that must lose tasks.
"""

import os
import sys
import time

from maskstore import MaskBank, MaskSpec
from maskstore.priors import Reference, Uniform
from tests.helpers.masks import random_mask
from tests.helpers.small_blocks import put_in_blocks_if_asked

SPEC = MaskSpec({"fc1": (40, 50), "fc2": (10, 40)})


def main(path: str, first: int) -> None:
    """Write until killed."""
    early = os.environ.get("EARLY") == "1"
    bank = MaskBank.open(path, "a")
    n = first
    while True:
        with bank.transaction():
            prior = Reference("latest") if n % 2 and "latest" in bank else Uniform()
            bank.put(f"task-{n}", random_mask(SPEC, 0.5, n), meta={"n": n}, prior=prior)
            if n % 3 == 0:
                bank.put("latest", random_mask(SPEC, 0.5, n), meta={"n": n}, overwrite=True)
            if n % 5 == 0:
                bank.put("passing", random_mask(SPEC, 0.5, n))
                bank.delete("passing")
            if early:
                print(n, flush=True)
                time.sleep(0.01)
        if not early:
            print(n, flush=True)
        if n % 11 == 0:
            bank.close()
            bank = MaskBank.open(path, "a")
        n += 1


if __name__ == "__main__":
    put_in_blocks_if_asked()
    main(sys.argv[1], int(sys.argv[2]))
