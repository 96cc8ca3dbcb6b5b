"""Folders of runs: one that was trained, and any that nobody trained, of any names, layers and arguments."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from maskstore import MaskBank, MaskSpec
from supsup_models.cli.app import run_command
from supsup_models.runs.record import NetworkSizes, Pixels, RunConfig, RunRecord

TRAIN = ("--stream", "permuted-digits", "--tasks", "3", "--outputs", "40", "--batches", "60", "--seed", "5")

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=https://example.org/x.png onerror='alert(2)'>",
    "</title></style></svg><h1>&amp;",
    "\u202egnp.knat \x07\x1b[31m {{7*7}} ]]>",
)
"""Names that a page must show as they are, or as far as a page can."""


def record(**changes: object) -> RunRecord:
    """A record of a run over MNIST that never was, with other arguments where given."""
    config = RunConfig("permuted-mnist", 10, "lenet-300-100", 100, 1000, "paper", 0)
    return RunRecord(
        config=replace(config, **changes),  # type: ignore[arg-type]
        network=NetworkSizes(inputs=784, outputs=100, classes=10, weight_gain=1.0),
        stream={"stream": "permuted-mnist", "data_set": "mnist"},
        pixels=Pixels(1.0, 0.0),
        versions={"maskstore": "0.1.0"},
        device="cpu",
    )


def made_run(folder: Path, names: tuple[str, ...], layers: dict[str, tuple[int, ...]], **changes: object) -> Path:
    """A run's folder with random masks under these names."""
    folder.mkdir(parents=True)
    run = record(**changes)
    run.write(folder)
    draw = np.random.default_rng(0)
    meta = {"model": run.config.model, "seed": run.config.seed}
    with MaskBank.create(folder / "masks.bank", MaskSpec(layers), meta=meta) as bank, bank.transaction():
        for number, name in enumerate(names):
            masks = {layer: draw.random(shape) < 0.3 for layer, shape in layers.items()}
            bank.put(
                name, masks, codec="raw", meta={"accuracy": 0.9 + 0.05 * draw.random(), "loss": 0.1, "seconds": number}
            )
    return folder


def hostile_run(folder: Path) -> Path:
    """A run whose names of tasks, layers, stream and model want to be markup."""
    layers = dict.fromkeys(HOSTILE[:2], (8, 16))
    return made_run(folder / "<b>run", HOSTILE, layers, stream=HOSTILE[0], model=HOSTILE[1], recipe=HOSTILE[2])


def trained_run(folder: Path, *options: str) -> Path:
    """A run of three tasks of permuted digits, trained for a moment."""
    assert run_command(["train", *TRAIN, *options, "--out", str(folder)]) == 0
    return folder


def without_times(record: RunRecord) -> RunRecord:
    return replace(record, tasks=tuple({**task, "seconds": 0.0} for task in record.tasks))


def assert_same_run(one: Path, other: Path) -> None:
    """Masks, coded bytes, priors, extras, names, order and record are equal but for times."""
    assert without_times(RunRecord.read(one)) == without_times(RunRecord.read(other))
    with MaskBank.open(one / "masks.bank") as a, MaskBank.open(other / "masks.bank") as b:
        assert list(a) == list(b)
        assert (a.spec, a.meta) == (b.spec, b.meta)
        for left, right in zip(a.records(), b.records(), strict=True):
            assert (left.name, left.codec, left.prior) == (right.name, right.codec, right.prior)
            assert (left.extras, left.data[:]) == (right.extras, right.data[:])
            metas = [{**json.loads(row.meta), "seconds": 0} for row in (left, right)]
            assert metas[0] == metas[1]
        assert a.verify() == b.verify() == len(a)
    assert (one / "calibration.json").read_bytes() == (other / "calibration.json").read_bytes()
