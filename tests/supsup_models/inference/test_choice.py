"""The default method is one that works in the network at hand; others say that they do not."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from maskstore import MaskMatrix
from supsup_models import (
    Calibration,
    Inference,
    MaskedModel,
    TaskInference,
    convert,
    infer_each,
    infer_task,
    mask_accuracy,
    serve,
)
from supsup_models.errors import (
    BatchStatisticsError,
    InferenceError,
    MethodWarning,
    MissingStatisticsError,
    UnknownNameError,
)
from supsup_models.inference import classify
from tests.helpers.networks import network

IMAGES = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))


def converted(norm: nn.Module, width: int = 8) -> MaskedModel:
    plain = nn.Sequential(nn.Linear(64, width), norm, nn.ReLU(), nn.Linear(width, 6))
    return convert(plain, image_shape=(64,))


NORMALISED = {
    "batch norm": lambda: converted(nn.BatchNorm1d(8)),
    "inside": lambda: converted(nn.Sequential(nn.Identity(), nn.BatchNorm1d(8, affine=False))),
    "momentum": lambda: converted(nn.BatchNorm1d(8, momentum=0.5)),
}
PLAIN = {
    "perceptron": lambda: network((64, 8, 6)),
    "sparse": lambda: network((64, 8, 6), classes=3, densities=(0.5, 0.5)),
    "layer norm": lambda: converted(nn.LayerNorm(8)),
    "no statistics": lambda: converted(nn.GroupNorm(2, 8)),
}


def masks_of(model: MaskedModel) -> MaskMatrix:
    return MaskMatrix(model.spec, [model.mask_of(model.initial_scores(t)) for t in range(3)], list("abc"))


def extras_of(model: MaskedModel) -> dict[str, dict[str, np.ndarray]]:
    return {name: {key: v.numpy() for key, v in model.initial_statistics().items()} for name in "abc"}


@pytest.mark.parametrize("kind", NORMALISED)
def test_networks_with_running_statistics_take_exhaustive_inference(kind: str) -> None:
    model = NORMALISED[kind]()
    matrix, extras = masks_of(model), extras_of(model)
    assert model.inference_method == "exhaustive"
    for ask in (infer_task, infer_each):
        found, named = (ask(model, matrix, IMAGES, method=m, extras=extras) for m in (None, "exhaustive"))
        assert np.array_equal(found.scores, named.scores)
    assert infer_task(model, matrix, IMAGES[:1], extras=extras).scores.shape == (3,)
    for method in ("one-shot", "binary", "gradient", "short-list"):
        with pytest.warns(
            MethodWarning, match=f"^{method} inference: .*hardly better than chance, .method=.exhaustive"
        ):
            infer_task(model, matrix, IMAGES, method=method, extras=extras)


@pytest.mark.parametrize("kind", PLAIN)
def test_other_networks_take_one_shot_inference(kind: str) -> None:
    model = PLAIN[kind]()
    matrix = masks_of(model)
    assert model.inference_method == "one-shot"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for ask in (infer_task, infer_each):
            found, named = (ask(model, matrix, IMAGES, method=m) for m in (None, "one-shot"))
            assert np.array_equal(found.scores, named.scores)
            ask(model, matrix, IMAGES, method="exhaustive")


def test_kept_weights_bring_statistics_for_tasks_that_have_none() -> None:
    plain = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6)).eval()
    model = convert(plain, weights="keep", image_shape=(64,))
    matrix = masks_of(model)
    assert model.inference_method == "exhaustive"
    together = infer_each(model, matrix, IMAGES)
    for number, image in enumerate(IMAGES.split(1)):  # no batch plays a part
        np.testing.assert_allclose(infer_task(model, matrix, image).scores, together.scores[number], rtol=1e-5)
        assert infer_task(model, matrix, image, method="one-shot").scores.shape == (3,)


def test_missing_statistics_are_named_to_a_python_caller() -> None:
    model = NORMALISED["batch norm"]()
    matrix, extras = masks_of(model), extras_of(model)
    del extras["b"]
    lacking = r"expected the normalisation statistics of every mask \(`extras`\), found .* and none given for 'b'"
    with pytest.raises(BatchStatisticsError, match=lacking + r"; training gives them, and `bank\.extras\(name\)` has"):
        infer_each(model, matrix, IMAGES, extras=extras)
    with pytest.raises(BatchStatisticsError, match=lacking):
        infer_task(model, matrix, IMAGES[:1], extras=extras)
    with pytest.warns(MethodWarning, match=lacking + "; those of the batch are used"):
        TaskInference(model, matrix, extras=extras).infer(IMAGES)
    with pytest.raises(BatchStatisticsError) as refused:
        infer_each(model, matrix, IMAGES, method="one-shot", extras=extras_of(model))
    assert str(refused.value) == (
        "one-shot inference of a single image: expected a network that treats each image by itself, found batch "
        "statistics in '1.running_mean'; `method=\"exhaustive\"` finds the task of a single image"
    )


def test_single_masks_without_their_statistics_are_refused_or_told() -> None:
    model = NORMALISED["batch norm"]()
    matrix, extras = masks_of(model), extras_of(model)
    with pytest.raises(MissingStatisticsError, match=r"extras: expected the task's statistics of .*, found none"):
        serve(model, matrix)(IMAGES, "a")
    with pytest.raises(MissingStatisticsError, match=r"extras: expected the task's statistics of .*, found none"):
        mask_accuracy(model, matrix["a"], (IMAGES, torch.zeros(6, dtype=torch.int64)))
    with pytest.warns(MethodWarning, match=r"\(`extras`\), found none given for 'a'; those of the batch are used"):
        classify(model, matrix, IMAGES, np.zeros(6, dtype=int))
    with pytest.warns(MethodWarning, match="none given for 'b'"):
        Calibration.fit(model, matrix, {"b": IMAGES})
    assert serve(model, matrix, extras=extras)(IMAGES, "a").shape == (6, 6)
    assert classify(model, matrix, IMAGES, np.zeros(6, dtype=int), extras).shape == (6, 6)


def test_an_evaluation_says_what_it_chose() -> None:
    model, other = NORMALISED["batch norm"](), PLAIN["sparse"]()
    assert Inference().chosen(model) == Inference("exhaustive", "H")
    assert Inference(images=4).chosen(other) == Inference("one-shot", "G", 4)
    assert Inference("binary", "H").chosen(other) == Inference("binary", "H")


@pytest.mark.parametrize("name", ["", "H ", "h"])
def test_an_empty_name_is_not_the_default(name: str) -> None:
    model = PLAIN["perceptron"]()
    with pytest.raises(UnknownNameError):
        infer_task(model, masks_of(model), IMAGES, objective=name)
    with pytest.raises(UnknownNameError):
        infer_task(model, masks_of(model), IMAGES, method=name)
    with pytest.raises(UnknownNameError):
        Inference(name)
    with pytest.raises((UnknownNameError, InferenceError)):
        Inference("one-shot", name)
