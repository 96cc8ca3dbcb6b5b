"""Descent on alpha: it begins as one-shot, ends on the simplex's corner, and finds at least as many tasks."""

import numpy as np
import pytest
import torch

from maskstore import MaskMatrix
from supsup_models import MaskedNetwork, Recipe, RMSProp, infer_each, infer_task, train_task
from supsup_models.data import open_stream
from supsup_models.inference.methods import gradient
from supsup_models.inference.per_image import Mixture, UnpackedLayer
from tests.helpers.masks import random_matrix

TASKS, IMAGES = 6, 40


@pytest.mark.parametrize("gain", [1.0, 1.5])  # at 1.5 one-shot inference finds only some of the tasks
def test_it_finds_at_least_as_many_tasks_as_one_shot(gain: float) -> None:
    stream = open_stream("permuted-digits", tasks=TASKS)
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0, weight_gain=gain)
    recipe = Recipe("quick", RMSProp(3e-4), schedule="cosine", weight_gain=gain)
    matrix = MaskMatrix(model.spec)
    for task in stream:
        matrix.append(task.name, train_task(model, task.train, recipe, task=task.index, steps=80).mask)
    images = torch.cat([task.test.images(slice(0, IMAGES)) for task in stream])
    truth = np.repeat(np.arange(TASKS), IMAGES)
    found = {
        method: (infer_each(model, matrix, images, method=method).tasks == truth).mean()
        for method in ("one-shot", "gradient")
    }
    assert found["gradient"] >= found["one-shot"]
    assert found["gradient"] > (0.95 if gain == 1.0 else 0.3)


def test_one_step_ranks_as_one_shot_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient, "STEPS", 1)
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=20, seed=0)
    matrix = random_matrix(model.spec, 5)
    images = torch.randn(7, 64, generator=torch.Generator().manual_seed(0))
    for infer in (infer_task, infer_each):
        one = infer(model, matrix, images, method="one-shot").scores
        other = infer(model, matrix, images, method="gradient").scores
        assert np.array_equal(one.argsort(axis=-1), other.argsort(axis=-1))
        ahead = one - one.max(axis=-1, keepdims=True)
        spread = -ahead.mean(axis=-1, keepdims=True)
        np.testing.assert_allclose(other, gradient.RATE * ahead / spread, rtol=1e-3, atol=1e-3)


def test_a_mixture_takes_the_share_of_a_layers_outputs_in_both_passes() -> None:
    """Bit for bit: descent can multiply what rounding changes."""
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=20, seed=0)
    matrix, generator = random_matrix(model.spec, 5), torch.Generator().manual_seed(0)
    alpha = torch.rand(7, 5, generator=generator)
    activation = torch.randn(7, 300, generator=generator).requires_grad_()
    delta = torch.randn(7, 100, generator=generator)
    output = Mixture(model, UnpackedLayer(model, matrix), alpha)(1, activation)
    expected, back = torch.zeros(7, 100), torch.zeros(7, 300)
    for row in range(5):
        weight = model.layer_weights(model.masked_weights(matrix[row]))[1]
        share = alpha[:, row, None]
        expected += torch.nn.functional.linear(activation.detach(), weight) * share
        back += (delta * share) @ weight
    assert torch.equal(output, expected)
    assert torch.equal(torch.autograd.grad(output, activation, delta)[0], back)
