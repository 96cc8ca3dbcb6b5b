"""Runs of converted networks through the command line: masks, statistics in the bank, resuming, more tasks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskstore import MaskBank
from supsup_models import layer_densities
from supsup_models.cli.app import run_command
from supsup_models.data import open_stream
from supsup_models.errors import NetworkError, SparsityError, SupSupError, UnknownNameError
from supsup_models.runs.config import run_config
from supsup_models.runs.record import RunRecord
from supsup_models.training.task import TrainedTask, train_task

RESNET = [
    *("train", "--stream", "split-digits", "--tasks", "2", "--model", "resnet-18-20", "--outputs", "4"),
    *("--density", "0.3", "--sparsity", "erk", "--batches", "6", "--transfer"),
]
LENET = ["train", "--stream", "permuted-digits", "--mask", "edge-popup", "--batches", "60", "--outputs", "40"]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resnet") / "run"
    assert run_command([*RESNET, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lenet") / "run"
    assert run_command([*LENET, "--tasks", "3", "--out", str(folder)]) == 0
    return folder


def evaluation(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run_command(["eval", str(folder), "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.slow
def test_the_record_and_the_bank_say_all(resnet: Path) -> None:
    record = RunRecord.read(resnet)
    config = record.config
    assert (config.mask, config.density, config.sparsity, config.recipe, config.transfer) == (
        *("edge-popup", 0.3, "erk", "edge-popup", True),
    )
    assert record.network.image_shape == (1, 8, 8)
    with MaskBank.open(resnet / "masks.bank") as bank:
        assert bank.meta["model"] == "resnet-18-20"
        assert (bank.meta["mask"], bank.meta["weights"]) == ("edge-popup", "signed-constant")
        budget = layer_densities(bank.spec.shapes, "erk", 0.3)
        assert [task["densities"] for task in record.tasks] == [pytest.approx(budget, abs=0.01)] * 2
        statistics = [bank.extras(name) for name in bank]
        assert [info.prior["id"] for info in bank.infos()] == [
            "seeded-scores",
            "seeded-scores",
        ]  # the second was transferred
    assert len(statistics[0]) == 40
    assert not np.array_equal(statistics[0]["bn1.running_mean"], statistics[1]["bn1.running_mean"])


@pytest.mark.slow
def test_every_task_is_judged_under_its_own_statistics(resnet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = evaluation(resnet, capsys, "--scenario", "GG")
    trained = [task["accuracy"] for task in RunRecord.read(resnet).tasks]
    assert [task["accuracy"] for task in given["per_task"]] == trained
    for options in (["--infer", "exhaustive"], ["--images", "16"], ["--images", "16", "--infer", "binary"]):
        found = evaluation(resnet, capsys, "--scenario", "GNs", *options)
        assert 0 < found["accuracy"] <= 1
    # of 72 images in groups of 71 the one that is left joins the group, as batch statistics need company
    assert len(open_stream("split-digits")[0].test) == 72
    assert evaluation(resnet, capsys, "--images", "71")["inferences"] == 2


@pytest.mark.slow
def test_one_image_has_no_batch_statistics(resnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["eval", str(resnet), "--infer", "one-shot"]) == 2
    refused = capsys.readouterr().err
    assert "--infer exhaustive finds the task of a single image" in refused
    assert "--images" not in refused  # with one-shot, more images find no more tasks
    images = np.stack([task.test.images(slice(0, 3)) for task in open_stream("split-digits", tasks=2)])
    np.save(tmp_path / "images.npy", images.reshape(6, 1, 8, 8))
    np.save(tmp_path / "one.npy", images[0, :1])
    for file, options in (("images.npy", []), ("one.npy", ["--one-task"])):
        assert run_command(["infer", str(resnet), str(tmp_path / file), "--infer", "one-shot", *options]) == 2
        assert "found batch statistics in 'bn1.running_mean'" in capsys.readouterr().err
    assert run_command(["infer", str(resnet), str(tmp_path / "images.npy"), "--infer", "exhaustive", "--json"]) == 0
    together = json.loads(capsys.readouterr().out)["answers"]
    assert run_command(["infer", str(resnet), str(tmp_path / "images.npy"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == together  # exhaustive is what this network takes
    assert run_command(["infer", str(resnet), str(tmp_path / "one.npy"), "--infer", "exhaustive", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)["answers"]
    assert alone[0]["task"] == together[0]["task"]
    assert alone[0]["confidence"] == pytest.approx(together[0]["confidence"], abs=1e-5)
    assert run_command(["infer", str(resnet), str(tmp_path / "images.npy"), "--one-task"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert run_command(["infer", str(resnet), str(tmp_path / "images.npy"), "--one-task", "--infer", "binary"]) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warned == [
        "supsup: warning: binary inference: expected a network that treats each image by itself, found batch "
        "statistics in 'bn1.running_mean'; answers are hardly better than chance, --infer exhaustive finds tasks"
    ]


@pytest.mark.slow
def test_images_of_another_shape_are_refused(resnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "last.npy", np.zeros((3, 8, 8, 1), dtype=np.uint8))
    assert run_command(["infer", str(resnet), str(tmp_path / "last.npy")]) == 1
    assert "expected images of shape (1, 8, 8), channels first, found (8, 8, 1)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_was_cut_off_ends_with_the_same_masks(
    resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, task: int, **options: Any) -> TrainedTask:
        if task == 1:
            raise KeyboardInterrupt
        return train_task(*arguments, task=task, **options)

    monkeypatch.setattr("supsup_models.runs.train.train_task", interrupted)
    assert run_command([*RESNET, "--out", str(tmp_path)]) == 130
    monkeypatch.undo()
    assert run_command([*RESNET, "--out", str(tmp_path)]) == 0
    with MaskBank.open(tmp_path / "masks.bank") as bank, MaskBank.open(resnet / "masks.bank") as whole:
        assert list(bank) == list(whole) == ["task-0", "task-1"]
        for name in bank:
            assert bank[name] == whole[name]
            assert all(np.array_equal(bank.extras(name)[key], value) for key, value in whole.extras(name).items())


@pytest.mark.slow
def test_edge_popup_on_a_plain_network_infers_image_by_image(lenet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluation(lenet, capsys, "--scenario", "GNu", "--limit", "60")
    assert found["task_accuracy"] > 0.9
    config = RunRecord.read(lenet).config
    assert (config.density, config.sparsity) == (0.5, "uniform")
    assert run_command(["recover", str(lenet)]) == 1
    assert "found edge-popup masks" in capsys.readouterr().err


@pytest.mark.slow
def test_more_tasks_extend_a_run_and_fewer_are_refused(
    lenet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    assert run_command([*LENET, "--tasks", "2", "--out", folder]) == 0
    capsys.readouterr()
    assert run_command([*LENET, "--tasks", "3", "--out", folder, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["tasks"], printed["new_tasks"]) == (3, 1)
    assert RunRecord.read(tmp_path / "run") == RunRecord.read(tmp_path / "run")
    assert RunRecord.read(tmp_path / "run").stream["tasks"] == 3
    with MaskBank.open(tmp_path / "run" / "masks.bank") as bank, MaskBank.open(lenet / "masks.bank") as whole:
        assert all(bank[name] == whole[name] for name in whole)
    assert run_command(["eval", folder, "--limit", "9"]) == 0
    assert run_command([*LENET, "--tasks", "2", "--out", folder]) == 1
    assert "tasks 2 (not 3)" in capsys.readouterr().err


def test_what_is_left_open_follows_from_the_rest() -> None:
    plain = run_config("split-digits")
    assert (plain.tasks, plain.mask, plain.recipe, plain.density) == (5, "threshold", "default", 0.05)
    popup = run_config("split-cifar-100", model="resnet-18-20")
    assert (popup.tasks, popup.mask, popup.recipe, popup.density, popup.sparsity) == (
        *(20, "edge-popup", "edge-popup", 0.5, "uniform"),
    )
    assert run_config("split-digits", model="resnet-50", mask="threshold").recipe == "dense"


@pytest.mark.parametrize(
    ("options", "kind", "phrase"),
    [
        (
            {"density": 0.5, "recipe": "dense"},
            NetworkError,
            "expected no density and no sparsity for threshold masks, found density 0.5",
        ),
        ({"sparsity": "er", "recipe": "paper"}, NetworkError, "found sparsity er"),
        ({"mask": "edge-pop"}, UnknownNameError, "did you mean 'edge-popup'"),
        ({"mask": "edge-popup", "sparsity": "erc"}, UnknownNameError, "expected one of uniform, er, erk, equal"),
        ({"mask": "edge-popup", "density": 0.0}, SparsityError, r"density: expected a number in \(0, 1\], found 0"),
        ({"mask": "edge-popup", "density": 0.6, "sparsity": "er"}, SparsityError, "at most the cap 0.5 of er layers"),
        ({"weights": "keep"}, UnknownNameError, "expected one of signed-constant, kaiming"),
        ({"model": "resnet-18"}, UnknownNameError, "did you mean 'resnet-18-20'"),
        ({"model": "hopsupsup"}, UnknownNameError, "`recover_run` trains it"),
        ({"task_identity": False, "transfer": True}, NetworkError, "found threshold masks.* and transfer"),
        ({"task_identity": False, "model": "resnet-18-20"}, NetworkError, "found edge-popup masks"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], kind: type[SupSupError], phrase: str) -> None:
    with pytest.raises(kind, match=phrase):
        run_config("split-digits", **options)


def test_records_written_before_there_were_such_masks_are_read(lenet: Path, tmp_path: Path) -> None:
    content = json.loads((lenet / "run.json").read_text())
    for name in ("mask", "weights", "density", "sparsity", "transfer"):
        del content["config"][name]
    del content["network"]["image_shape"]
    (tmp_path / "run.json").write_text(json.dumps(content))
    config = RunRecord.read(tmp_path).config
    assert (config.mask, config.weights, config.density, config.transfer) == (
        *("threshold", "signed-constant", None, False),
    )


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (
            lambda content: content["network"].pop("image_shape"),
            "expected sizes of lenet-300-100 with edge-popup masks",
        ),
        (lambda content: content["config"].update(mask="threshold"), "expected sizes of lenet-300-100 with threshold"),
        (
            lambda content: content["network"].update(image_shape=[]),
            "network.image_shape: expected a list or null",
        ),
        (
            lambda content: content["network"].update(image_shape=["8"]),
            "network.image_shape: expected a list or null",
        ),
        (lambda content: content["network"].update(image_shape=[63]), "64 inputs of shape (63,)"),
        (lambda content: content["config"].update(density="half"), "density: expected float or null, found 'half'"),
        (lambda content: content["config"].update(mask=3), "mask: expected str, found 3"),
        (lambda content: content["pixels"].update(scale=[]), "pixels.scale: expected float"),
        (lambda content: content["pixels"].update(scale=["a"]), "pixels.scale: expected float"),
    ],
)
def test_damaged_records_are_one_line(
    change: Any, phrase: str, lenet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((lenet / "run.json").read_text())
    change(content)
    (tmp_path / "run.json").write_text(json.dumps(content))
    (tmp_path / "masks.bank").write_bytes((lenet / "masks.bank").read_bytes())
    capsys.readouterr()
    assert run_command(["eval", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert phrase in error
    assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("model", ["conv-4", "vit-tiny", "resnet-18-20"])
def test_sparse_masks_of_any_network_from_the_command_line(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, steps = tmp_path / "run", "2" if model == "resnet-18-20" else "4"
    command = ["train", "--stream", "transformed-digits", "--tasks", "1", "--model", model, "--recipe", "default"]
    command += ["--outputs", "40", "--batches", steps, "--out", str(folder)]
    assert run_command(command) == 0
    record = RunRecord.read(folder)
    assert (record.config.mask, record.config.sparsity) == ("sparse", "equal")
    assert record.network.densities is not None
    with MaskBank.open(folder / "masks.bank") as bank:
        assert bank.meta["densities"] == list(record.network.densities)
        assert bank["task-0"].density == pytest.approx(0.05, rel=0.01)
    command[command.index("--tasks") + 1] = "2"
    assert run_command(command) == 0  # the network is made again from the record, and goes on
    found = evaluation(folder, capsys, "--limit", "8")
    assert found["tasks"] == 2
    images = tmp_path / "images.npy"
    np.save(images, open_stream("transformed-digits", tasks=1)[0].test.images(slice(0, 3)).numpy())
    for method in ("one-shot", "exhaustive"):
        assert run_command(["infer", str(folder), str(images), "--infer", method, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["images"] == 3


def test_masks_follow_from_the_model_and_the_recipe() -> None:
    for model, recipe, wanted in (
        ("conv-4", None, ("sparse", "default")),
        ("vit-tiny", None, ("sparse", "default")),
        ("resnet-18-20", None, ("edge-popup", "edge-popup")),
        ("resnet-18-20", "default", ("sparse", "default")),
        ("conv-4", "dense", ("threshold", "dense")),
        ("conv-4", "edge-popup", ("edge-popup", "edge-popup")),
        ("lenet-300-100", "default", ("threshold", "default")),
    ):
        config = run_config("transformed-digits", model=model, recipe=recipe)
        assert (config.mask, config.recipe) == wanted
    assert run_config("transformed-digits", mask="sparse").recipe == "default"
    with pytest.raises(NetworkError, match="recipe dense: expected a recipe of sparse masks"):
        run_config("transformed-digits", model="conv-4", mask="sparse", recipe="dense")
    with pytest.raises(NetworkError, match="and task identity"):
        run_config("transformed-digits", model="conv-4", recipe="default", task_identity=False)
