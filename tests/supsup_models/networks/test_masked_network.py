"""The network: a mask is an argument, in any of its forms, and nothing of a call stays behind."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskstore import Mask, MaskSpec, MaskStoreError
from supsup_models import ARCHITECTURES, MaskedNetwork, SupSupError
from supsup_models.errors import DeviceError, NetworkError, ShapeError, UnknownNameError
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
    full = model(images)
    packed = model(images, mask)
    assert torch.equal(packed, model(images, {name: torch.from_numpy(layer) for name, layer in mask.dense().items()}))
    assert torch.equal(full, model(images, Mask.from_flat(np.ones(model.spec.bits, dtype=bool), model.spec)))
    assert not torch.equal(full, packed)
    assert torch.equal(full, model(images))


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
