"""Task inference in networks that normalise, whose masks are sparse: each method, for an image and for a batch."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from maskstore import MaskMatrix
from supsup_models import ConvertedModel, Recipe, TaskInference, conv_4, convert, infer_each, infer_task, vit_tiny
from supsup_models.training.optimisers import Adam
from supsup_models.training.recipes import Sparse
from tests.helpers.methods import METHODS

RECIPE = Recipe("sparse", Adam(0.02), sparse=Sparse(0.3))
SHAPE = (1, 8, 8)


def with_group_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 12))


def inference_of(module: nn.Module) -> tuple[ConvertedModel, TaskInference]:
    model = convert(module, recipe=RECIPE, classes=3, image_shape=SHAPE)
    matrix = MaskMatrix(model.spec)
    for task in range(3):
        matrix.append(str(task), model.mask_of(model.initial_scores(task)))
    extras = {str(task): model.initial_statistics() for task in range(3)}
    return model, TaskInference(model, matrix, extras=extras)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "make", [lambda: conv_4(12, SHAPE), lambda: vit_tiny(12, SHAPE), with_group_norm], ids=["batch", "layer", "group"]
)
def test_an_image_is_judged_by_itself(make, method: str) -> None:
    _, inference = inference_of(make())
    images = torch.randn(7, 64, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = inference.infer_each(images, method=method)
        alone = [inference.infer(image, method=method) for image in images.split(1)]
        whole = inference.infer(images, method=method)
    assert np.isfinite(whole.scores).all()
    np.testing.assert_allclose(together.scores, np.stack([each.scores for each in alone]), rtol=2e-3, atol=1e-4)


def test_defaults_suit_the_masks() -> None:
    model, inference = inference_of(conv_4(12, SHAPE))
    assert (model.inference_method, model.objective) == ("one-shot", "G")
    images = torch.randn(4, 64)
    default, named = inference.infer_each(images), inference.infer_each(images, method="one-shot", objective="G")
    assert np.array_equal(default.scores, named.scores)
    edge_popup = convert(conv_4(12, SHAPE), mask="edge-popup", image_shape=SHAPE)
    assert (edge_popup.inference_method, edge_popup.objective) == ("exhaustive", "H")


def test_other_images_change_no_score() -> None:
    """Statistics of the superposition are those of noise, not of the batch."""
    model, _ = inference_of(conv_4(12, SHAPE))
    matrix = MaskMatrix(model.spec)
    for task in range(9):
        matrix.append(str(task), model.mask_of(model.initial_scores(task)))
    images = torch.randn(12, 64)
    first = infer_each(model, matrix, images, method="one-shot").scores[0]
    beside = torch.cat([images[:1], 3 * images[1:]])
    again = infer_each(model, matrix, beside, method="one-shot").scores[0]
    np.testing.assert_allclose(first, again, rtol=1e-5)
    np.testing.assert_allclose(first, infer_task(model, matrix, images[:1], method="one-shot").scores, rtol=1e-3)
