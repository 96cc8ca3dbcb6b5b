"""A run's own files: each is replaced whole or not at all."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from maskstore import MaskBank
from maskstore.errors import BankFullError
from supsup_models.data import open_stream
from supsup_models.errors import RunError, SupSupError
from supsup_models.inference.calibration import Calibration
from supsup_models.report import read_recovery
from supsup_models.runs import train_run
from supsup_models.runs.config import make_network, run_config
from supsup_models.runs.curves import Curve
from supsup_models.runs.infer import pixel_scale, read_images
from supsup_models.runs.load import load_run
from supsup_models.runs.record import Clock, NetworkSizes, Pixels, RunConfig, RunRecord, calibration_path, record_path
from supsup_models.runs.train_target import Trials
from supsup_models.training import TrainingCurve


def write_record(folder: Path, seed: int) -> Path:
    config = RunConfig("permuted-digits", 1, "lenet-300-100", 40, 60, "paper", seed)
    network = NetworkSizes(inputs=64, outputs=40, classes=10, weight_gain=1.0)
    RunRecord(config, network, {"tasks": 1, "name": "permuted-digits"}, Pixels(1.0, 0.0), {}, "cpu").write(folder)
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
        {"network": {"inputs": 64, "outputs": 40, "classes": 10}},
        {"network": {"inputs": 64, "outputs": 40, "classes": 10, "weight_gain": 1.0, "depth": 3}},
        {"network": {"inputs": True, "outputs": 40, "classes": 10, "weight_gain": 1.0}},
        {"network": {"inputs": 64, "outputs": 40, "classes": 10, "weight_gain": 1.0, "densities": []}},
        {"network": {"inputs": 64, "outputs": 40, "classes": 10, "weight_gain": 1.0, "image_shape": [8.5]}},
        {"network": {"inputs": [64], "outputs": 40, "classes": 10, "weight_gain": 1.0}},
        {"pixels": {"scale": [], "shift": 0.0}},
        {"pixels": {"scale": "1", "shift": 0.0}},
        {"pixels": {"scale": 0, "shift": 0.0}},
        {"pixels": {"scale": [1.0, 0.0], "shift": 0.0}},
        {"pixels": [1.0, 0.0]},
        {"stream": "permuted-digits"},
        {"tasks": {"task-0": {}}},
        {"tasks": [5]},
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


@pytest.mark.parametrize(
    "change",
    [
        {"seed": True},
        {"tasks": 2.0},
        {"transfer": 1},
        {"density": "half"},
        {"density": float("nan")},
        {"masks": "dense"},
    ],
)
def test_arguments_of_other_kinds_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = write_record(tmp_path, 1)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "config": {**content["config"], **change}}))
    with pytest.raises(RunError, match=r"run\.json: expected a run record, found something else"):
        RunRecord.read(tmp_path)


def test_a_record_without_arguments_that_came_later_is_read(tmp_path: Path) -> None:
    path = write_record(tmp_path, 1)
    record = RunRecord.read(tmp_path)
    content = json.loads(path.read_text())
    for name in ("task_identity", "mask", "weights", "density", "sparsity", "transfer", "rate_weight", "target_bits"):
        del content["config"][name]
    path.write_text(json.dumps(content))
    assert RunRecord.read(tmp_path) == record


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
    records = {"dense": dense, "sparse": replace(dense, network=replace(dense.network, densities=(0.1, 0.1, 0.2)))}
    models = {name: make_network(record, torch.device("cpu")) for name, record in records.items()}
    with MaskBank.create(tmp_path / "masks.bank", models[of_bank].spec, meta=models[of_bank].bank_meta()) as bank:
        ((name, other),) = ((name, other) for name, other in records.items() if name != of_bank)
        with pytest.raises(RunError, match=r"masks of this run's network, found those of densities"):
            other.check_bank(bank, models[name])


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", ["run.json", "calibration.json", "trials.json", "images.npy", "results.json"])
def test_what_is_no_file_is_refused_before_it_is_read(kind: str, name: str, tmp_path: Path) -> None:
    """A pipe would keep the reader waiting for ever, and a device would never end."""
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    if name != "run.json":
        write_record(tmp_path, 1)
    record = None if name == "run.json" else RunRecord.read(tmp_path)
    read: dict[str, Callable[[], object]] = {
        "run.json": lambda: RunRecord.read(tmp_path),
        "calibration.json": lambda: Calibration.read(path),
        "trials.json": lambda: Trials.of(record, tmp_path),  # type: ignore[arg-type]
        "images.npy": lambda: read_images(path, record),  # type: ignore[arg-type]
        "results.json": lambda: read_recovery(path),
    }
    with pytest.raises(SupSupError, match=rf"{name}: expected .*, found .*a (named )?{kind}"):
        read[name]()


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"network": {"inputs": 10**7}}, "expected 1 to 1048576 inputs"),
        ({"network": {"outputs": 10**9}}, "1 to 1048576 outputs"),
        ({"network": {"inputs": 2**20}, "config": {"model": "fc-1024-1024"}}, "at most 268435456 weights"),
        ({"network": {"inputs": 784}}, "expected masks of"),
        ({"network": {"inputs": 0}}, "found 0 inputs"),
        ({"network": {"outputs": -1}}, "found 64 inputs of shape .* and -1 outputs"),
        ({"config": {"mask": "edge-popup"}, "network": {"image_shape": [10**6, 10**6, 10**6]}}, "as the image shape"),
        ({"config": {"mask": "edge-popup"}, "network": {"image_shape": [-8, -8]}}, "expected masks of"),
    ],
)
def test_sizes_are_compared_with_the_bank_before_a_network_is_made(
    change: dict[str, dict[str, Any]], phrase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_record(tmp_path, 1)
    content = json.loads(path.read_text())
    model = make_network(RunRecord.read(tmp_path), torch.device("cpu"))
    MaskBank.create(tmp_path / "masks.bank", model.spec, meta=model.bank_meta()).close()
    path.write_text(json.dumps({**content, **{part: {**content[part], **new} for part, new in change.items()}}))

    def made(*_: object) -> None:
        raise AssertionError("a network was made")

    monkeypatch.setattr("supsup_models.runs.load.make_network", made)
    with pytest.raises(RunError, match=phrase):
        load_run(tmp_path, "cpu")


def test_tasks_are_found_by_name_however_many_there_are() -> None:
    stream = open_stream("permuted-digits", tasks=2**32)
    odd = ["task-01", "task-٣", "task-4294967296", "task-" + "9" * 5000, "mask-1", "task-", "task--1"]
    assert [task.index for task in stream.named(["task-70000", *odd, "task-2"])] == [2, 70000]


@pytest.mark.parametrize("text", ["[" * 150 + "]" * 150, '{"a":' * 150 + "1" + "}" * 150, "NaN", "1e999", "-Infinity"])
def test_a_record_holds_nothing_that_cannot_be_written_again(text: str, tmp_path: Path) -> None:
    path = write_record(tmp_path, 1)
    content = path.read_text()
    path.write_text(content.replace('"name": "permuted-digits"', f'"name": {text}'))
    assert path.read_text() != content
    with pytest.raises(RunError, match=r"run\.json: expected a run record, found something else \([^\n]*\)$"):
        RunRecord.read(tmp_path)


def test_the_history_adds_up_over_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supsup_models.runs.record.processor", lambda: "one")
    first = Clock(None).now()
    monkeypatch.setattr("supsup_models.runs.record.processor", lambda: "two")
    second = Clock(replace(first, seconds=100.0)).now()
    assert second.started == first.started <= second.changed
    assert 100.0 <= second.seconds < 160.0
    assert (first.processors, second.processors) == (("one",), ("one", "two"))
    assert Clock(second, "an accelerator").now().processors == ("one", "two", "an accelerator")
    path = write_record(tmp_path, 1)
    assert "history" not in json.loads(path.read_text())  # as an earlier version wrote it
    plain = RunRecord.read(tmp_path)
    replace(plain, history=second).write(tmp_path)
    assert RunRecord.read(tmp_path).history == second
    assert RunRecord.read(tmp_path) == plain


@pytest.mark.parametrize(
    "change",
    [
        {"losses": [1.0]},
        {"batches": [100, 50]},
        {"batches": [0, 50]},
        {"accuracies": [0.5, 1.5]},
        {"losses": [1.0, "x"]},
        {"batches": [], "losses": [], "accuracies": []},
        {"more": 1},
    ],
)
def test_a_curve_is_its_three_lists_or_none(change: dict[str, Any]) -> None:
    good = {"batches": [50, 100], "losses": [1.0, 0.5], "accuracies": [0.5, 1.0]}
    assert Curve.from_json(good) == Curve((50, 100), (1.0, 0.5), (0.5, 1.0))
    assert Curve.from_json({**good, **change}) is None
    assert Curve.from_json(None) is None


@pytest.mark.parametrize("points", [1, 2, 19, 20, 21, 40, 41, 1000])
def test_a_record_keeps_few_points_of_a_curve_and_the_last(points: int) -> None:
    batches = tuple(range(1, points + 1))
    found = TrainingCurve(batches, tuple(each / 3 for each in batches), (1 / 3,) * points).to_json()
    assert len(found["batches"]) == min(points, -(-points // max(1, -(-points // 20))))
    assert found["batches"][-1] == points
    assert len({late - early for early, late in pairwise(found["batches"])}) <= 1
    assert found["accuracies"][0] == 0.3333


def test_a_run_records_when_on_what_and_how_it_was_trained(tmp_path: Path) -> None:
    config = run_config("permuted-digits", tasks=2, outputs=40, batches=60, recipe="dense")
    trained = train_run(config, tmp_path)
    written = RunRecord.read(tmp_path)
    assert written.history is not None
    assert written.history == trained.record.history
    assert 0 < written.history.seconds < 600
    for task in written.tasks:
        curve = Curve.from_json(task["curve"])
        assert curve is not None
        assert curve.batches == (50, 60)
    before = record_path(tmp_path).read_bytes()
    assert train_run(config, tmp_path).new_tasks == 0
    assert record_path(tmp_path).read_bytes() == before  # nothing was trained, so nothing happened
    more = train_run(replace(config, tasks=3), tmp_path).record
    assert [task["curve"] for task in more.tasks[:2]] == [task["curve"] for task in written.tasks]
    assert more.history is not None
    assert more.history.seconds > written.history.seconds


@pytest.mark.parametrize("std", [10**30, 1e300, 1e-300, 0, -1, True, "1", None, [0.5, 10**30], {"a": 1}])
def test_deviations_that_no_data_have_are_not_known(std: Any, tmp_path: Path) -> None:
    write_record(tmp_path, 1)
    record = RunRecord.read(tmp_path)
    scale = pixel_scale(replace(record, stream={**record.stream, "std": std}))
    assert (scale.std, scale.levels) == (None, None)
    assert pixel_scale(replace(record, stream={**record.stream, "std": 1})).levels == 1
