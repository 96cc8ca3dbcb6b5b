"""The network: a mask is an argument, in any of its forms, and nothing of a call stays behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad

from maskstore import Mask, MaskBank, MaskSpec, MaskStoreError
from maskstore.masks import bits
from supsup_models import ARCHITECTURES, MaskedNetwork, SupSupError, convert
from supsup_models.errors import (
    ArgumentTypeError,
    DeviceError,
    MissingMaskError,
    NetworkError,
    ShapeError,
    UnknownNameError,
)
from supsup_models.networks import MultilayerPerceptron
from supsup_models.networks.mask_loops import times_bits
from tests.helpers.masks import random_mask
from tests.helpers.networks import network


@pytest.fixture
def model() -> MaskedNetwork:
    return network((6, 7, 5, 4), classes=3, seed=1)


def test_the_published_networks_have_the_published_sizes() -> None:
    lenet = MaskedNetwork("lenet-300-100", inputs=784, outputs=100, seed=0)
    assert dict(lenet.spec.shapes) == {"fc1": (300, 784), "fc2": (100, 300), "fc3": (100, 100)}
    assert lenet.spec.bits == 275_200
    wide = MaskedNetwork("fc-1024-1024", inputs=784, outputs=500, seed=0)
    assert list(wide.spec.shapes.values()) == [(1024, 784), (1024, 1024), (500, 1024)]
    assert set(ARCHITECTURES) == {"lenet-300-100", "fc-1024-1024"}


def test_forward_is_relu_layers_under_the_mask(model: MaskedNetwork) -> None:
    mask = random_mask(model.spec, 0.5, 0)
    images = torch.randn(9, 6)
    weights = [w * torch.from_numpy(mask.layer(f"fc{i + 1}")) for i, w in enumerate(model.layer_weights(model.weights))]
    expected = F.linear(F.relu(F.linear(F.relu(F.linear(images, weights[0])), weights[1])), weights[2])
    assert torch.equal(model(images, mask), expected)


def test_mask_forms_are_equal_and_leave_nothing_behind(model: MaskedNetwork) -> None:
    mask = random_mask(model.spec, 0.5, 1)
    images = torch.randn(3, 6)
    full = model.run_with(images, model.weights)
    packed = model(images, mask)
    assert torch.equal(packed, model(images, {name: torch.from_numpy(layer) for name, layer in mask.dense().items()}))
    assert torch.equal(full, model(images, Mask.from_flat(np.ones(model.spec.bits, dtype=bool), model.spec)))
    assert torch.equal(packed, model(images, mask.dense()))
    assert not torch.equal(full, packed)
    for nothing in ((), (None,)):
        with pytest.raises(MissingMaskError, match="expected a mask"):
            model(images, *nothing)
    for other in ("task-0", 3, torch.ones(6)):
        with pytest.raises(ArgumentTypeError, match="expected a Mask or a dict"):
            model(images, other)
    plain = model.export(mask)
    assert torch.equal(plain(images), packed)
    assert list(plain.state_dict()) == [f"{name}.weight" for name in model.spec.shapes]
    assert torch.equal(model.run_with(images, model.weights), full)


def test_weights_are_frozen_and_not_saved(model: MaskedNetwork) -> None:
    assert not list(model.parameters())
    assert not model.weights.requires_grad
    assert not model.state_dict()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"arch": "lenet-300"}, UnknownNameError),
        ({"inputs": 0}, NetworkError),
        ({"classes": 11}, NetworkError),
        ({"classes": 0}, NetworkError),
        ({"weight_gain": 0.0}, NetworkError),
        ({"weight_gain": float("nan")}, NetworkError),
        ({"weight_gain": float("inf")}, NetworkError),
    ],
)
def test_networks_that_cannot_be(arguments: dict[str, object], error: type[SupSupError]) -> None:
    valid: dict[str, object] = {"arch": "lenet-300-100", "inputs": 4, "outputs": 10, "seed": 0}
    with pytest.raises(error):
        MaskedNetwork(**{**valid, **arguments})  # type: ignore[arg-type]


def test_a_typo_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'lenet-300-100'"):
        MaskedNetwork("lenet-300-10", inputs=4, outputs=10, seed=0)


def test_images_and_masks_of_other_networks_are_refused(model: MaskedNetwork) -> None:
    with pytest.raises(ShapeError, match=r"expected shape \(b, 6\)"):
        model(torch.zeros(2, 7))
    with pytest.raises(ShapeError, match=r"images: expected torch\.float32, that of the weights, found"):
        model(torch.zeros(2, 6).double())
    with pytest.raises(ShapeError, match="images: expected a tensor, found ndarray"):
        model(torch.zeros(2, 6).numpy())
    with pytest.raises(ShapeError, match="mask"):
        model(torch.zeros(2, 6), random_mask(MaskSpec({"fc1": (7, 6)}), 0.5, 0))
    with pytest.raises(MaskStoreError, match="fc2"):
        model(torch.zeros(2, 6), {"fc1": torch.ones(7, 6)})


def test_images_on_another_device_are_named() -> None:
    model = MaskedNetwork("lenet-300-100", inputs=4, outputs=3, seed=0)
    with pytest.raises(DeviceError, match="images: expected them on cpu, where the weights are, found meta"):
        model(torch.zeros(2, 4, device="meta"))


@pytest.mark.parametrize(
    ("arch", "densities"),
    [("lenet-300-100", None), ("lenet-300-100", (0.1, 0.2, 0.5)), (MultilayerPerceptron("own", (7, 5)), None)],
)
def test_a_bank_gives_its_network_back(
    arch: str | MultilayerPerceptron, densities: tuple[float, ...] | None, tmp_path: Path
) -> None:
    model = MaskedNetwork(arch, inputs=6, outputs=4, seed=2**64 - 1, classes=3, weight_gain=1.25, densities=densities)
    path, images, mask = tmp_path / "masks.bank", torch.randn(3, 6), random_mask(model.spec, 0.5, 0)
    with MaskBank.create(path, model.spec, meta=model.bank_meta()) as bank:
        bank.put("task-0", mask)
    with MaskBank.open(path) as bank:
        again = MaskedNetwork.from_bank(bank)
        assert torch.equal(again.weights, model.weights)
        assert torch.equal(again(images, bank["task-0"]), model(images, mask))
    assert repr(again) == repr(model)
    assert again.bank_meta() == model.bank_meta() == bank.meta


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"seed": None}, r"expected 'seed' in its meta, found classes, inputs, .*; meta=model.bank_meta\(\)"),
        ({"model": None}, "expected 'model' in its meta"),
        ({"seed": "0"}, "expected int as 'seed' in its meta, found '0'"),
        ({"outputs": True}, "expected int as 'outputs' in its meta, found True"),
        ({"densities": "half"}, "expected numbers as 'densities' in its meta, found 'half'"),
        ({"outputs": 5}, r"expected masks of layers .*\(5, 5\).*, as its meta says"),
        ({"model": "lenet-300-100"}, "expected masks of layers .*300"),
        ({"weights": "kaiming"}, "expected masks of a MaskedNetwork, found 'weights' of a converted model"),
    ],
)
def test_a_bank_that_does_not_say_what_its_network_needs_is_refused(
    change: dict[str, Any], phrase: str, model: MaskedNetwork, tmp_path: Path
) -> None:
    meta = {name: value for name, value in {**model.bank_meta(), **change}.items() if value is not None}
    with (
        MaskBank.create(tmp_path / "masks.bank", model.spec, meta=meta) as bank,
        pytest.raises(NetworkError, match=phrase),
    ):
        MaskedNetwork.from_bank(bank)


def test_a_bank_of_a_converted_model_is_refused(tmp_path: Path) -> None:
    model = convert(MultilayerPerceptron("small", (7, 5)).module(6, 4), image_shape=(6,))
    with (
        MaskBank.create(tmp_path / "masks.bank", model.spec, meta=model.bank_meta()) as bank,
        pytest.raises(NetworkError, match="found 'image_shape' of a converted model"),
    ):
        MaskedNetwork.from_bank(bank)


@pytest.mark.parametrize("inputs", [1, 63, 64, 65, 1000])
def test_the_loop_over_packed_bits_is_the_product(inputs: int) -> None:
    values = np.random.default_rng(inputs).normal(size=inputs).astype("f4")
    kept = np.random.default_rng(0).random(inputs) < 0.7
    out = np.full(inputs, np.nan, dtype="f4")
    times_bits(bits.pack(kept), values, out)
    assert np.array_equal(out.view("u4"), (values * kept).view("u4"))  # the signs of zeros as well


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own, of forward derivatives
def test_many_weights_are_multiplied_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network((6, 8, 3))
    mask = model.mask_of(model.initial_scores(0))
    expected = model.masked_weights(mask)
    monkeypatch.setattr("supsup_models.networks.masked_product._MANY", 0)
    assert torch.equal(model.masked_weights(mask), expected)
    weights = model.weights.clone()
    model.weights = weights.clone().requires_grad_()
    model.masked_weights(mask).sum().backward()
    assert torch.equal(model.weights.grad, (expected != 0).float())
    model.weights = weights
    with forward_ad.dual_level():
        model.weights = forward_ad.make_dual(weights, torch.ones_like(weights))
        tangent = forward_ad.unpack_dual(model.masked_weights(mask)).tangent
    assert torch.equal(tangent, (expected != 0).float())
