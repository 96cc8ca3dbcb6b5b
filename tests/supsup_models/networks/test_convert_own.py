"""What belongs to a task besides its mask: heads, biases, affine parts of normalisation."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskstore import Mask
from supsup_models import convert, infer_each
from supsup_models.errors import ConversionError, InferenceError, MissingStatisticsError, NetworkError, ShapeError
from supsup_models.networks.convert import ConvertedModel


class Small(nn.Module):
    """Convolutions with batch normalisation that have been trained a little, and a head of 7 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        self.fc = nn.Linear(8, 7)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.fc(self.body(images))
        return found


def small() -> Small:
    torch.manual_seed(0)
    net = Small().train()
    for _ in range(3):
        net(torch.randn(16, 1, 8, 8) * 2 + 1)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
    return net.eval()


IMAGES = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def ones(model: ConvertedModel) -> Mask:
    return Mask.from_flat(np.ones(model.spec.bits, dtype=bool), model.spec)


def random_extras(model: ConvertedModel, classes: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = model.final_extras(model.initial_extras(classes))
    return {name: torch.rand(value.shape, generator=generator) + 0.1 for name, value in found.items()}


@pytest.mark.parametrize("own", [(), ("norm",), ("bias",), ("bias", "norm")])
def test_the_mask_of_ones_gives_the_modules_own_answers(own):
    net = small()
    model = convert(net, weights="keep", own=own, image_shape=(1, 8, 8))
    with torch.no_grad():
        assert torch.equal(model(IMAGES, ones(model)), net(IMAGES))
        assert torch.equal(model.export(ones(model))(IMAGES), net(IMAGES))
        start = model.final_extras(model.initial_extras())
        assert torch.allclose(model(IMAGES, ones(model), extras=start), net(IMAGES), atol=1e-5)


def test_a_task_has_a_head_of_its_own_class_count():
    net = small()
    model = convert(net, weights="keep", head="fc", own=("bias", "norm"), image_shape=(1, 8, 8), classes=5)
    assert "fc.weight" not in model.spec.shapes
    assert (model.outputs, model.classes) == (5, 5)
    for classes in (2, 5):
        extras = random_extras(model, classes)
        assert set(extras) == set(model.own_parameters)  # running statistics are in the affine parts
        plain = model.export(ones(model), extras)
        assert plain.fc.out_features == classes
        with torch.no_grad():
            found = model(IMAGES, ones(model), extras=extras)
            assert found.shape == (5, classes)
            assert torch.equal(plain(IMAGES), found)
            padded = model.run_with(IMAGES, model.weights, extras)
            assert torch.equal(padded[:, :classes], found)
            assert padded.shape == (5, 5)
            assert padded.softmax(dim=1)[:, classes:].sum() == 0
            expected = net.body[1].weight + extras["body.1.weight"]
            assert torch.equal(plain.body[1].weight, expected)


def test_a_task_with_affine_parts_of_its_own_keeps_the_modules_statistics_in_training():
    own, shared = (convert(small(), weights="keep", own=parts, image_shape=(1, 8, 8)) for parts in (("norm",), ()))
    for model, mixes in ((own, False), (shared, True)):
        extras = model.initial_extras()
        assert ("body.1.running_var" in extras) == mixes
        before = {name: value.clone() for name, value in extras.items()}
        with torch.no_grad(), model.training_mode(0):
            beside, alone = (model.run_with(IMAGES[:rows], model.weights, extras)[:2] for rows in (5, 2))
        assert torch.allclose(beside, alone, atol=1e-5) != mixes  # whether images see those beside them
        assert all(torch.equal(extras[name], before[name]) for name in before) != mixes


def test_wrong_extras_are_named():
    model = convert(small(), weights="keep", head="fc", own="norm", image_shape=(1, 8, 8), classes=4)
    mask, good = ones(model), random_extras(model, 3)
    wrong = {
        r"1 to 4 classes": good | {"fc.weight": torch.zeros(5, 8), "fc.bias": torch.zeros(5)},
        "as many classes": good | {"fc.bias": torch.zeros(2)},
        r"'fc.weight': expected a head of shape": good | {"fc.weight": torch.zeros(3, 9)},
        r"'body.1.weight': expected shape \(6,\)": good | {"body.1.weight": torch.zeros(7)},
        "found no 'body.4.bias'": {name: value for name, value in good.items() if name != "body.4.bias"},
        "'more' beside them": good | {"more": torch.zeros(1)},
    }
    for message, extras in wrong.items():
        with pytest.raises(ShapeError, match=message):
            model(IMAGES, mask, extras=extras)
    for none in (None, "batch"):
        with pytest.raises(MissingStatisticsError, match=r"own head 'fc.weight'"):
            model(IMAGES, mask, extras=none)
    with pytest.raises(NetworkError, match="1 to 4 classes"):
        model.initial_extras(5)


def test_wrong_heads_are_named():
    net = small()
    with pytest.raises(ConversionError, match=r"found nothing there; 'fc' is one"):
        convert(net, weights="keep", head="head")
    bare = nn.Sequential(nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3, bias=False))
    with pytest.raises(ConversionError, match=r"with a bias, found one without; `layer\.bias = .*` gives it one"):
        convert(bare, weights="keep", head="2")
    with pytest.raises(ConversionError, match=r"found nothing there$"):  # the last one has no bias, others are no heads
        convert(bare, weights="keep", head="5")
    for classes in (0, -1):
        with pytest.raises(ConversionError, match=f"classes: expected at least 1, found {classes}"):
            convert(net, weights="keep", head="fc", image_shape=(1, 8, 8), classes=classes)
    with pytest.raises(ConversionError, match="found a Sequential"):
        convert(net, weights="keep", head="body")
    with pytest.raises(ConversionError, match='with `weights="keep"`'):
        convert(net, head="fc")
    two = nn.Sequential(nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3))
    with pytest.raises(ConversionError, match="makes the 3 logits, found one of 9"):
        convert(two, weights="keep", head="0", image_shape=(64,))
    with pytest.raises(ConversionError, match="'norm' parameters in Sequential"):
        convert(two, weights="keep", own="norm")


def test_task_inference_runs_each_mask_with_its_head():
    from maskstore import MaskMatrix

    model = convert(small(), weights="keep", head="fc", own="norm", image_shape=(1, 8, 8), classes=4)
    matrix, extras = MaskMatrix(model.spec), {}
    for task, classes in enumerate((2, 4)):
        matrix.append(f"task-{task}", ones(model))
        extras[f"task-{task}"] = random_extras(model, classes, task)
    images = IMAGES.flatten(1)
    assert model.inference_method == "exhaustive"
    assert infer_each(model, matrix, images, extras=extras).scores.shape == (5, 2)
    with pytest.raises(InferenceError, match=r"'fc.weight' of their own"):
        infer_each(model, matrix, images, method="one-shot", extras=extras)
    with pytest.raises(MissingStatisticsError, match="found none for 'task-0'"):
        infer_each(model, matrix, images)
