"""Images of one batch under many masks get what each gets under its own mask."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstore import MaskBank, MaskMatrix
from supsup_models import MaskedNetwork, convert, mixed_logits
from supsup_models.errors import ArgumentTypeError, ImageValueError, MissingStatisticsError, ShapeError
from supsup_models.networks import MaskedModel, resnet_18_20


def conv_net() -> nn.Module:
    """Strides, dilation, groups, paddings of all kinds, a bias and a kernel that is not square."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding="same", groups=2),
        nn.ReLU(),
        nn.Conv2d(8, 6, (3, 2), dilation=2, stride=(1, 3), padding=(2, 1), padding_mode="reflect"),
        nn.Flatten(),
        nn.Linear(6 * 8 * 3, 7),
    )


class Tokens(nn.Module):
    """Linear layers over tokens, and a convolution in one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.narrow, self.out = nn.Linear(12, 20), nn.Conv1d(20, 9, 3, padding="valid"), nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.mix(x.reshape(len(x), 5, 12)))
        return self.out(torch.relu(self.narrow(y.mT)).mean(2))


class TokensFirst(nn.Module):
    """As many tokens as a batch may have images, and the images second: what a layer takes is no row an image."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens, self.out = tokens, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.reshape(len(x), self.tokens, 4).transpose(0, 1)).mean(0)


class Squared(nn.Module):
    """A layer that does more with its weights than to multiply them with what it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.fc.weight.square(), self.fc.bias)


MODELS = {
    "perceptron": lambda: MaskedNetwork("lenet-300-100", inputs=70, outputs=20, seed=0),
    "sparse": lambda: MaskedNetwork("lenet-300-100", inputs=70, outputs=20, seed=0, densities=(0.1, 0.1, 0.2)),
    "conv": lambda: convert(conv_net(), image_shape=(3, 16, 16)),
    "kept": lambda: convert(conv_net(), weights="keep", mask="sparse", density=0.4, image_shape=(3, 16, 16)),
    "resnet": lambda: convert(resnet_18_20(outputs=5), mask="edge-popup", density=0.3, image_shape=(3, 8, 8)),
    "tokens": lambda: convert(Tokens(), image_shape=(60,)),
    "tokens-first": lambda: convert(TokensFirst(9), image_shape=(36,)),
    "squared": lambda: convert(Squared(), image_shape=(12,)),
}
ONE_BY_ONE = ("tokens-first", "squared")


def masks_of(model: MaskedModel, count: int) -> tuple[MaskMatrix, dict[str, dict[str, Tensor]]]:
    """Masks that differ, also where all scores start alike, with statistics of their own."""
    drawn = torch.Generator().manual_seed(0)
    matrix, extras = MaskMatrix(model.spec), {}
    for number in range(count):
        scores = model.initial_scores(number)
        noisy = scores + scores.abs().max() * torch.randn(len(scores), generator=drawn)
        matrix.append(f"task-{number}", model.mask_of(noisy))
        start = model.initial_statistics()
        if start:
            extras[f"task-{number}"] = {n: v + (1 + torch.rand(v.shape, generator=drawn)) for n, v in start.items()}
    return matrix, extras


@pytest.fixture(params=list(MODELS))
def model(request) -> MaskedModel:
    torch.manual_seed(0)
    return MODELS[request.param]()


def one_by_one(model, matrix, images, tasks, extras) -> Tensor:
    with torch.no_grad():
        rows = [
            model.run_with(images[i : i + 1], model.masked_weights(matrix[task]), extras.get(task))
            for i, task in enumerate(tasks)
        ]
    return torch.cat(rows)


@pytest.mark.parametrize("images", [1, 9, 40])
def test_a_mixed_batch_equals_a_pass_for_each_image(model, images):
    matrix, extras = masks_of(model, 6)
    rng = np.random.default_rng(images)
    drawn = torch.Generator().manual_seed(images)
    x = torch.randn(images, model.inputs, generator=drawn)
    tasks = [f"task-{number}" for number in rng.choice(6, images, p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])]
    found, wanted = mixed_logits(model, matrix, x, tasks, extras=extras), one_by_one(model, matrix, x, tasks, extras)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_packed_bits_are_used_where_they_can_be(model, request):
    matrix, extras = masks_of(model, 3)
    unpacked: list[object] = []
    original = type(model).masked_weights
    x = torch.randn(3, model.inputs, generator=torch.Generator().manual_seed(1))
    mixed_logits(model, matrix, x, list(matrix.names), extras=extras)  # a module is tried once
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "masked_weights", lambda self, mask: unpacked.append(mask) or original(self, mask))
        mixed_logits(model, matrix, x, list(matrix.names), extras=extras)
    name = request.node.callspec.params["model"]
    assert len(unpacked) == (3 if name in ONE_BY_ONE else 0)


def test_an_image_does_not_feel_those_beside_it():
    model = MODELS["perceptron"]()
    matrix, _ = masks_of(model, 20)
    x = torch.randn(20, 70, generator=torch.Generator().manual_seed(2))
    together = mixed_logits(model, matrix, x, list(matrix.names))
    for image in (0, 7, 19):
        alone = mixed_logits(model, matrix, x[image : image + 1], [matrix.names[image]])
        assert torch.equal(alone[0], together[image])


def test_a_bank_and_its_statistics_serve_as_well(tmp_path):
    model = MODELS["conv"]()
    matrix, extras = masks_of(model, 3)
    with MaskBank.create(tmp_path / "m.bank", model.spec) as bank:
        for name in matrix.names:
            bank.put(name, matrix[name], extras={key: value.numpy() for key, value in extras[name].items()})
        x = torch.randn(3, model.inputs, generator=torch.Generator().manual_seed(3))
        found = mixed_logits(model, bank, x, list(matrix.names))
    assert torch.equal(found, mixed_logits(model, matrix, x, list(matrix.names), extras=extras))


def test_what_cannot_be_meant_is_refused():
    model = MODELS["perceptron"]()
    matrix, _ = masks_of(model, 2)
    x = torch.zeros(2, 70)
    with pytest.raises(ShapeError, match="a name for each of 2 images, found 1"):
        mixed_logits(model, matrix, x, ["task-0"])
    with pytest.raises(KeyError):
        mixed_logits(model, matrix, x, ["task-0", "task-9"])
    with pytest.raises(ArgumentTypeError, match="names of tasks"):
        mixed_logits(model, matrix, x, [0, 1])
    with pytest.raises(ImageValueError):
        mixed_logits(model, matrix, x / 0, ["task-0", "task-1"])
    conv = MODELS["conv"]()
    with pytest.raises(MissingStatisticsError):
        mixed_logits(conv, masks_of(conv, 1)[0], torch.zeros(1, conv.inputs), "task-0")
