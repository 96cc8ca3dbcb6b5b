"""Short-list inference against one-shot inference, which it approximates from below."""

import numpy as np
import pytest
import torch
from torch import nn

from maskstore import MaskMatrix
from supsup_models import MaskedNetwork, conv_4, convert, infer_each
from supsup_models.errors import MissingStatisticsError
from supsup_models.inference.methods import one_shot
from supsup_models.inference.objectives import OBJECTIVES
from supsup_models.inference.per_image import on_packed_bits
from tests.helpers.masks import random_matrix
from tests.helpers.networks import network


@pytest.fixture(scope="module")
def setting() -> tuple[MaskedNetwork, MaskMatrix, torch.Tensor]:
    model = network((45, 33, 17, 8), classes=3, seed=1)
    matrix = random_matrix(model.spec, 40)
    return model, matrix, torch.randn(29, 45, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_a_list_of_all_masks_is_one_shot(setting, objective: str, share: float, monkeypatch) -> None:
    model, matrix, images = setting
    monkeypatch.setattr(one_shot, "SHORT_LIST", len(matrix) + 3)
    monkeypatch.setattr(one_shot, "SKETCH_SHARE", share)
    exact = infer_each(model, matrix, images, method="one-shot", objective=objective)
    listed = infer_each(model, matrix, images, method="short-list", objective=objective)
    np.testing.assert_allclose(listed.scores, exact.scores, rtol=1e-4, atol=1e-6)


def test_what_is_on_the_list_has_its_exact_score(setting) -> None:
    model, matrix, images = setting
    exact = infer_each(model, matrix, images, method="one-shot").scores
    guess = infer_each(model, matrix, images, method="short-list")
    listed = np.isfinite(guess.scores)
    assert (listed.sum(axis=1) == (one_shot.SHORT_LIST if on_packed_bits(model) else len(matrix))).all()
    np.testing.assert_allclose(guess.scores[listed], exact[listed], rtol=1e-4, atol=1e-6)
    assert np.array_equal(guess.tasks, guess.scores.argmax(axis=1))


def test_in_double_precision_short_list_is_one_shot(setting) -> None:
    model, matrix, images = setting
    double = MaskedNetwork(model.architecture, inputs=45, outputs=8, seed=1, classes=3).double()
    assert not on_packed_bits(double)
    exact = infer_each(double, matrix, images, method="one-shot")
    guess = infer_each(double, matrix, images, method="short-list")
    assert np.array_equal(guess.scores, exact.scores)
    np.testing.assert_allclose(
        exact.scores, infer_each(model, matrix, images, method="one-shot").scores, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("mask", ["sparse", "threshold"])
def test_in_a_converted_network_the_best_few_run_by_themselves(mask: str, objective: str) -> None:
    module = conv_4(12, (1, 8, 8)) if mask == "sparse" else nn.Sequential(nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 12))
    density = {"density": 0.3} if mask == "sparse" else {}
    model = convert(module, mask=mask, classes=3, image_shape=(1, 8, 8) if density else (64,), **density)
    matrix = random_matrix(model.spec, 7)
    images = torch.randn(9, 64, generator=torch.Generator().manual_seed(0))
    extras = {name: model.initial_statistics() for name in matrix.names}
    first, alone, guess = (
        infer_each(model, matrix, images, method=method, objective=how, extras=extras).scores
        for method, how in (
            ("one-shot", objective),
            ("exhaustive", "H" if density else objective),
            ("short-list", objective),
        )
    )
    listed = np.isfinite(guess)
    assert (listed.sum(axis=1) == one_shot.SHORT_LIST).all()
    assert np.array_equal(listed, first >= np.sort(first, axis=1)[:, [-one_shot.SHORT_LIST]])
    if density:  # both decide
        alone = alone + first / np.sqrt((first**2).mean(axis=1, keepdims=True))
    np.testing.assert_allclose(guess[listed], alone[listed], rtol=1e-3, atol=1e-4)
    if density:
        with pytest.raises(MissingStatisticsError, match="expected the task's statistics"):
            infer_each(model, matrix, images, method="short-list", objective=objective)
