"""Masks on kept weights: nearly all ones, within a budget, with heads and normalisation of the task's own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from maskstore import KeptWeights, MaskBank
from supsup_models import (
    RECIPES,
    Kept,
    Recipe,
    convert,
    layer_densities,
    mask_accuracy,
    mask_densities,
    train_many,
    train_task,
)
from supsup_models.errors import ArgumentTypeError, LabelValueError, NetworkError, UnknownNameError
from supsup_models.networks.convert import ConvertedModel

RECIPE = replace(RECIPES["backbone"], batch_size=16)


def trained_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(128, 9)),
    ).eval()


def stripes(classes: int, seed: int, images: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Images with a bright row, whose place is the label."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    pixels = rng.normal(size=(images, 1, 8, 8)).astype("f4")
    pixels[np.arange(images), 0, labels + 1] += 1.5
    return pixels.reshape(images, 64), labels


def model_of(head: str | None = "7") -> ConvertedModel:
    own = () if head is None else ("norm",)
    return convert(trained_net(), weights="keep", head=head, own=own, image_shape=(1, 8, 8), classes=5)


def test_tasks_of_other_class_counts_are_learned_and_come_back_from_a_bank(tmp_path):
    model = model_of()
    backbone = model.backbone()
    with MaskBank.create(tmp_path / "tasks.bank", model.spec, meta=model.bank_meta()) as bank:
        for task, classes in enumerate((2, 5)):
            one = train_task(model, stripes(classes, task), RECIPE, task=task, steps=60)
            assert one.extras["7.weight"].shape == (classes, 128)
            assert 0.99 <= one.mask.density < 1
            bank.put(f"task-{task}", one.mask, extras=one.rounded(), prior=KeptWeights(backbone))
    with MaskBank.open(tmp_path / "tasks.bank", backbone=backbone) as bank:
        for task, classes in enumerate((2, 5)):
            name, test = f"task-{task}", stripes(classes, 9 + task)
            assert mask_accuracy(model, bank[name], test, bank.extras(name)) > 0.9


def test_training_is_the_same_again_and_leaves_the_network_as_it_was():
    model = model_of()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, two = (train_task(model, stripes(3, 0), RECIPE, task=1, steps=8) for _ in range(2))
    assert one.mask == two.mask
    assert all((one.extras[name] == two.extras[name]).all() for name in one.extras)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    (many,) = train_many(model, [_numbered(1, stripes(3, 0))], RECIPE, steps=8)
    assert many.mask == one.mask


def _numbered(number, data):
    from supsup_models import NumberedTask
    from supsup_models.data import labelled_images

    return NumberedTask(number, labelled_images(data))


@pytest.mark.parametrize("dropped", [0.0, 0.003, 0.05])
def test_no_mask_drops_more_than_the_budget(dropped):
    model = model_of()
    recipe = replace(RECIPE, kept=Kept(dropped=dropped, price=0.0))
    mask = train_task(model, stripes(3, 0), recipe, task=0, steps=30).mask
    assert mask.spec.bits - mask.ones <= round(dropped * mask.spec.bits)
    if dropped:
        assert mask.ones < mask.spec.bits


def test_a_price_that_is_too_high_drops_nothing():
    mask = train_task(model_of(), stripes(3, 0), replace(RECIPE, kept=Kept(price=9.0)), task=0, steps=20).mask
    assert mask.density == 1.0


def test_dropped_weights_are_small_ones():
    model = model_of()
    recipe = replace(RECIPE, kept=Kept(dropped=0.1, price=0.0))
    mask = train_task(model, stripes(3, 0), recipe, task=0, steps=40).mask
    kept = torch.cat([torch.from_numpy(layer).reshape(-1) for layer in mask.dense().values()])
    layers = model.layer_weights(model.weights)
    sizes = torch.cat([(weight.abs() / weight.square().mean().sqrt()).reshape(-1) for weight in layers])
    assert int((~kept).sum()) > 10
    assert sizes[~kept].max() < sizes[kept].median()


def test_rounded_extras_are_within_their_bound():
    one = train_task(model_of(), stripes(3, 0), RECIPE, task=0, steps=3)
    for bits in (2, 6, 16):
        for name, rounded in one.rounded(bits).items():
            bound = np.abs(one.extras[name]).max() / (2**bits - 2)
            assert np.abs(rounded.values - one.extras[name]).max() <= bound * (1 + 1e-5)
    with pytest.raises(NetworkError, match="2 to 16"):
        one.rounded(1)


def test_budgets_from_bits():
    for bits in (0.02, 0.15, 0.9):
        share = Kept.for_bits(bits).dropped
        assert -share * np.log2(share) - (1 - share) * np.log2(1 - share) == pytest.approx(bits, abs=1e-6)
    with pytest.raises(NetworkError, match="bits in"):
        Kept.for_bits(0.0)


def test_what_does_not_fit_is_named():
    seeded = convert(trained_net(), image_shape=(1, 8, 8))
    with pytest.raises(NetworkError, match="found weights from a seed"):
        seeded.backbone()
    with pytest.raises(NetworkError, match="threshold masks on kept weights"):
        train_task(seeded, stripes(3, 0), RECIPE, task=0, steps=2)
    with pytest.raises(LabelValueError):
        train_task(model_of(), stripes(3, 0), RECIPE, task=0, steps=2, classes=2)
    with pytest.raises(NetworkError, match="tasks have no heads"):
        train_task(model_of(None), stripes(3, 0), RECIPE, task=0, steps=2, classes=3)
    with pytest.raises(NetworkError, match="Adam alone"):
        Recipe("wrong", kept=Kept())
    for wrong in ({"dropped": 1.0}, {"price": -1.0}, {"own_rate": 0.0}):
        with pytest.raises(NetworkError, match="kept weights"):
            Kept(**wrong)


def test_layers_with_a_limit_of_their_own_drop_no_more():
    model = model_of()
    names = list(model.spec.shapes)
    first, second = names[0], names[1]
    kept = Kept(0.05, by_layer={first: 0.0, second: 0.02})
    free, limited = (
        train_task(model, stripes(5, 0), replace(RECIPE, kept=each), task=0, steps=30).mask
        for each in (Kept(0.05), kept)
    )
    dropped = {name: 1 - share for name, share in mask_densities(limited).items()}
    assert dropped[first] == 0.0 < 1 - mask_densities(free)[first]
    assert 0 < dropped[second] <= 0.02 < 1 - mask_densities(free)[second]
    assert 0 < 1 - limited.density <= 0.05


def test_equal_limits_of_all_layers_are_the_budget_of_all():
    model = model_of()
    kept = Kept(0.5, by_layer=layer_densities(model.spec.shapes, "uniform", 0.03))
    mask = train_task(model, stripes(5, 0), replace(RECIPE, kept=kept), task=0, steps=30).mask
    assert all(share >= 0.97 for share in mask_densities(mask).values())
    assert mask.density == pytest.approx(0.97, abs=2e-3)


@pytest.mark.parametrize(
    ("by_layer", "error", "says"),
    [
        ({"0.weight": 1.5}, NetworkError, r"expected '0.weight' of by_layer in \[0, 1\], found 1.5"),
        ({"0.weight": "much"}, ArgumentTypeError, "number"),
        ([0.1], ArgumentTypeError, "by_layer: expected shares by the names of layers"),
    ],
)
def test_wrong_budgets_of_layers_are_refused(by_layer, error, says):
    with pytest.raises(error, match=says):
        Kept(0.01, by_layer=by_layer)


def test_a_budget_of_a_layer_that_is_not_there_is_refused():
    recipe = replace(RECIPE, kept=Kept(0.01, by_layer={"3.wieght": 0.1}))
    with pytest.raises(UnknownNameError, match=r"3\.weight"):
        train_task(model_of(), stripes(5, 0), recipe, task=0, steps=1)
