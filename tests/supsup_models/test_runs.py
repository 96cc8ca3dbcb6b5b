"""A run's own files: each is replaced whole or not at all."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from maskstore.errors import BankFullError
from supsup_models.calibration import Calibration
from supsup_models.runs import RunConfig, RunRecord, calibration_path, record_path


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
