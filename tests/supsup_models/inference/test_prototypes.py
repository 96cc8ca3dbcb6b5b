"""Tasks on kept weights, told apart by what the frozen network itself sees in their images."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn

from maskstore import MaskBank, MaskMatrix
from supsup_models import (
    RECIPES,
    Inference,
    MaskedNetwork,
    Run,
    TaskInference,
    convert,
    infer_each,
    infer_task,
    mask_accuracy,
    open_stream,
    train_task,
)
from supsup_models.errors import ArgumentTypeError, ImageValueError, InferenceError, NoFeaturesError, ShapeError
from supsup_models.networks import PROTOTYPES

STREAM = open_stream("transformed-digits", tasks=3)


def _net():
    torch.manual_seed(0)
    body = (
        *(nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10)),
    )
    return nn.Sequential(*body).eval()


def _model(**changes):
    return convert(
        _net(), weights="keep", image_shape=(1, 8, 8), **{"head": "8", "own": "norm", "classes": 10} | changes
    )


@pytest.fixture(scope="module")
def trained():
    model, matrix, extras = _model(), MaskMatrix(_model().spec), {}
    for task in STREAM:
        one = train_task(model, task.train, RECIPES["backbone"], task=task.index, steps=4)
        matrix.append(task.name, one.mask)
        extras[task.name] = one.extras
    return model, matrix, extras


def _hits(model, matrix, extras, **options):
    found = [
        infer_each(model, matrix, task.test.images(slice(0, 100)), extras=extras, **options).tasks for task in STREAM
    ]
    return float(np.mean([rows == row for row, rows in enumerate(found)]))


def test_training_stores_the_mean_features_of_each_class_and_inference_uses_them(trained):
    model, matrix, extras = trained
    assert extras["task-0"][PROTOTYPES].shape == (10, 256)
    assert _hits(model, matrix, extras) > 0.6  # chance 0.33; four steps taught the heads nothing
    assert _hits(model, matrix, extras) > _hits(model, matrix, extras, method="exhaustive") + 0.1
    together = [infer_task(model, matrix, task.test.images(slice(0, 32)), extras=extras).task for task in STREAM]
    assert together == [0, 1, 2]


def test_a_prototype_is_the_mean_of_a_class(trained):
    model = trained[0]
    data = STREAM[1].train
    few = slice(0, 200)
    one = train_task(model, (data.images(few), data.labels[few]), RECIPES["backbone"], task=1, steps=1)
    features = model.features(data.images(few))
    wanted = torch.stack([features[data.labels[few] == label].mean(dim=0) for label in range(10)])
    torch.testing.assert_close(torch.as_tensor(one.extras[PROTOTYPES]), wanted, rtol=1e-4, atol=1e-5)


def test_scores_are_minus_the_squared_distance_to_the_nearest_prototype(trained):
    model, matrix, extras = trained
    images = STREAM[0].test.images(slice(0, 5))
    scores = infer_each(model, matrix, images, extras=extras).scores
    features = model.features(images).numpy()
    for row, name in enumerate(matrix.names):
        every = ((features[:, None] - extras[name][PROTOTYPES]) ** 2).sum(axis=2)
        np.testing.assert_allclose(scores[:, row], -every.min(axis=1), rtol=1e-3, atol=1e-5)


def test_features_do_not_depend_on_the_images_beside_it_nor_on_a_bound_task(trained):
    model, matrix, extras = trained
    images = STREAM[0].test.images(slice(0, 16))
    every = model.features(images)
    with model.apply_mask(matrix[0], extras["task-0"]):
        torch.testing.assert_close(model.features(images[3:4]), every[3:4], rtol=1e-4, atol=1e-5)
    assert not every.requires_grad
    assert not torch.equal(every, _model(seed=1).features(images))  # other signs


def test_threads_get_what_one_caller_gets(trained):
    model = trained[0]
    parts = [task.test.images(slice(0, 8)) for task in STREAM] * 8
    wanted = [model.features(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for found, known in zip(pool.map(model.features, parts), wanted, strict=True):
            torch.testing.assert_close(found, known, rtol=1e-4, atol=1e-5)


def test_a_mask_runs_with_prototypes_among_its_extras(trained):
    model, matrix, extras = trained
    images = STREAM[0].test.images(slice(0, 4))
    model.features(images)  # leaves nothing in the module
    assert not any(module._forward_hooks for module in model.module.modules())
    bare = {name: value for name, value in extras["task-0"].items() if name != PROTOTYPES}
    wanted = model(images, matrix[0], extras=bare)
    assert torch.equal(model(images, matrix[0], extras=extras["task-0"]), wanted)
    assert torch.equal(model.bind(matrix[0], extras["task-0"])(images), wanted)
    assert torch.equal(model.export(matrix[0], extras["task-0"])(images.view(-1, 1, 8, 8)), wanted)
    assert mask_accuracy(model, matrix[0], STREAM[0].test, extras["task-0"]) >= 0.0


def test_extras_with_prototypes_are_no_argument_of_a_module_that_takes_any():
    class Open(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10)

        def forward(self, x, **anything):
            assert not anything
            return self.last(self.norm(self.first(x)))

    model = convert(Open().eval(), weights="keep", image_shape=(64,))
    one = train_task(model, STREAM[0].train, RECIPES["backbone"], task=0, steps=1)
    assert PROTOTYPES in one.extras
    model(STREAM[0].test.images(slice(0, 2)), one.mask, extras=one.extras)


def test_a_bank_gives_them_back_in_fewer_digits(trained, tmp_path):
    model, matrix, extras = trained
    one = train_task(model, STREAM[0].train, RECIPES["backbone"], task=0, steps=4)
    with MaskBank.create(tmp_path / "a.bank", model.spec) as bank:
        bank.put("task-0", one.mask, extras=one.rounded())
        back = bank.extras("task-0")
    np.testing.assert_allclose(back[PROTOTYPES], one.extras[PROTOTYPES], atol=np.abs(one.extras[PROTOTYPES]).max() / 60)
    known = {**extras, "task-0": back}
    assert abs(_hits(model, matrix, known) - _hits(model, matrix, extras)) < 0.05


def test_the_usual_method_is_exhaustive_as_long_as_a_mask_has_none(trained):
    model, matrix, extras = trained
    bare = {name: value for name, value in extras["task-2"].items() if name != PROTOTYPES}
    some = {**extras, "task-2": bare}
    assert Inference().chosen(model, matrix.names, extras).method == "prototypes"
    assert Inference().chosen(model, matrix.names, some).method == "exhaustive"
    images = STREAM[0].test.images(slice(0, 3))
    usual, exhaustive = (infer_each(model, matrix, images, extras=some, method=m) for m in (None, "exhaustive"))
    assert (usual.scores == exhaustive.scores).all()
    with pytest.raises(
        InferenceError, match=r"expected prototypes in the extras of every mask, found none for 'task-2'"
    ):
        infer_each(model, matrix, images, extras=some, method="prototypes")


def test_a_run_uses_them_without_being_told(tmp_path):
    run = Run.create(tmp_path / "run", _model(), STREAM, batches=4)
    run.train()
    loaded = run.loaded
    assert Inference().chosen(loaded.model, loaded.matrix.names, loaded.extras).method == "prototypes"
    assert run.evaluate("GNu", Inference(images=16), limit=12).task_accuracy == 1.0


@pytest.mark.filterwarnings("ignore::supsup_models.errors.ImageValueWarning")
@pytest.mark.parametrize("size", [1e3, 1e18, 1e30, 3e38])
def test_no_score_of_large_images_is_nan(trained, size):
    model, matrix, extras = trained
    images = STREAM[0].test.images(slice(0, 4)) * size
    with suppress(ImageValueError):  # which says that they are too large
        scores = infer_each(model, matrix, images.clamp(-3e38, 3e38), extras=extras, method="prototypes").scores
        assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((10, 7), "f4"), r"shape \(10, 7\)"),
        (np.zeros((0, 256), "f4"), r"shape \(0, 256\)"),
        (np.zeros(256, "f4"), r"shape \(256,\)"),
        (np.full((2, 256), np.nan, "f4"), "NaN"),
    ],
)
def test_prototypes_of_another_network_are_refused(trained, value, words):
    model, matrix, extras = trained
    wrong = {**extras, "task-1": {**extras["task-1"], PROTOTYPES: value}}
    with pytest.raises(ShapeError, match=rf"extras 'prototypes' of 'task-1'.*{words}"):
        infer_each(model, matrix, STREAM[0].test.images(slice(0, 2)), extras=wrong)


def test_prototypes_that_are_no_numbers_are_refused(trained):
    model, matrix, extras = trained
    wrong = {**extras, "task-1": {**extras["task-1"], PROTOTYPES: "near"}}
    with pytest.raises(ArgumentTypeError, match="prototypes"):
        infer_each(model, matrix, STREAM[0].test.images(slice(0, 2)), extras=wrong)


def test_images_may_come_in_their_own_shape(trained):
    model, matrix, extras = trained
    flat = STREAM[1].test.images(slice(0, 6))
    for images in (flat.view(-1, 1, 8, 8), flat.view(-1, 1, 8, 8).numpy()):
        assert (
            infer_each(model, matrix, images, extras=extras).scores
            == infer_each(model, matrix, flat, extras=extras).scores
        ).all()
    with pytest.raises(ShapeError, match=r"expected shape \(b, 64\)"):
        infer_each(model, matrix, flat.view(-1, 8, 8), extras=extras)


def test_a_network_that_takes_its_weights_alone_trains_without_prototypes():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm, self.fc = nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10)

        def forward(self, x):
            return self.fc(self.norm(nn.functional.linear(x, self.layer.weight)))

    model = convert(Bare().eval(), weights="keep", head="fc", image_shape=(64,), classes=10)
    one = train_task(model, STREAM[0].train, RECIPES["backbone"], task=0, steps=1)
    assert PROTOTYPES not in one.extras
    matrix = MaskMatrix(model.spec)
    matrix.append("task-0", one.mask)
    images = STREAM[0].test.images(slice(0, 2))
    assert infer_each(model, matrix, images, extras={"task-0": one.extras}).tasks.tolist() == [0, 0]
    with pytest.raises(NoFeaturesError, match="expected masked layers whose outputs belong to one image each"):
        model.features(images)


def test_networks_without_features_say_so():
    plain = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
    matrix = MaskMatrix(plain.spec)
    matrix.append("a", plain.mask_of(plain.initial_scores(task=0)))
    with pytest.raises(NoFeaturesError, match="features: expected a network that `convert` made, found MaskedNetwork"):
        plain.features(torch.ones(2, 64))
    with pytest.raises(InferenceError, match="expected prototypes"):
        TaskInference(plain, matrix).infer_each(torch.ones(2, 64), method="prototypes")
    seeded = convert(_net(), image_shape=(1, 8, 8))
    with pytest.raises(NoFeaturesError, match=r"statistics of a batch \('1.running_mean'\)"):
        seeded.features(torch.ones(2, 64))
