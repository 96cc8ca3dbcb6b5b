"""Many trainings: shards merged against one run, and a Ray cluster that loses a worker against `supsup train`.

`pytest benchmarks/ -k scale -s`, with `--full` on MNIST. The second one needs the extra `cluster`.
"""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest

from maskstore import MaskBank
from supsup_models.runs import RunRecord, merge_runs, run_config, train_run

QUICK = ("--stream", "permuted-digits", "--outputs", "40", "--batches", "100", "--recipe", "paper", "--device", "cpu")
FULL = ("--stream", "permuted-mnist", "--outputs", "100", "--batches", "1000", "--device", "cpu")


def assert_equal(one: Path, other: Path) -> int:
    """Masks, priors, extras, names, their order and the records are equal but for times; how many masks there are."""
    with MaskBank.open(one / "masks.bank") as a, MaskBank.open(other / "masks.bank") as b:
        for left, right in zip(a.records(), b.records(), strict=True):
            assert (left.name, left.codec, left.prior) == (right.name, right.codec, right.prior)
            assert (left.extras, left.data[:]) == (right.extras, right.data[:])
        assert a.verify() == b.verify()
        records = [RunRecord.read(folder) for folder in (one, other)]
        timeless = [
            replace(record, tasks=tuple({**task, "seconds": 0.0} for task in record.tasks)) for record in records
        ]
        assert timeless[0] == timeless[1]
        assert (one / "calibration.json").read_bytes() == (other / "calibration.json").read_bytes()
        return len(a)


@pytest.mark.mnist
@pytest.mark.parametrize("seed", [0, 1])
def test_shards_merged_are_one_run(seed: int, full: bool, tmp_path: Path) -> None:
    stream, batches = ("permuted-mnist", 200) if full else ("permuted-digits", 50)
    config = run_config(stream, tasks=12, batches=batches, seed=seed)
    train_run(config, tmp_path / "whole", device="cpu")
    parts = [tmp_path / f"shard-{index}" for index in range(3)]
    for index, part in enumerate(parts):
        train_run(config, part, shard=f"{index}/3", device="cpu")
    start = perf_counter()
    merge_runs(parts, tmp_path / "merged", device="cpu")
    count = assert_equal(tmp_path / "merged", tmp_path / "whole")
    print(f"\n{config.stream}, seed {seed}: {count} masks of 3 shards, merged in {perf_counter() - start:.2f} s: equal")


def trained(out: Path, words: tuple[str, ...], *, kill_after: int | None = None) -> float:
    """Seconds of a `supsup train` in a process of its own; a worker is killed once so many of its tasks are told."""
    start, told = perf_counter(), 0
    command = [sys.executable, "-m", "supsup_models", "train", *words, "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            told += " by process " in line
            if kill_after is not None and told == kill_after:
                os.kill(int(line.split(" by process ")[1].split()[0]), signal.SIGKILL)
                kill_after = None
        assert process.wait() == 0
    assert kill_after is None
    return perf_counter() - start


@pytest.mark.mnist
@pytest.mark.parametrize("killing", [False, True])
def test_a_ray_cluster_takes_little_longer_and_loses_nothing(killing: bool, full: bool, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra `cluster`")
    words = (*(FULL if full else QUICK), "--tasks", "40")
    plain = trained(tmp_path / "plain", words)
    cluster = trained(tmp_path / "ray", (*words, "--cluster", "local"), kill_after=15 if killing else None)
    count = assert_equal(tmp_path / "ray", tmp_path / "plain")
    lost = "a worker killed" if killing else "none killed"
    print(
        f"\nRay, {count} tasks, {lost}: {cluster:.1f} s against {plain:.1f} s of `supsup train`, "
        f"{100 * (cluster / plain - 1):+.0f} %; masks, priors, extras, order and record equal"
    )
