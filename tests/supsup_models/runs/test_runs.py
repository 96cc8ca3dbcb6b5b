"""A run's own files: each is replaced whole or not at all."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskstore import MaskBank
from maskstore.errors import BankFullError
from supsup_models.errors import RunError
from supsup_models.inference.calibration import Calibration
from supsup_models.runs.load import check_bank, make_network
from supsup_models.runs.record import RunConfig, RunRecord, calibration_path, record_path


def write_record(folder: Path, seed: int) -> Path:
    config = RunConfig("permuted-digits", 1, "lenet-300-100", 40, 60, "paper", seed)
    network = {"inputs": 64, "outputs": 40, "classes": 10, "weight_gain": 1.0}
    RunRecord(config, network, {"name": "permuted-digits"}, {"scale": 1.0, "shift": 0.0}, {}, "cpu").write(folder)
    return record_path(folder)


def write_calibration(folder: Path, seed: int) -> Path:
    Calibration({"task-0": (0.5, float(seed))}).write(calibration_path(folder))
    return calibration_path(folder)


@pytest.mark.parametrize("write", [write_record, write_calibration])
def test_a_write_that_fails_leaves_the_earlier_file_and_nothing_else(
    write: Callable[[Path, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, 1)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BankFullError, match=path.name):
        write(tmp_path, 2)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    write(tmp_path, 2)
    assert path.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "change",
    [
        {"pixels": {"scale": float("inf"), "shift": 0.0}},
        {"pixels": {"scale": [1.0, float("nan")], "shift": 0.0}},
        {"pixels": {"scale": 10**400, "shift": 0.0}},
        {"network": {"inputs": 64, "outputs": 40, "classes": 10, "weight_gain": float("nan")}},
        {"versions": 5},
        {"device": 5},
        {"tasks": [{"name": ["task-0"]}]},
        {"tasks": [{"name": "task-0", "densities": 0.1}]},
    ],
)
def test_values_that_others_rely_on_are_checked(change: dict[str, Any], tmp_path: Path) -> None:
    path = write_record(tmp_path, 1)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RunError, match=r"run\.json: expected a run record, found something else"):
        RunRecord.read(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format":' * 100_000])
def test_files_nested_too_deeply_are_refused(text: str, tmp_path: Path) -> None:
    record_path(tmp_path).write_text(text)
    calibration_path(tmp_path).write_text(text)
    with pytest.raises(RunError, match="expected a run record"):
        RunRecord.read(tmp_path)
    with pytest.raises(RunError, match="expected a calibration"):
        Calibration.read(calibration_path(tmp_path))


@pytest.mark.parametrize("values", ["123", {"1": 2}, ["1", "2"], [True], [10**400], [2, 1], [float("nan")], []])
def test_a_calibration_of_anything_but_numbers_is_refused(values: Any, tmp_path: Path) -> None:
    path = write_calibration(tmp_path, 1)
    path.write_text(json.dumps({"format": 1, "values": {"task-0": values}}))
    with pytest.raises(RunError, match=r"calibration\.json: expected a calibration"):
        Calibration.read(path)


@pytest.mark.parametrize("of_bank", ["sparse", "dense"])
def test_masks_of_a_network_with_densities_and_of_one_without_are_not_taken_for_each_other(
    of_bank: str, tmp_path: Path
) -> None:
    write_record(tmp_path, 1)
    dense = RunRecord.read(tmp_path)
    records = {"dense": dense, "sparse": replace(dense, network={**dense.network, "densities": [0.1, 0.1, 0.2]})}
    models = {name: make_network(record, torch.device("cpu")) for name, record in records.items()}
    with MaskBank.create(tmp_path / "masks.bank", models[of_bank].spec, meta=models[of_bank].bank_meta()) as bank:
        ((name, other),) = ((name, other) for name, other in records.items() if name != of_bank)
        with pytest.raises(RunError, match=r"masks of this run's network, found those of densities"):
            check_bank(bank, models[name], other)
