"""One-shot inference with an allowed error: the same tasks, of which most masks were read in part only."""

import numpy as np
import pytest
import torch

from maskstore import Mask, MaskBank, MaskMatrix, open_index, write_index
from maskstore.masks import leader
from supsup_models import MaskedNetwork, TaskInference, infer_each, infer_task
from supsup_models.errors import ArgumentTypeError, InferenceError
from supsup_models.inference.objectives import make_objective
from supsup_models.inference.superposition import Superposition, mask_derivatives
from tests.helpers.masks import random_matrix
from tests.helpers.networks import network


@pytest.fixture(autouse=True)
def search_few_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches start with masks that are fast to make."""
    monkeypatch.setattr(leader, "READ_WHOLE", 0)


@pytest.fixture(scope="module")
def setting() -> tuple[MaskedNetwork, MaskMatrix, torch.Tensor, np.ndarray]:
    """Three masks among 2000 lean towards what lowers an image's entropy."""
    model = network((90, 60, 30, 12), classes=3, seed=1)
    matrix = random_matrix(model.spec, 2000)
    images = torch.randn(3, 90, generator=torch.Generator().manual_seed(0)) ** 3
    rows, rng = np.array([7, 1000, 1999]), np.random.default_rng(0)
    masks = list(matrix)
    for image, row in zip(images, rows, strict=True):
        wanted = mask_derivatives(model, model.weights / 2, image[None], make_objective("H", classes=3, outputs=12)) < 0
        masks[row] = Mask.from_flat(np.where(rng.random(model.spec.bits) < 0.5, wanted, masks[row].flat()), model.spec)
    return model, MaskMatrix(model.spec, masks), images, rows


def test_each_image_finds_its_task(setting) -> None:
    model, matrix, images, rows = setting
    exact = infer_each(model, matrix, images, method="one-shot")
    found = infer_each(model, matrix, images, method="one-shot", error=1e-4)
    assert found.tasks.tolist() == exact.tasks.tolist() == rows.tolist()
    best = np.arange(3), rows
    np.testing.assert_allclose(found.scores[best], exact.scores[best], rtol=1e-3)
    assert not np.allclose(found.scores, exact.scores, rtol=1e-3)  # the others are estimates


def test_a_batch_finds_its_task(setting) -> None:
    model, matrix, images, _ = setting
    for image in images.split(1):
        exact, found = (infer_task(model, matrix, image.repeat(4, 1), method="one-shot", error=e) for e in (0, 1e-4))
        assert found.task == exact.task == found.scores.argmax()


def test_an_index_gives_the_same_tasks(setting, tmp_path) -> None:
    model, matrix, images, rows = setting
    with MaskBank.create(tmp_path / "tasks.bank", model.spec) as bank:
        with bank.transaction():
            for name, mask in zip(matrix.names, matrix, strict=True):
                bank.put(name, mask)
        mapped = open_index(write_index(bank))
    inference, cost = TaskInference(model, mapped), make_objective("H", classes=3, outputs=12)
    found = inference.infer_each(images, method="one-shot", error=1e-4)
    assert found.tasks.tolist() == rows.tolist()
    np.testing.assert_array_equal(inference.infer_each(images, method="one-shot", error=1e-4).scores, found.scores)
    exact = infer_each(model, matrix, images, method="one-shot")
    np.testing.assert_allclose(
        inference.infer_each(images, method="one-shot").scores, exact.scores, rtol=1e-3, atol=1e-6
    )
    mixed = Superposition(model, mapped)
    assert mixed.usual(cost) is mixed.usual(cost)
    assert mixed.usual(cost) is not mixed.usual(make_objective("G", classes=3, outputs=12))


def test_few_masks_are_all_read(setting) -> None:
    model, matrix, images, _ = setting
    few = matrix.select(range(20))
    exact, found = (infer_task(model, few, images, method="one-shot", error=e) for e in (0, 1e-4))
    assert np.array_equal(exact.scores, found.scores)


def test_what_cannot_be_asked(setting) -> None:
    model, matrix, images, _ = setting
    for error in (-1, 1, float("nan")):
        with pytest.raises(InferenceError, match="error: expected a number"):
            infer_task(model, matrix, images, error=error)
    with pytest.raises(ArgumentTypeError, match="error"):
        infer_task(model, matrix, images, error="small")
    with pytest.raises(InferenceError, match="only one-shot has a bound"):
        infer_each(model, matrix, images, method="binary", error=0.1)
