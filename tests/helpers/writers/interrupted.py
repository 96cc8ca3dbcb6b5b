"""A writer that is interrupted 150 times at random moments; prints how often one hit (see test_crash.py)."""

import signal
import sys

import numpy as np

from maskstore import MaskBank
from maskstore.priors import Reference, Uniform
from tests.helpers.masks import random_mask
from tests.helpers.writers.killed import SPEC


def main() -> None:
    masks = [random_mask(SPEC, 0.5, n) for n in range(4)]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    rng = np.random.default_rng(0)
    signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    with MaskBank.create(sys.argv[1], SPEC) as bank:
        bank.put("base", masks[0], codec="raw")
        for n in range(150):
            try:
                signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(1e-5, 2e-2)))
                for k in range(n, n + 40):
                    prior = Reference("base") if k % 2 else Uniform()
                    bank.put(f"t{k % 9}", masks[k % 4], codec="raw", prior=prior, overwrite=True)
                    assert bank[f"t{k % 9}"] == masks[k % 4]
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert all(mask in masks for _, mask in bank.masks())
        assert bank.verify() == len(bank)
    print(interrupted)


if __name__ == "__main__":
    main()
