"""The `supsup` command: end to end on digits, JSON keys, exit codes, one-line errors. Ctrl-C: `test_interrupts.py`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskstore import MaskBank
from supsup_models.cli.app import run_command
from supsup_models.data import open_stream
from supsup_models.networks.sparsity import layer_densities
from supsup_models.runs.record import RunRecord
from supsup_models.training.task import TrainedTask, train_task
from tests.helpers.commands import error_of

TRAIN = [
    *("train", "--stream", "permuted-digits", "--tasks", "3", "--outputs", "40"),
    *("--batches", "60", "--seed", "5", "--recipe", "dense"),
]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert run_command([*TRAIN, "--out", str(folder)]) == 0
    return folder


def json_of(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    printed: dict[str, object] = json.loads(capsys.readouterr().out)
    return printed


def test_train_writes_a_bank_and_a_record(run_folder: Path) -> None:
    record = RunRecord.read(run_folder)
    assert [task["name"] for task in record.tasks] == ["task-0", "task-1", "task-2"]
    assert all(task["accuracy"] > 0.85 for task in record.tasks)
    assert record.network.to_json() == {"inputs": 64, "outputs": 40, "classes": 10, "weight_gain": 1.0}
    files = {path.name for path in run_folder.iterdir()} - {".train.lock", "masks.bank.lock"}
    assert files == {"masks.bank", "run.json", "calibration.json"}
    with MaskBank.open(run_folder / "masks.bank") as bank:
        assert list(bank) == ["task-0", "task-1", "task-2"]
        assert bank.info("task-1").prior == {"id": "seeded-scores", "seed": 5, "task": 1}
        assert bank.info("task-1").meta["accuracy"] == record.tasks[1]["accuracy"]


def test_train_again_trains_nothing(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run_folder / "run.json").read_bytes()
    assert run_command([*TRAIN, "--out", str(run_folder), "--json"]) == 0
    printed = json_of(capsys)
    assert (printed["tasks"], printed["new_tasks"]) == (3, 0)
    assert (run_folder / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "phrase"), [(["--seed", "6"], "seed 6 (not 5)"), (["--batches", "61"], "batches 61 (not 60)")]
)
def test_other_arguments_in_the_same_folder(
    run_folder: Path, changed: list[str], phrase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run_folder / "masks.bank").read_bytes()
    assert run_command([*TRAIN, *changed, "--out", str(run_folder)]) == 1
    assert phrase in error_of(capsys)
    assert (run_folder / "masks.bank").read_bytes() == before


def test_an_interrupted_run_goes_on_and_ends_the_same(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"

    def interrupted(*arguments: Any, task: int, **options: Any) -> TrainedTask:
        if task == 2:
            raise KeyboardInterrupt
        return train_task(*arguments, task=task, **options)

    monkeypatch.setattr("supsup_models.training.many.train_task", interrupted)
    assert run_command([*TRAIN, "--out", str(folder)]) == 130
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == "supsup: interrupted; the same command goes on from what is finished"
    )
    monkeypatch.undo()
    assert run_command([*TRAIN, "--out", str(folder), "--json"]) == 0
    assert json_of(capsys)["new_tasks"] == 1
    with MaskBank.open(folder / "masks.bank") as bank, MaskBank.open(run_folder / "masks.bank") as uninterrupted:
        assert list(bank) == list(uninterrupted)
        assert all(bank[name] == uninterrupted[name] for name in bank)


def test_a_second_trainer_is_turned_away(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from filelock import FileLock

    with FileLock(run_folder / ".train.lock"):
        assert run_command([*TRAIN, "--out", str(run_folder)]) == 1
    assert "no other training" in error_of(capsys)


@pytest.mark.parametrize("scenario", ["GG", "GNs", "GNu"])
def test_eval(run_folder: Path, scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["eval", str(run_folder), "--scenario", scenario, "--json"]) == 0
    printed = json_of(capsys)
    assert printed["scenario"] == scenario
    assert printed["tasks"] == 3
    assert {"accuracy", "task_accuracy", "seconds_per_inference", "per_task"} <= set(printed)
    assert isinstance(printed["accuracy"], float)
    assert 0.8 < printed["accuracy"] <= 1


@pytest.mark.parametrize("method", ["one-shot", "binary", "exhaustive"])
@pytest.mark.parametrize("objective", ["H", "G"])
def test_eval_by_every_method(
    run_folder: Path, method: str, objective: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--infer", method, "--objective", objective, "--limit", "60", "--images", "4"]
    assert run_command(["eval", str(run_folder), *options, "--json"]) == 0
    printed = json_of(capsys)
    assert isinstance(printed["task_accuracy"], float)
    assert printed["task_accuracy"] > 0.9
    assert run_command(["eval", str(run_folder), *options]) == 0
    assert "95 % interval" in capsys.readouterr().out


@pytest.mark.slow
def test_sparse_masks_are_asked_by_their_own_objective(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The default recipe, and G, which its masks are trained for, without being told."""
    command = ["train", "--stream", "permuted-digits", "--tasks", "3", "--outputs", "40", "--batches", "80"]
    assert run_command([*command, "--out", str(tmp_path), "--json"]) == 0
    assert json_of(capsys)["accuracy"] > 0.85  # type: ignore[operator]
    record = RunRecord.read(tmp_path)
    shapes = {"fc1": (300, 64), "fc2": (100, 300), "fc3": (40, 100)}
    assert record.network.densities == tuple(layer_densities(shapes, "equal", 0.05).values())
    for method in ("one-shot", "short-list", "binary", "exhaustive"):
        assert run_command(["eval", str(tmp_path), "--infer", method, "--limit", "90", "--json"]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["task_accuracy"] > 0.9
        assert captured.err == ""
    np.save(tmp_path / "images.npy", open_stream("permuted-digits", tasks=3, seed=0)[1].test.images(slice(0, 4)))
    report = ["report", str(tmp_path), "-o", str(tmp_path / "page.html"), "--limit", "90"]
    asked = {
        ("eval", str(tmp_path), "--limit", "90"): True,
        ("eval", str(tmp_path), "--limit", "90", "--infer", "binary"): True,
        ("eval", str(tmp_path), "--limit", "90", "--infer", "exhaustive"): False,
        ("eval", str(tmp_path), "--limit", "90", "--scenario", "GG"): False,
        ("infer", str(tmp_path), str(tmp_path / "images.npy")): True,
        tuple(report): True,
    }
    for arguments, noted in asked.items():
        assert run_command([*arguments, "--objective", "H", "--json"]) == 0
        captured = capsys.readouterr()
        json.loads(captured.out)
        assert captured.err.count("objective H: this run's masks were trained for G") == noted


def test_a_price_of_nothing_may_be_said_or_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--rate-weight 0` is what the default recipe does without being told."""
    command = ["train", "--stream", "permuted-digits", "--tasks", "1", "--outputs", "40", "--batches", "4"]
    for number, (first, second) in enumerate([([], ["--rate-weight", "0"]), (["--rate-weight", "0"], [])]):
        run = [*command, "--out", str(tmp_path / str(number)), "--json"]
        assert run_command([*run, *first]) == 0
        capsys.readouterr()
        assert run_command([*run, *second]) == 0
        assert json_of(capsys)["new_tasks"] == 0
        assert run_command([*run, "--rate-weight", "0.001"]) == 1
        assert error_of(capsys).endswith("found rate_weight 0.001 (not 0.0)\n")


def test_infer_names_task_label_and_confidence(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = open_stream("permuted-digits", tasks=3, seed=5)
    floats = np.concatenate([stream[t].test.images(slice(0, 20)).numpy() for t in range(3)])
    scale, shift = stream[0].test.scale, stream[0].test.shift
    pixels = np.rint((floats - shift) / scale).astype(np.uint8)
    answers = {}
    unit = (pixels / 16).astype(np.float32)  # what torchvision's ToTensor gives
    forms = {"floats": floats, "pixels": pixels, "squares": pixels.reshape(-1, 8, 8), "unit": unit}
    for name, images in forms.items():
        np.save(tmp_path / f"{name}.npy", images)
        assert run_command(["infer", str(run_folder), str(tmp_path / f"{name}.npy"), "--json"]) == 0
        captured = capsys.readouterr()
        printed = json.loads(captured.out)
        first, *others = captured.err.splitlines()
        assert first == f"normalisation: {printed['normalisation']}"
        assert all(line.startswith("none of these tasks: unknown") for line in others)
        says = {"floats": "none", "unit": "float pixels in [0, 1] are normalised"}.get(name, "uint8")
        assert printed["normalisation"].startswith(says)
        answers[name] = printed["answers"]
    tasks = [[answer["task"] for answer in found] for found in answers.values()]
    assert tasks[0] == tasks[1] == tasks[2] == tasks[3]
    truth = [f"task-{t}" for t in range(3) for _ in range(20)]
    assert np.mean([found == true for found, true in zip(tasks[0], truth, strict=True)]) > 0.9
    assert all(0 < answer["confidence"] <= 1 and 0 <= answer["label"] < 10 for answer in answers["floats"])
    np.save(tmp_path / "raw.npy", pixels.astype(np.float32))
    ask = ["infer", str(run_folder), str(tmp_path / "raw.npy"), "--json"]
    assert run_command(ask) == 1
    assert "--pixels raw takes floats of 0 to 16" in error_of(capsys)
    assert run_command([*ask, "--pixels", "raw"]) == 0
    assert [answer["task"] for answer in json.loads(capsys.readouterr().out)["answers"]] == tasks[0]
    np.save(tmp_path / "one.npy", floats[20:40])
    assert run_command(["infer", str(run_folder), str(tmp_path / "one.npy"), "--one-task"]) == 0
    assert capsys.readouterr().out.count("task-1") == 20


def test_infer_refuses_what_it_cannot_read(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = np.zeros((2, 64), dtype=np.float32)
    nan = good.copy()
    nan[1, 3] = np.nan
    cases: dict[str, tuple[np.ndarray, str]] = {
        "nan": (nan, "found NaN or infinity in image 1"),
        "wide": (np.zeros((2, 65), dtype=np.float32), "expected shape (b, 64)"),
        "flat": (np.zeros(64, dtype=np.float32), "expected one array of shape"),
        "empty": (good[:0], "expected one array of shape"),
        "ints": (np.zeros((2, 64), dtype=np.int32), "expected uint8 or float pixels, found int32"),
        "pickle": (np.array([{"a": 1}] * 2, dtype=object), "expected a .npy file"),
    }
    for name, (array, phrase) in cases.items():
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
        assert run_command(["infer", str(run_folder), str(tmp_path / f"{name}.npy")]) == 1, name
        assert phrase in error_of(capsys)
    (tmp_path / "text.npy").write_text("hello")
    for name, shape in {"large": "(99999999999999999999, 64)", "odd": "(True, 64)", "less": "(-1, 64)"}.items():
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
        (tmp_path / f"{name}.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    for file in (tmp_path / f"{name}.npy" for name in ("text", "missing", "large", "odd", "less")):
        assert run_command(["infer", str(run_folder), str(file)]) == 1
        assert "expected a .npy file" in error_of(capsys)


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["train", "--stream", "permuted-digit", "--out", "x"], "did you mean 'permuted-digits'"),
        (["train", "--stream", "permuted-digits", "--model", "lenet", "--out", "x"], "did you mean 'lenet-300-100'"),
        (["train", "--stream", "permuted-digits", "--recipe", "papr", "--out", "x"], "did you mean 'paper'"),
        (["train", "--stream", "permuted-digits", "--device", "gpu", "--out", "x"], "expected one of auto, cpu, cuda"),
        (["train", "--stream", "permuted-digits", "--outputs", "9", "--out", "x"], "the stream's 10 classes, found 9"),
        (["train", "--stream", "permuted-digits", "--outputs", "10", "--out", "x"], "ask for more `--outputs`"),
        (["train", "--stream", "split-digits", "--tasks", "6", "--out", "x"], "1 to 5 tasks"),
        (["train", "--stream", "permuted-digits", "--tasks", "0", "--out", "x"], "found '0'"),
        (["train", "--stream", "permuted-digits", "--batches", "-3", "--out", "x"], "found '-3'"),
        (["train", "--stream", "permuted-digits", "--density", "half", "--out", "x"], "found 'half'"),
        (["train", "--stream", "permuted-digits", "--density", "0.9", "--out", "x"], "at most the cap 0.5"),
        (["train", "--stream", "split-digits", "--mask", "edge", "--out", "x"], "did you mean 'edge-popup'"),
        (["train", "--stream", "split-digits", "--model", "hopsupsup", "--out", "x"], "`supsup recover`"),
        (["train", "--stream", "permuted-digits"], "--out"),
        (["trian"], "trian"),
        (["eval", "x", "--scenario", "Gnu"], "did you mean 'GNu'"),
        (["eval", "x", "--infer", "oneshot"], "did you mean 'one-shot'"),
        (["eval", "x", "--objective", "h"], "expected one of H, G"),
        (["infer", "x", "y.npy", "--infer", "binari"], "did you mean 'binary'"),
        (["recover", "--rule", "storky"], "storkey"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str],
    phrase: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(arguments) == 2
    assert phrase in error_of(capsys)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_hold_no_run(tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    places = {"": "no run.json in it", "nowhere": "no such folder", "file": "a file"}
    for command in (["eval"], ["recover"], ["infer", "images.npy"]):
        for name, found in places.items():
            assert run_command([command[0], str(tmp_path / name), *command[1:]]) == 1
            expected = f"{tmp_path / name}: expected the folder of a run made by `supsup train`, found {found}\n"
            assert error_of(capsys) == f"supsup: {expected}"
    (tmp_path / "run.json").write_bytes((run_folder / "run.json").read_bytes())
    assert run_command(["eval", str(tmp_path)]) == 1
    assert "no task was finished" in error_of(capsys)
    (tmp_path / "masks.bank").write_bytes((run_folder / "masks.bank").read_bytes()[:5000])
    assert run_command(["eval", str(tmp_path)]) == 1
    error_of(capsys)
    for text in ("", "[1]", '{"format": 1}', '{"format": 99}', "{"):
        (tmp_path / "run.json").write_text(text)
        assert run_command(["eval", str(tmp_path)]) == 1
        assert "run record" in error_of(capsys)
    (tmp_path / "run.json").unlink()
    assert run_command([*TRAIN, "--out", str(tmp_path)]) == 1
    assert "run.json beside masks.bank" in error_of(capsys)


def test_places_that_cannot_be_read_or_written(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "run" / "run.json").mkdir(parents=True)
    (tmp_path / "locked" / ".train.lock").mkdir(parents=True)
    cases: list[tuple[list[str], str]] = [
        ([*TRAIN, "--out", str(tmp_path / "file")], "file: expected no file at this path, found one"),
        (
            [*TRAIN, "--out", str(tmp_path / "file" / "run")],
            "run: expected the system to read or write the file, found",
        ),
        ([*TRAIN, "--out", str(tmp_path / "locked")], "locked: expected the system to read or write the file, found"),
        ([*TRAIN, "--out", str(tmp_path / "run")], "run.json: expected a run record, found a folder"),
        (["eval", str(tmp_path / "run")], "run.json: expected a run record, found a folder"),
        (["infer", str(run_folder), str(tmp_path)], "expected a .npy file of images"),
    ]
    for arguments, phrase in cases:
        assert run_command(arguments) == 1
        assert phrase in error_of(capsys)


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"run\.json"):
        run_command(["--debug", "eval", str(tmp_path)])


@pytest.mark.slow
def test_demo_needs_nothing_and_can_be_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert run_command(["demo", "--out", str(tmp_path / "demo"), "--json"]) == 0
        printed = json_of(capsys)
        assert isinstance(printed["bits_per_parameter"], float)
        assert printed["bits_per_parameter"] < 0.8
        assert isinstance(printed["tasks_inferred"], float)
        assert printed["tasks_inferred"] > 0.95
        assert (printed["recovered"], printed["recoverable"]) == (5, 5)
    assert (tmp_path / "demo" / "unlabelled.npy").exists()


def test_demo_leaves_another_run_alone(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run_folder / "masks.bank").read_bytes()
    assert run_command(["demo", "--out", str(run_folder)]) == 1
    assert "expected the arguments that this run was started with" in error_of(capsys)
    assert (run_folder / "masks.bank").read_bytes() == before


def test_the_command_line_has_the_defaults_of_the_library() -> None:
    from inspect import signature

    from supsup_models.cli.train import train
    from supsup_models.runs import run_config

    of_command, of_library = signature(train).parameters, signature(run_config).parameters
    assert of_library.keys() - of_command.keys() == {"task_identity"}  # --scenario NNs
    shared = of_library.keys() & of_command.keys()
    assert {name: of_command[name].default for name in shared} == {name: of_library[name].default for name in shared}


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "eval", "infer", "recover", "demo"):
        assert run_command([command, "--help"]) == 0
        assert f"supsup {command}" in capsys.readouterr().out


def test_a_device_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert run_command([*TRAIN, "--device", "cuda", "--out", str(tmp_path / "run")]) == 1
    assert "expected a CUDA device" in error_of(capsys)
    assert list(tmp_path.iterdir()) == []
