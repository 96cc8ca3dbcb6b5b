"""Calibrated confidence and "none of these tasks"."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from maskstore import MaskMatrix
from supsup_models import Calibration, MaskedNetwork, Recipe, RMSProp, TaskStream, infer_each, infer_task, train_task
from supsup_models.cli.app import run_command
from supsup_models.data import open_stream
from supsup_models.errors import ArgumentTypeError, InferenceError, RunError
from supsup_models.inference.calibration import image_uncertainty, refused
from supsup_models.runs.record import calibration_path

KNOWN = 3


class Trained:
    def __init__(self) -> None:
        self.stream: TaskStream = open_stream("permuted-digits", tasks=KNOWN + 2)
        self.model = MaskedNetwork("lenet-300-100", inputs=64, outputs=50, seed=0, classes=10)
        self.matrix = MaskMatrix(self.model.spec)
        recipe = Recipe("quick", RMSProp(4e-4), schedule="cosine")
        for task in self.stream[:KNOWN]:
            mask = train_task(self.model, task.train, recipe, task=task.index, steps=120).mask
            self.matrix.append(task.name, mask)
        own = {task.name: task.test.images(slice(0, 180)) for task in self.stream[:KNOWN]}
        self.calibration = Calibration.fit(self.model, self.matrix, own)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return Trained()


def confidences(trained: Trained, tasks: slice) -> np.ndarray:
    images = torch.cat([task.test.images(slice(180, 360)) for task in trained.stream[tasks]])
    guess = infer_each(trained.model, trained.matrix, images, calibration=trained.calibration)
    return np.asarray(guess.confidence)


def test_confidence_of_known_tasks_is_uniform_and_strangers_are_refused(trained: Trained) -> None:
    known, strange = confidences(trained, slice(0, KNOWN)), confidences(trained, slice(KNOWN, KNOWN + 2))
    for level in (0.1, 0.3, 0.5, 0.8):
        assert (known < level).mean() == pytest.approx(level, abs=0.08)
    assert refused(known).mean() < 0.04
    assert refused(strange).mean() > 0.6
    assert np.median(strange) < 0.01


def test_a_batch_of_strangers_is_refused_and_one_of_a_known_task_is_not(trained: Trained) -> None:
    for index, task in enumerate(trained.stream):
        images = task.test.images(slice(180, 212))
        guess = infer_task(trained.model, trained.matrix, images, calibration=trained.calibration)
        assert isinstance(guess.confidence, float)
        assert refused(guess.confidence) == (index >= KNOWN)


def test_the_power_is_what_strangers_show(trained: Trained) -> None:
    """Measured on known tasks' images without their own masks, it holds for images of tasks that no mask knows."""
    assert trained.calibration.power is not None
    alone, together = trained.calibration.power
    strange = confidences(trained, slice(KNOWN, KNOWN + 2))
    assert alone == pytest.approx(refused(strange).mean(), abs=0.2)
    assert together == 1.0


def test_a_wrong_guess_does_not_make_a_stranger(trained: Trained) -> None:
    """Under a wrong mask images of a known task are refused; their own mask still takes them."""
    images = trained.stream[0].test.images(slice(180, 360))
    wrong = image_uncertainty(trained.model, trained.matrix, images, np.full(len(images), 1))
    under_wrong = trained.calibration.confidence_of_each(["task-1"] * len(images), wrong)
    assert refused(under_wrong).mean() > 0.5
    highest = trained.calibration.highest_confidence(trained.model, trained.matrix, images)
    assert refused(highest).mean() < 0.03
    assert trained.calibration.none_of_these(float(np.median(highest))) in (False, None)
    partly = Calibration({"task-0": (1.0,)})
    with pytest.raises(InferenceError, match="expected values for mask 'task-1'"):
        partly.highest_confidence(trained.model, trained.matrix, images)
    strange = trained.stream[KNOWN].test.images(slice(0, 64))
    together = trained.calibration.highest_confidence(trained.model, trained.matrix, strange, one_task=True)
    assert trained.calibration.none_of_these(float(together[0]), 64) is True


@pytest.mark.parametrize(
    ("power", "images", "says"),
    [
        (None, 1, None),
        ((0.95, 1.0), 1, False),
        ((0.2, 1.0), 1, None),
        ((0.2, 1.0), 15, None),
        ((0.2, 1.0), 16, False),
        ((0.95, 0.5), 40, None),
    ],
)
def test_not_refused_means_known_only_where_strangers_are_refused(
    power: tuple[float, float] | None, images: int, says: bool | None
) -> None:
    calibration = Calibration({"a": (1.0,)}, power)
    assert calibration.none_of_these(0.5, images) is says
    assert calibration.none_of_these(0.009, images) is True


def test_a_network_that_cannot_tell_strangers_says_so(tmp_path: Path) -> None:
    """Untrained masks are as uncertain of any image; and nine own images are too few to refuse one at 0.01."""
    stream = open_stream("permuted-digits", tasks=3)
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=50, seed=0, classes=10)
    matrix = MaskMatrix(model.spec, [model.mask_of(model.initial_scores(t)) for t in range(3)], ["a", "b", "c"])
    for count in (180, 9):
        own = {name: task.test.images(slice(0, count)) for name, task in zip(matrix.names, stream, strict=True)}
        calibration = Calibration.fit(model, matrix, own)
        assert calibration.power is not None
        assert calibration.power[0] < 0.3
        assert calibration.none_of_these(0.5) is None
        calibration.write(tmp_path / "c.json")
        assert Calibration.read(tmp_path / "c.json") == calibration
    assert Calibration.fit(model, matrix, {"a": own["a"]}).power is None


