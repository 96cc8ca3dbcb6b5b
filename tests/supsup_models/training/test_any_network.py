"""The recipe of sparse masks on any network: one definition, and what normalisation layers make of it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supsup_models import RECIPES, Adam, ConvertedModel, MaskedNetwork, Recipe, conv_4, convert, vit_tiny
from supsup_models.errors import ArgumentTypeError, ConversionError, NetworkError
from supsup_models.networks import kept_weights
from supsup_models.training.recipes import Sparse
from supsup_models.training.steps import make_step
from tests.helpers.networks import network

SPARSE = Sparse(0.3, novelty_weight=0.7, one_shot_weight=0.4, rate_weight=0.01, start_density=0.5, one_shot_from=0.0)
RECIPE = Recipe("sparse", Adam(0.02), schedule="cosine", sparse=SPARSE)


def batch(inputs: int, size: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, inputs, generator=generator), torch.arange(size) % 3


def small(*parts: nn.Module, inputs: int = 12) -> ConvertedModel:
    module = nn.Sequential(nn.Linear(inputs, 10), *parts, nn.ReLU(), nn.Linear(10, 6))
    return convert(module, recipe=RECIPE, classes=3, image_shape=(inputs,))


@pytest.mark.parametrize(
    "sparse", [SPARSE, replace(SPARSE, novelty_weight=0.0), replace(SPARSE, one_shot_weight=0.0, rate_weight=0.0)]
)
def test_steps_by_hand_follow_the_definition(sparse: Sparse) -> None:
    model: MaskedNetwork = network((12, 9, 7, 6), classes=3, seed=3, densities=(0.2, 0.3, 0.4)).double()
    images, labels = batch(12)
    recipe, gradients = replace(RECIPE, sparse=sparse), []
    for stepping in ("fused", "autograd"):
        step = make_step(model, model.initial_scores(1), recipe, stepping=stepping, task=1, steps=40)
        for _ in range(3):
            step.step(images.double(), labels, 0.02)
        assert step.scores.grad is not None
        gradients.append(step.scores.grad)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_a_converted_perceptron_is_the_masked_one() -> None:
    """But for the spread, which is a mean there: without the one-shot loss, step for step."""
    masked = RECIPE.network("lenet-300-100", inputs=16, outputs=20, classes=10, seed=4)
    plain = masked.architecture.module(16, 20)
    converted = convert(plain, recipe=RECIPE, classes=10, image_shape=(16,), seed=4)
    assert torch.equal(masked.weights, converted.weights)
    assert masked.densities == converted.densities
    recipe = replace(RECIPE, sparse=replace(SPARSE, one_shot_weight=0.0))
    images, labels = batch(16)
    scores = []
    for model in (masked, converted):
        step = make_step(model, model.initial_scores(1), recipe, task=1, steps=10, stepping="autograd")
        step.step(images, labels, 0.02)
        scores.append(step.scores)
    torch.testing.assert_close(*scores)


def test_every_kind_of_network_trains() -> None:
    images, labels = batch(64)
    norms: list[nn.Module] = [nn.BatchNorm1d(10), nn.GroupNorm(2, 10), nn.LayerNorm(10)]
    models = [small(norm, inputs=64) for norm in norms]
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True), nn.ReLU(), nn.Flatten())
    convolutions = nn.Sequential(*plain, nn.Linear(144, 6))
    for module in (conv_4(6, (1, 8, 8)), vit_tiny(6, (1, 8, 8)), convolutions):
        models.append(convert(module, recipe=RECIPE, classes=3, image_shape=(1, 8, 8)))
    for model in models:
        step = make_step(model, model.initial_scores(0), RECIPE, steps=4)
        before = step.scores.detach().clone()
        for _ in range(2):
            assert torch.isfinite(step.step(images, labels, 0.02))
        assert torch.isfinite(step.scores).all()
        assert not torch.equal(before, step.scores)
        kept = [int(layer.sum()) for layer in model.layer_weights(model.subnet(step.scores.detach()))]
        assert model.densities is not None
        wanted = zip(model.spec, model.densities, strict=True)
        assert kept == [kept_weights(layer.size, density) for layer, density in wanted]


def test_outliers_leave_the_running_statistics_alone() -> None:
    model = small(nn.BatchNorm1d(10))
    images, labels = batch(12)
    found = []
    for weight in (0.0, 0.7):
        recipe = replace(RECIPE, sparse=replace(SPARSE, novelty_weight=weight, one_shot_weight=0.0))
        step = make_step(model, model.initial_scores(0), recipe, steps=4)
        step.step(images, labels, 0.02)
        found.append(step.statistics["1.running_mean"].clone())
    assert torch.equal(*found)


def test_a_mixture_has_statistics_of_its_own() -> None:
    """They make activations unit, whatever the scale of the weights, and depend on no image that is asked about."""
    model = small(nn.BatchNorm1d(10))
    for scale in (1.0, 0.01):
        weights = model.weights * scale
        statistics = model.mixture_statistics(weights)
        assert statistics is not None
        first, _ = model.layer_weights(weights)
        wanted = model.initial_statistics()
        noise = torch.randn(4000, 12)
        activations = F.linear(noise, first)
        assert statistics.keys() == wanted.keys()
        torch.testing.assert_close(statistics["1.running_var"], activations.var(dim=0), rtol=0.6, atol=0.0)
    assert small(nn.LayerNorm(10)).mixture_statistics(model.weights) is None


def test_a_trained_network_keeps_most_of_its_weights() -> None:
    module = nn.Sequential(nn.Linear(12, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 6))
    model = convert(module, recipe=RECIPE, weights="keep", classes=3, image_shape=(12,))
    assert model.densities == (0.95, 0.95)
    weights = module.get_parameter("0.weight")
    assert torch.equal(model.layer_weights(model.weights)[0], weights)
    images, labels = batch(12)
    step = make_step(model, model.initial_scores(0), RECIPE, steps=4)
    step.step(images, labels, 0.02)
    assert model.mask_of(step.scores).density == pytest.approx(0.95, abs=0.01)


def test_a_recipe_decides_what_it_decides() -> None:
    module = nn.Sequential(nn.Linear(12, 6))
    for beside in ({"density": 0.5}, {"sparsity": "er"}, {"weight_gain": 2.0}, {"mask": "edge-popup"}):
        with pytest.raises(ConversionError, match=f"{next(iter(beside))}: expected none beside a recipe"):
            convert(module, recipe=RECIPE, **beside)
    with pytest.raises(ArgumentTypeError, match=r"recipe: expected a Recipe, found .*'default'"):
        convert(module, recipe="default")  # type: ignore[arg-type]
    assert convert(module, recipe=RECIPES["dense"]).densities is None
    edge_popup = convert(module, recipe=RECIPES["edge-popup"], mask="edge-popup")
    assert edge_popup.conversion.mask == "edge-popup"
    sparse = convert(module, mask="sparse", density=0.25)
    assert sparse.densities == (0.25,)
    assert float(sparse.weights.abs()[0]) == pytest.approx((2 / 12 / 0.25) ** 0.5)


def test_superfluous_outputs_are_asked_for() -> None:
    model = convert(nn.Sequential(nn.Linear(12, 6)), recipe=RECIPE, image_shape=(12,))
    with pytest.raises(NetworkError, match="expected superfluous outputs"):
        make_step(model, model.initial_scores(0), RECIPE)


def test_half_of_the_last_layer_belongs_to_the_classes() -> None:
    """Else the losses at the superfluous outputs, of which there are many more weights, take nearly all of it."""
    images, labels = batch(64)
    model = convert(conv_4(40, (1, 8, 8)), recipe=RECIPES["default"], classes=3, image_shape=(1, 8, 8))
    step = make_step(model, model.initial_scores(0), RECIPES["default"], steps=4)
    for _ in range(4):
        step.step(images, labels, 0.02)
    mask = model.subnet(step.final_scores)
    *_, last = model.layer_weights(mask)
    assert model.densities is not None
    kept = kept_weights(last.numel(), model.densities[-1])
    assert (int(last[:3].sum()), int(last.sum())) == (min(kept // 2, last[:3].numel() // 2), kept)
    scores = model.layer_weights(step.scores.detach())[-1]
    for rows in (slice(0, 3), slice(3, None)):
        own, chosen = scores[rows], last[rows] > 0
        assert own[chosen].min() >= own[~chosen].max()
