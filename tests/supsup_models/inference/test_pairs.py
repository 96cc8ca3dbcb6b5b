"""The best pair of a task and a class, over several views: against a plain definition, and from end to end."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskstore import MaskMatrix
from supsup_models import (
    RECIPES,
    Calibration,
    Inference,
    MaskedModel,
    Views,
    convert,
    evaluate,
    evaluate_run,
    infer_each,
    infer_images,
    infer_task,
    load_run,
    open_stream,
    run_config,
    train_many,
    train_run,
)
from supsup_models.cli.app import run_command
from supsup_models.errors import ArgumentTypeError, InferenceError, RunError, ShapeError
from supsup_models.inference.labelling import classify, labels_of
from supsup_models.networks import TaskExtras
from supsup_models.runs.record import RunRecord, calibration_path, record_path

VIEWS = Views((1, 8, 8))
STREAM = open_stream("split-digits", tasks=3)


def perceptron() -> tuple[MaskedModel, MaskMatrix, TaskExtras]:
    recipe = RECIPES["views"].for_images((1, 8, 8))
    model = recipe.network("lenet-300-100", inputs=64, outputs=40, classes=2, seed=0)
    trained = train_many(model, STREAM, recipe, steps=60)
    return model, MaskMatrix(model.spec, [each.mask for each in trained], [task.name for task in STREAM]), {}


def of_convolutions() -> tuple[MaskedModel, MaskMatrix, TaskExtras]:
    plain = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 40))
    model = convert(plain, image_shape=(1, 8, 8), classes=2, seed=0)
    recipe = replace(RECIPES["edge-popup"], views=8, image_shape=(1, 8, 8))
    trained = list(train_many(model, STREAM, recipe, steps=30))
    names = [task.name for task in STREAM]
    matrix = MaskMatrix(model.spec, [each.mask for each in trained], names)
    return model, matrix, {name: each.extras for name, each in zip(names, trained, strict=True)}


NETWORKS = {"perceptron": perceptron, "convolutions": of_convolutions}


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request: pytest.FixtureRequest) -> tuple[MaskedModel, MaskMatrix, TaskExtras]:
    return NETWORKS[request.param]()


def defined(model: MaskedModel, matrix: MaskMatrix, extras: TaskExtras, images: Tensor, count: int) -> Tensor:
    """Log probability of each class under each mask, the mean over views, `(b, k, classes)`: image by image."""
    found = torch.zeros(len(images), len(matrix), 2)
    for number, image in enumerate(images.view(-1, 1, 8, 8)):
        for mask, name in enumerate(matrix.names):
            for view in range(count):
                shown = (image.flip(2) if view >= 4 else image).rot90(view % 4, (1, 2)).reshape(1, 64)
                log_p = model.run_with(shown, model.masked_weights(matrix[mask]), extras.get(name)).log_softmax(1)
                found[number, mask] += log_p[0, 2 * view : 2 * view + 2].detach() / count
    return found


@pytest.mark.parametrize("count", [1, 4, 8])
def test_task_and_label_are_the_best_pair(trained: tuple[MaskedModel, MaskMatrix, TaskExtras], count: int) -> None:
    model, matrix, extras = trained
    images = torch.cat([task.test.images(slice(0, 4)) for task in STREAM])
    pairs = defined(model, matrix, extras, images, count)
    views = Views((1, 8, 8), count)
    guesses = infer_each(model, matrix, images, extras=extras, views=views)
    torch.testing.assert_close(torch.from_numpy(guesses.scores), pairs.amax(dim=2), atol=1e-4, rtol=1e-4)
    best = pairs.flatten(1).argmax(dim=1).numpy()
    assert guesses.tasks.tolist() == (best // 2).tolist()
    assert (
        labels_of(model, classify(model, matrix, images, guesses.tasks, extras, views)).tolist() == (best % 2).tolist()
    )
    together = infer_task(model, matrix, images[:4], extras=extras, views=views)
    torch.testing.assert_close(
        torch.from_numpy(together.scores), pairs[:4].amax(dim=2).mean(dim=0), atol=1e-4, rtol=1e-4
    )


def test_views_find_more_tasks_than_one_image_does() -> None:
    model, matrix, extras = perceptron()
    found = {
        name: evaluate(model, matrix, STREAM, "GNu", inference, extras=extras)
        for name, inference in (("all", Inference(views=VIEWS)), ("one", Inference("exhaustive")))
    }
    assert found["all"].accuracy > 0.9
    assert found["all"].task_accuracy > found["one"].task_accuracy


def test_uncertainty_over_views_tells_strangers() -> None:
    model, matrix, _ = perceptron()
    known = matrix.select(["task-0", "task-1"])
    own = {task.name: task.test.images(slice(16, None)) for task in STREAM[:2]}
    calibration = Calibration.fit(model, known, own, views=VIEWS)
    for index, task in enumerate(STREAM):
        guess = infer_task(model, known, task.test.images(slice(0, 16)), views=VIEWS, calibration=calibration)
        assert guess.confidence is not None
        assert (guess.confidence < 0.01) == (index == 2)


def test_a_calibration_keeps_its_views(tmp_path: Path) -> None:
    calibration = Calibration({"task-0": (0.1, 0.2)}, views=VIEWS)
    calibration.write(tmp_path / "calibration.json")
    assert Calibration.read(tmp_path / "calibration.json") == calibration
    content = json.loads((tmp_path / "calibration.json").read_text())
    content["views"]["count"] = 5
    (tmp_path / "calibration.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match="expected 1, 4 or 8, found 5"):
        Calibration.read(tmp_path / "calibration.json")


def test_views_that_do_not_fit_are_refused() -> None:
    model, matrix, _ = perceptron()
    images = torch.zeros(2, 64)
    with pytest.raises(ShapeError, match=r"views: expected images of 64 values, found shape \(1, 6, 6\)"):
        infer_each(model, matrix, images, views=Views((1, 6, 6)))
    with pytest.raises(ArgumentTypeError, match="views: expected Views, found int 8"):
        infer_task(model, matrix, images, views=8)  # type: ignore[arg-type]
    narrow = RECIPES["default"].network("lenet-300-100", inputs=64, outputs=15, classes=2, seed=0)
    with pytest.raises(InferenceError, match="an output for each of 2 classes in 8 views, found 15 outputs"):
        infer_each(narrow, MaskMatrix(narrow.spec), images, views=VIEWS)


def test_a_run_knows_its_views(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    config = run_config("split-digits", tasks=2, outputs=40, batches=50, recipe="views")
    train_run(config, folder)
    run = load_run(folder)
    assert run.with_views(Inference()).views == VIEWS
    assert run.with_views(Inference(), 4).views == Views((1, 8, 8), 4)
    assert run.with_views(Inference("one-shot")).views is None
    best = evaluate_run(folder, "GNu")
    assert best.accuracy == evaluate_run(folder, "GNu", Inference("pairs"), views=8).accuracy
    assert run_command(["eval", str(folder), "--views", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] != best.accuracy
    images = STREAM[1].test.images(slice(0, 16)).numpy()
    np.save(tmp_path / "images.npy", images)
    found = [each.task for each in infer_images(folder, images).answers]
    assert np.mean([task == "task-1" for task in found]) > 0.8
    assert run_command(["infer", str(folder), str(tmp_path / "images.npy"), "--views", "8", "--json"]) == 0
    assert [each["task"] for each in json.loads(capsys.readouterr().out)["answers"]] == found
    assert train_run(config, folder).new_tasks == 0  # it goes on as the same run


def test_a_run_without_views_or_with_strange_ones_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_run(run_config("split-digits", tasks=2, outputs=40, batches=5), folder)
    with pytest.raises(RunError, match="expected at most 1 views, as its masks were trained with, found 4"):
        evaluate_run(folder, views=4)
    content = RunRecord.read(folder).to_json()
    for shape, error in (([1, 1 << 40, 1 << 40], ShapeError), ([8, 8], ShapeError), ([1, 8, 9], ShapeError)):
        record_path(folder).write_text(json.dumps({**content, "views": {"image_shape": shape, "count": 8}}))
        with pytest.raises(error):
            evaluate_run(folder)
    calibration = json.loads(calibration_path(folder).read_text())
    calibration["views"] = {"image_shape": [1, 1 << 40, 1 << 40], "count": 8}
    calibration_path(folder).write_text(json.dumps(calibration))
    record_path(folder).write_text(json.dumps(content))
    with pytest.raises(ShapeError, match="views: expected images of 64 values"):
        infer_images(folder, STREAM[0].test.images(slice(0, 2)).numpy())