@pytest.mark.parametrize("power", ["[1]", "[0.5, 2]", '["a", 1]', "[0.1, 0.2, 0.3]", "3"])
def test_a_damaged_power_is_refused(power: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(f'{{"format": 1, "values": {{"a": [1.0]}}, "power": {power}}}')
    with pytest.raises(RunError, match="expected"):
        Calibration.read(tmp_path / "c.json")
    (tmp_path / "c.json").write_text('{"format": 1, "values": {"a": [1.0]}}')  # as earlier versions wrote it
    assert Calibration.read(tmp_path / "c.json").power is None


def test_a_guess_without_calibration_says_nothing(trained: Trained) -> None:
    assert infer_task(trained.model, trained.matrix, trained.stream[0].test.images(slice(0, 4))).confidence is None


def test_files_round_trip_and_others_are_refused(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    trained.calibration.write(path)
    assert Calibration.read(path) == trained.calibration
    path.write_text(json.dumps({"format": 9, "values": {}}))
    with pytest.raises(RunError, match="expected format 1, found 9"):
        Calibration.read(path)
    path.write_text("[]")
    with pytest.raises(RunError, match="expected a calibration"):
        Calibration.read(path)
    with pytest.raises(InferenceError, match="ascending"):
        Calibration({"task-0": (2.0, 1.0)})
    images, stranger = trained.stream[0].test.images(slice(0, 4)), Calibration({"x": (1.0,)})
    with pytest.raises(InferenceError, match="mask 'task-0'"):
        infer_task(trained.model, trained.matrix, images, calibration=stranger)


def test_each_mask_is_calibrated_once(trained: Trained) -> None:
    images = trained.stream[0].test.images(slice(0, 4))
    with pytest.raises(InferenceError, match="images: expected those of each mask once, found 'task-0' twice"):
        Calibration.fit(trained.model, trained.matrix, [("task-0", images), ("task-1", images), ("task-0", images)])


@pytest.mark.slow
def test_infer_names_strangers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--stream", "permuted-digits", "--tasks", "2", "--batches", "200", "--out", str(tmp_path / "run")]
    assert run_command(["train", *options]) == 0
    stream = open_stream("permuted-digits", tasks=3)
    np.save(tmp_path / "known.npy", stream[1].test.images(slice(0, 16)).numpy())
    np.save(tmp_path / "strange.npy", stream[2].test.images(slice(0, 16)).numpy())
    capsys.readouterr()
    for name, expected in (("known", False), ("strange", True)):
        arguments = ["infer", str(tmp_path / "run"), str(tmp_path / f"{name}.npy"), "--one-task"]
        assert run_command([*arguments, "--json"]) == 0
        answers = json.loads(capsys.readouterr().out)["answers"]
        assert {answer["none_of_these"] for answer in answers} == {expected}
        assert all(0 < answer["task_confidence"] <= 1 for answer in answers)
        assert run_command(arguments) == 0
        assert ("none of these tasks" in capsys.readouterr().out) == expected
    assert run_command(["train", *options, "--json"]) == 0  # nothing new: the calibration stays


@pytest.mark.slow
def test_a_run_with_more_masks_than_its_calibration_answers_and_is_calibrated_by_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, images = tmp_path / "run", tmp_path / "images.npy"
    options = ["train", "--stream", "permuted-digits", "--batches", "60", "--out", str(folder)]
    assert run_command([*options, "--tasks", "1"]) == 0
    earlier = calibration_path(folder).read_bytes()
    assert run_command([*options, "--tasks", "2"]) == 0
    whole = calibration_path(folder).read_bytes()
    np.save(images, open_stream("permuted-digits", tasks=2)[1].test.images(slice(0, 4)).numpy())
    for damage in (earlier, b"{"):  # the earlier one stays where training is killed after its last task
        calibration_path(folder).write_bytes(damage)
        if damage == earlier:
            capsys.readouterr()
            assert run_command(["infer", str(folder), str(images), "--json"]) == 0
            captured = capsys.readouterr()
            assert "no task confidence: expected values for all 2 masks" in captured.err
            answers = json.loads(captured.out)["answers"]
            assert {answer["task"] for answer in answers} == {"task-1"}
            assert {answer["task_confidence"] for answer in answers} == {None}
        else:
            assert run_command(["infer", str(folder), str(images), "--json"]) == 1
            said = capsys.readouterr().err
            assert "found something else (no JSON from line 1" in said
            assert "`supsup train` with the same settings makes it anew; without the file, answers have no" in said
        assert run_command([*options, "--tasks", "2"]) == 0
        assert calibration_path(folder).read_bytes() == whole


@pytest.mark.slow
def test_the_page_on_scenarios_runs_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "scenarios.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(example, "docs/scenarios.md", "exec"), {})
    assert 0 < float(capsys.readouterr().out) < 0.01


@pytest.mark.parametrize("wrong", [[], [float("nan")], [[0.1]], "text", None, [float("inf")]])
def test_entropies_that_are_none_are_named(wrong):
    calibration = Calibration({"a": (0.1, 0.2)})
    assert calibration.confidence("a", [0.15]) == pytest.approx(2 / 3)
    for call in (calibration.confidence, lambda _, values: calibration.confidence_of_each(["a"], values)):
        with pytest.raises(InferenceError, match=r"^entropies: expected"):
            call("a", wrong)


def test_names_and_entropies_go_together():
    with pytest.raises(InferenceError, match=r"^names: expected one for each of 2 entropies, found 1"):
        Calibration({"a": (0.1, 0.2)}).confidence_of_each(["a"], [0.1, 0.2])
    for power in (3, ("a", "b"), "ab"):
        with pytest.raises(ArgumentTypeError, match=r"^calibration"):
            Calibration({"a": (0.1,)}, power)
