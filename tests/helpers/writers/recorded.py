"""A writer for test_power_cut.py: changes BANK in every way and notes in ACK what is done.

Usage: `python -m tests.helpers.writers.recorded BANK ACK`.

`UNSYNCED=1` switches SQLite's syncing off: the control that must lose masks.
"""

import os
import sys

from maskstore import MaskBank, MaskSpec
from maskstore.priors import Reference, Uniform
from tests.helpers.masks import random_mask
from tests.helpers.small_blocks import put_in_blocks_if_asked

SPEC = MaskSpec({"fc1": (40, 50), "fc2": (10, 40)})
CHANGES = 30


def main(path: str, ack_path: str) -> None:
    """Put 30 masks, half of them against one that is overwritten again and again; delete some, and reopen at times."""
    ack = os.open(ack_path, os.O_WRONLY | os.O_CREAT, 0o600)
    bank = None
    for n in range(CHANGES):
        if bank is None:
            bank = MaskBank.open(path, "a")
            if os.environ.get("UNSYNCED") == "1":
                with bank._file.reading() as link:
                    link.execute("PRAGMA synchronous=OFF")
        with bank.transaction():
            # every other mask is coded against one that is replaced at once, and so needs a snapshot of it
            prior = Reference("latest") if n % 2 else Uniform()
            bank.put(f"task-{n}", random_mask(SPEC, 0.5, n), prior=prior)
            bank.put("latest", random_mask(SPEC, 0.5, n), meta={"n": n}, overwrite=True)
            if n % 4 == 3:
                bank.delete(f"task-{n - 3}")
        os.write(ack, bytes([n]))
        if n % 7 == 6:
            bank.close()
            bank = None
    if bank is not None:
        bank.close()


if __name__ == "__main__":
    put_in_blocks_if_asked()
    main(sys.argv[1], sys.argv[2])
