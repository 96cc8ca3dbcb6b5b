"""Adam with a floor a layer."""

import pytest
import torch
from torch import Tensor

from supsup_models.training.optimisers import Adam
from supsup_models.training.steps.layer_adam import LayerAdam

CONFIG = Adam(0.1, betas=(0.9, 0.99))


def trained(sizes: tuple[Tensor, ...], floor: float, steps: int = 30) -> tuple[Tensor, ...]:
    """Scores of two layers after steps with gradients of these sizes and signs that a seed draws."""
    generator = torch.Generator().manual_seed(0)
    scores = tuple(torch.zeros_like(size) for size in sizes)
    gradients = tuple(torch.zeros_like(size) for size in sizes)
    adam = LayerAdam(scores, gradients, CONFIG, floor=floor)
    for _ in range(steps):
        for gradient, size in zip(gradients, sizes, strict=True):
            gradient.copy_(size * (0.5 + torch.rand(size.shape, generator=generator)))
        adam.step(0.1)
    return scores


SIZES = (torch.tensor([1.0, 1.0, 1e-3]), torch.tensor([1.0, 1e-3]))


def test_without_a_floor_it_is_adam() -> None:
    found = trained(SIZES, 0.0)
    generator = torch.Generator().manual_seed(0)
    wanted = [torch.zeros_like(size) for size in SIZES]
    adam = torch.optim.Adam(wanted, lr=0.1, betas=CONFIG.betas, eps=CONFIG.eps)
    for _ in range(30):
        for scores, size in zip(wanted, SIZES, strict=True):
            scores.grad = size * (0.5 + torch.rand(size.shape, generator=generator))
        adam.step()
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("scale", [1.0, 1e-2])
def test_a_score_moves_by_how_much_its_weight_matters(scale: float) -> None:
    """In units of the layer's gradients, so that the loss's scale does not count."""
    plain, floored = (trained(tuple(size * scale for size in SIZES), floor) for floor in (0.0, 1.0))
    assert plain[0][2] == pytest.approx(float(plain[0][0]), rel=0.1)
    assert floored[0][2].abs() < 0.01 * floored[0][0].abs()
    assert floored[0][0] == pytest.approx(float(plain[0][0]) / 2, rel=0.2)


def test_the_last_layer_has_no_floor() -> None:
    torch.testing.assert_close(trained(SIZES, 1.0)[1], trained(SIZES, 0.0)[1])
