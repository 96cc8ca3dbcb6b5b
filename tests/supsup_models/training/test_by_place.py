"""Training with channels side by side: only where it is safe, wherever it can be done, and with the same result."""

import pytest
import torch
from torch import Tensor, nn

from supsup_models import RECIPES, Adam, ConvertedModel, Recipe, convert, train_task
from supsup_models.networks.resnet import ResNet
from supsup_models.training.steps.by_place import ByPlace

SHAPE = (3, 8, 8)


class Viewing(nn.Module):
    """Asks for a view that tensors laid out by place do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, bias=False), nn.Linear(8 * 36, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        result: Tensor = self.head(x.view(len(x), -1))
        return result


def narrow_resnet() -> nn.Module:
    return ResNet((1, 1, 1, 1), bottleneck=False, width=6, outputs=5, channels=3, stem="cifar")


def wide_resnet() -> nn.Module:
    return ResNet((1, 1, 1, 1), bottleneck=False, width=16, outputs=5, channels=3, stem="cifar")


def plain_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 1),
        nn.Flatten(),
        nn.Linear(216, 5),
    )


def images(count: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, 192, generator=generator), torch.arange(count) % 5


@pytest.mark.parametrize(
    ("make", "laid_out"), [(plain_cnn, True), (wide_resnet, True), (narrow_resnet, False), (Viewing, False)]
)
def test_networks_are_laid_out_where_that_is_safe_and_can_be_done(make, laid_out):
    """A strided 1 x 1 convolution of few channels damages memory in oneDNN."""
    model = convert(make(), image_shape=SHAPE, classes=5)
    assert ByPlace(model, model.initial_extras())._laid_out is laid_out


def test_a_network_without_an_image_shape_or_of_vectors_is_called_as_it_is():
    for model in (convert(nn.Sequential(nn.Linear(6, 5))), convert(nn.Linear(6, 5), image_shape=(6,), classes=5)):
        assert not ByPlace(model, model.initial_extras())._laid_out


@pytest.mark.parametrize("make", [plain_cnn, wide_resnet, narrow_resnet, Viewing])
def test_the_logits_are_those_of_run_with(make):
    model = convert(make(), image_shape=SHAPE, classes=5)
    shown, _ = images(4)
    extras = model.initial_extras()
    weights = model.effective_weights(model.initial_scores(0)).detach()
    with torch.no_grad():
        expected = model.run_with(shown, weights, extras)
        assert torch.allclose(ByPlace(model, extras)(shown, weights, extras), expected, atol=1e-5)


def kept(module: nn.Module) -> ConvertedModel:
    return convert(module, weights="keep", image_shape=SHAPE, classes=5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [plain_cnn, wide_resnet, narrow_resnet, Viewing])
@pytest.mark.parametrize("recipe", ["backbone", "edge-popup"])
def test_every_such_network_trains(make, recipe):
    torch.manual_seed(0)
    if recipe == "backbone":
        model, how = kept(make()), RECIPES[recipe]
    else:
        model, how = convert(make(), mask="edge-popup", image_shape=SHAPE, classes=5), Recipe("short", Adam(1e-3))
    one, two = (train_task(model, images(), how, task=0, steps=12).mask for _ in range(2))
    assert one == two
