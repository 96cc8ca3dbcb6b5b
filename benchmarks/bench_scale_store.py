"""Masks in object stores and in many workers: `pytest benchmarks/ -k scale -s --full`.

A server in this process stands for the store: real HTTP on loopback, with the time of a far answer added on request.
100 000 tasks there share 64 coded masks under names, ids and checksums of their own: a manifest and a range do not know
the difference. What is compared takes turns in one run; asserted is what the docs state.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pytest
import torch

from maskstore import MaskBank, MaskMatrix, MaskSource
from maskstore.bank import MaskInfo, Record, info_of, sealed
from maskstore.errors import MaskStoreError
from maskstore.interop import Retries, ShardSet, write_shards
from maskstore.kernels import LANES, threads
from supsup_models import MaskedNetwork, ShardedInference, TaskInference
from tests.helpers.masks import random_matrix
from tests.helpers.object_server import Objects, object_server

FAR_SECONDS = 0.02  # an answer of an object store in the same region
FETCHED = 1000
FAULTY = 1000


class ManyTasks(MaskSource):
    """So many tasks with the masks of a few."""

    def __init__(self, bank: MaskBank, count: int) -> None:
        self.spec, self.meta, self._count = bank.spec, bank.meta, count
        self._few = list(bank.records())

    def record(self, name: str) -> Record:
        number = int(name.removeprefix("task-"))
        few = self._few[number % len(self._few)]
        return sealed(replace(few, name=name, meta=f'{{"accuracy":{0.9 + number % 1000 / 10_000:.4f}}}'), number + 1)

    def records(self) -> Iterator[Record]:
        return map(self.record, self)

    def info(self, name: str) -> MaskInfo:
        return info_of(self.record(name))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return (f"task-{number:06d}" for number in range(self._count))

    def close(self) -> None:
        pass

    def _check_file(self) -> None:
        pass


@pytest.fixture(scope="module")
def model() -> MaskedNetwork:
    return MaskedNetwork("lenet-300-100", inputs=784, outputs=100, classes=10, seed=0, densities=(0.025, 0.1, 0.3))


@pytest.fixture(scope="module")
def served(model: MaskedNetwork, full: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Objects]:
    """A store with a set of 100 000 masks, or 2000."""
    pytest.importorskip("obstore")
    folder = tmp_path_factory.mktemp("store")
    rng = np.random.default_rng(0)
    with MaskBank.create(folder / "few.bank", model.spec) as bank:
        for number in range(64 if full else 8):
            bits = {layer.name: rng.random(layer.shape) < 0.025 for layer in model.spec}
            bank.put(f"few-{number}", bits, codec="gap")
        start = perf_counter()
        found = write_shards(ManyTasks(bank, 100_000 if full else 2000), folder / "bucket" / "tasks", shards=100)
    size = (folder / "bucket" / "tasks" / "manifest").stat().st_size
    print(f"\n{found.masks} masks in {found.shards} shards, {found.bytes / 1e6:.0f} MB, written in "
          f"{perf_counter() - start:.0f} s; manifest {size / 1e6:.2f} MB")  # fmt: skip
    with object_server(folder) as objects:
        yield objects


def _timed(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def test_a_manifest_opens_with_one_request_and_a_mask_with_one(served: Objects) -> None:
    served.requests.clear()
    seconds = _timed(lambda: ShardSet(f"{served.http}/tasks"))
    opened = len(served.requests)
    tasks = ShardSet(f"{served.http}/tasks")
    _ = tasks["task-000000"]  # compiles the decoder
    served.requests.clear()
    cold = _timed(lambda: tasks["task-001234"])
    print(f"open: {opened} requests, {1e3 * seconds:.0f} ms; cold mask: {len(served.requests)} requests, "
          f"{1e3 * cold:.1f} ms")  # fmt: skip
    assert opened <= 2
    assert len(served.requests) <= 2


@pytest.mark.parametrize("delay", [FAR_SECONDS, 0.0])
def test_prefetch_against_one_at_a_time(served: Objects, full: bool, delay: float) -> None:
    """Masks in use: one at a time, fetched before and decoded one after the other, and as a matrix, which does both."""
    names = list(ShardSet(f"{served.http}/tasks"))
    count, rounds = (FETCHED, 2) if full else (100, 1)
    served.delay = delay
    try:
        for what in ("at random", "neighbours"):
            took: dict[str, list[float]] = {"one": [], "prefetched": [], "matrix": [], "fetched": [], "prefetch": []}
            for seed in range(rounds):
                rng = random.Random(seed)
                first = rng.randrange(len(names) - count)
                some = rng.sample(names, count) if what == "at random" else names[first : first + count]
                tasks = [ShardSet(f"{served.http}/tasks") for _ in range(4)]
                took["one"].append(_timed(lambda one=tasks[0], some=some: [one[name] for name in some]))
                served.requests.clear()
                took["prefetch"].append(_timed(lambda one=tasks[1], some=some: one.prefetch(some)))
                requests = len(served.requests)
                decoding = _timed(lambda one=tasks[1], some=some: [one[name] for name in some])
                took["prefetched"].append(took["prefetch"][-1] + decoding)
                took["matrix"].append(_timed(lambda one=tasks[3], some=some: one.matrix(some)))
                fetching = partial(map, tasks[2].record, some)
                took["fetched"].append(_timed(lambda fetching=fetching: list(fetching())))
            each = {name: median(values) for name, values in took.items()}
            one, alone = each["one"], each["fetched"] / each["prefetch"]
            print(f"{count} masks {what}, {1e3 * delay:.0f} ms an answer: one at a time {one:.2f} s; prefetch in "
                  f"{requests} requests and use {each['prefetched']:.2f} s: {one / each['prefetched']:.1f} x; matrix "
                  f"{each['matrix']:.2f} s: {one / each['matrix']:.1f} x; fetching alone {each['fetched']:.2f} s and "
                  f"{each['prefetch']:.3f} s: {alone:.1f} x")  # fmt: skip
            assert one >= 5 * each["matrix"] or not (full and delay)
    finally:
        served.delay = 0.0


@pytest.mark.parametrize("seed", [0, 1])
def test_faults_in_a_thousand_reads(served: Objects, full: bool, seed: int) -> None:
    rng = random.Random(seed)
    names = list(ShardSet(f"{served.http}/tasks"))
    clean, tasks = ShardSet(f"{served.http}/tasks"), ShardSet(f"{served.http}/tasks", retries=Retries(5, 0.001))
    kinds, some = ("500", "cut", "drop", "flip", "shifted"), rng.sample(names, FAULTY if full else 50)
    expected = clean.matrix(some)
    right = named = most = 0
    served.fault = lambda number, method, path: rng.choice(kinds) if rng.random() < 0.3 else None
    try:
        for name in some:
            served.requests.clear()
            try:
                assert tasks[name] == expected[name]
                right += 1
            except MaskStoreError:
                named += 1
            most = max(most, len(served.requests))
    finally:
        served.fault = None
    print(f"{len(some)} reads, 30 % of requests at fault, seed {seed}: {right} right, {named} named errors, "
          f"none wrong; at most {most} requests a read")  # fmt: skip
    assert right + named == len(some)
    assert most <= 5


def _random_rows(model: MaskedNetwork, count: int, folder: Path) -> MaskMatrix:
    """Masks of random bits, in a mapped file: what a matrix of them has in memory."""
    blocks = np.lib.format.open_memmap(
        folder / "rows.npy", mode="w+", dtype=np.uint32, shape=(count // LANES, 2 * model.spec.words, LANES)
    )
    padding = random_matrix(model.spec, LANES).interleaved.blocks[0]
    used = np.zeros_like(padding)
    for layer in model.spec:  # the bits after a layer's last are 0
        used[2 * layer.word_start : 2 * layer.word_start + layer.size // 32] = 0xFFFFFFFF
        if layer.size % 32:
            used[2 * layer.word_start + layer.size // 32] = (1 << layer.size % 32) - 1
    for first in range(0, len(blocks), 64):
        rng = np.random.default_rng(first)
        part = blocks[first : first + 64]
        part[:] = rng.integers(0, 1 << 32, size=part.shape, dtype=np.uint32) & used
    tail = np.empty((0, model.spec.words), dtype=np.uint64)
    return MaskMatrix.of_blocks(model.spec, np.asarray(blocks), tail, [f"task-{row}" for row in range(count)])


def test_sharded_one_shot_against_one_process(model: MaskedNetwork, full: bool, tmp_path: Path) -> None:
    """Two processes of one thread each, against one process of one thread, and of as many as there are cores."""
    counts = (10_000, 30_000, 100_000) if full else (2048,)
    for count in counts:
        matrix = _random_rows(model, count // LANES * LANES, tmp_path)
        images = [
            torch.rand(16, 784, generator=torch.Generator().manual_seed(seed)) for seed in range(5 if full else 1)
        ]
        one = TaskInference(model, matrix)
        took: dict[str, list[float]] = {"one, 1 thread": [], "one, all cores": [], "sharded": []}
        with ShardedInference(model, matrix, workers=2, threads=1) as sharded:
            sharded.infer(images[0])
            one.infer(images[0])
            for batch in images:
                start = perf_counter()
                found = sharded.infer(batch)
                took["sharded"].append(perf_counter() - start)
                for what, limit in (("one, 1 thread", 1), ("one, all cores", os.cpu_count() or 1)):
                    threads.limit_threads(limit)
                    start = perf_counter()
                    expected = one.infer(batch)
                    took[what].append(perf_counter() - start)
                assert found.task == expected.task
                assert np.array_equal(found.scores, np.sort(expected.scores)[::-1][: len(found.scores)])
        each = {what: median(seconds) for what, seconds in took.items()}
        ratio = each["one, 1 thread"] / each["sharded"]
        print(f"{len(matrix)} masks, {matrix.nbytes / 1e9:.2f} GB, equal to the bit: "
              + ", ".join(f"{what} {1e3 * seconds:.0f} ms" for what, seconds in each.items())
              + f"; 2 workers of 1 thread {ratio:.2f} x one process of 1 thread")  # fmt: skip
        if full and count == max(counts):
            assert ratio >= 1.6
