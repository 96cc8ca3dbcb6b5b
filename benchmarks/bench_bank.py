"""The bank's own costs: packing against numpy, opening, random access, bulk writing, decoding on all cores.

`pytest benchmarks/ -k bank -s`, with `--full` on 100 000 masks. Times of this machine are printed, ratios are asserted.
"""

import shutil
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pytest

from maskstore import Mask, MaskBank, MaskSpec
from maskstore.masks import bits
from maskstore.priors import SeededScores

SMALL = MaskSpec({"a": (32, 64), "b": (16, 32)})
LENET = MaskSpec({"fc1": (300, 784), "fc2": (100, 300), "fc3": (100, 100)})


@pytest.fixture(scope="module")
def users(full: bool) -> int:
    return 100_000 if full else 10_000


@pytest.fixture(scope="module")
def many(users: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of many small masks, put in one transaction."""
    path = tmp_path_factory.mktemp("many") / "users.bank"
    rng = np.random.default_rng(0)
    masks = [Mask.from_flat(rng.random(SMALL.bits) < 0.1, SMALL) for _ in range(64)]
    with MaskBank.create(path, SMALL) as bank:
        start = perf_counter()
        with bank.transaction():
            for user in range(users):
                bank.put(f"user-{user}", masks[user % 64])
        seconds = perf_counter() - start
    print(f"\nbulk put of {users} masks in one transaction: {1e6 * seconds / users:.0f} µs a mask")
    return path


def test_bank_packing_keeps_up_with_numpy():
    dense = np.random.default_rng(0).random((2000, 4000)) < 0.5
    ratios = []
    for _ in range(15):
        start = perf_counter()
        packed = np.packbits(dense.reshape(-1), bitorder="little")
        middle = perf_counter()
        words = bits.pack(dense)
        ratios.append((perf_counter() - middle) / (middle - start))
        assert bits.as_bytes(words)[: packed.size].tobytes() == packed.tobytes()
    print(f"\npack 8 million bits: {median(ratios):.2f} times numpy.packbits")
    assert median(ratios) < 1.6  # the copy into aligned words


def test_bank_opens_and_reads_at_random(many, users):
    opening, reading = [], []
    rng = np.random.default_rng(1)
    for _ in range(20):
        start = perf_counter()
        bank = MaskBank.open(many)
        opening.append(perf_counter() - start)
        bank.close()
    with MaskBank.open(many) as bank:
        bank["user-0"]
        for user in rng.integers(users, size=5000):
            start = perf_counter()
            bank[f"user-{user}"]
            reading.append(perf_counter() - start)
    print(f"\nopen a bank of {users} masks: median {1e3 * median(opening):.2f} ms (target 5)")
    print(f"read and check one mask of {SMALL.bits} bits: median {1e6 * median(reading):.0f} µs (target 100)")
    assert median(opening) < 5e-3 * 4
    assert median(reading) < 100e-6 * 4


def test_bank_decodes_on_all_cores(tmp_path):
    """The whole bank as a matrix, against the same masks one by one."""
    rng = np.random.default_rng(0)
    with MaskBank.create(tmp_path / "lenet.bank", LENET) as bank, bank.transaction():
        for task in range(200):
            bank.put(str(task), Mask.from_flat(rng.random(LENET.bits) < 0.1, LENET), prior=SeededScores(0, task))
    one_by_one, together = [], []
    with MaskBank.open(tmp_path / "lenet.bank") as bank:
        for _ in range(5):
            start = perf_counter()
            for name in bank:
                bank[name]
            middle = perf_counter()
            bank.matrix()
            one_by_one.append(middle - start)
            together.append(perf_counter() - middle)
    size = 200 * LENET.bits / 1e6
    print(f"\ndecode 200 seeded LeNet masks: {size / median(one_by_one):.0f} million bits a second one by one, "
          f"{size / median(together):.0f} as a matrix")  # fmt: skip
    shutil.rmtree(tmp_path)
