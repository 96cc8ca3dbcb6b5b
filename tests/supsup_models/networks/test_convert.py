"""Masks on modules that were not written here: running, switching, training, storing, exporting."""

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstore import Mask, MaskBank, MaskMatrix
from maskstore.priors import SeededScores, Uniform
from supsup_models import ConvertedModel, convert, infer_each, infer_task, mask_spec
from supsup_models.errors import MethodWarning, MissingMaskError
from supsup_models.networks import seeded


class UserMlp(nn.Module):
    """A user's network, with a bias, dropout and layer normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(12, 32)
        self.norm = nn.LayerNorm(32)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.tanh(self.norm(self.hidden(x)))))


class BasicBlock(nn.Module):
    """A residual block as users of torchvision write it."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


def user_resnet() -> nn.Module:
    shortcut = nn.Sequential(nn.Conv2d(6, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), BasicBlock(6, 6), BasicBlock(6, 8, 2, shortcut), nn.Flatten(), nn.Linear(128, 4)
    )


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(16, nhead=2, dim_feedforward=24, batch_first=True)


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "user mlp": (UserMlp, (12,)),
    "residual blocks": (user_resnet, (1, 8, 8)),
    "transformer encoder layer": (encoder_layer, (5, 16)),
}


GOLDEN_KAIMING = [1.72586584, -0.561114371, -0.701914251, -1.25714862]  # seed 5, layer 0, shape (2, 2)


def make(name: str, **options: Any) -> ConvertedModel:
    build, _ = MODULES[name]
    torch.manual_seed(7)
    return convert(build(), seed=3, **options)


def batch(name: str, count: int = 24) -> tuple[Tensor, Tensor]:
    """Inputs and targets: labels for classifiers, vectors for the encoder layer."""
    generator = torch.Generator().manual_seed(1)
    _, shape = MODULES[name]
    inputs = torch.randn(count, *shape, generator=generator)
    if name == "transformer encoder layer":
        return inputs, F.layer_norm(inputs.flip(1), (16,))
    return inputs, inputs.flatten(1)[:, :4].argmax(1)


def fit(
    model: ConvertedModel, name: str, steps: int = 30, task: int = 0
) -> tuple[Mask, dict[str, Tensor], list[float]]:
    """A user's own training loop, with any loss."""
    inputs, targets = batch(name)
    scores = model.initial_scores(task).requires_grad_()
    statistics = model.initial_statistics()
    optimiser = torch.optim.Adam([scores], lr=5e-3)
    losses = []
    for step in range(steps):
        with model.training_mode(step):
            output = model.run_with(inputs, model.effective_weights(scores), statistics)
        loss = F.mse_loss(output, targets) if targets.is_floating_point() else F.cross_entropy(output, targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return model.mask_of(scores), statistics, losses


@pytest.mark.parametrize("rule", ["threshold", "edge-popup"])
@pytest.mark.parametrize("name", MODULES)
def test_foreign_modules_train_store_and_export(name: str, rule: str, tmp_path: Path) -> None:
    model = make(name, mask=rule)
    mask, statistics, losses = fit(model, name)
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:3])
    assert fit(make(name, mask=rule), name, steps=6)[2] == losses[:6]  # dropout too comes from the seed

    extras = {key: value.numpy() for key, value in statistics.items()}
    with MaskBank.create(tmp_path / "masks.bank", model.spec) as bank:
        bank.put("task", mask, extras=extras, prior=model.prior(0))
    with MaskBank.open(tmp_path / "masks.bank") as bank:
        stored, stored_extras = bank["task"], bank.extras("task")
    assert stored == mask
    assert stored_extras.keys() == extras.keys()
    assert all(np.array_equal(stored_extras[key], extras[key]) for key in extras)

    inputs, _ = batch(name)
    with torch.no_grad():
        expected = model(inputs, mask, extras=statistics or None)
        assert torch.equal(make(name, mask=rule)(inputs, stored, extras=stored_extras or None), expected)
        dense = model.export(stored, stored_extras or None)
        assert torch.equal(dense(inputs), expected)
    assert type(dense) is type(MODULES[name][0]())
    plain = MODULES[name][0]().eval()
    plain.load_state_dict(dense.state_dict())  # the same keys and shapes as the module that came in
    with torch.no_grad():
        assert torch.equal(plain(inputs), expected)


def test_spec_names_parameters_in_module_order() -> None:
    assert mask_spec(encoder_layer()).shapes == {
        "self_attn.in_proj_weight": (48, 16),
        "self_attn.out_proj.weight": (16, 16),
        "linear1.weight": (24, 16),
        "linear2.weight": (16, 24),
    }
    assert mask_spec(nn.MultiheadAttention(8, 2, kdim=4, vdim=6)).shapes == {
        "q_proj_weight": (8, 8), "k_proj_weight": (8, 4), "v_proj_weight": (8, 6), "out_proj.weight": (8, 8)
    }  # fmt: skip
    convolutions = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Conv2d(2, 4, 3, groups=2), nn.Conv3d(1, 2, (1, 2, 3)))
    assert list(mask_spec(convolutions).shapes.values()) == [(4, 2, 3), (4, 1, 3, 3), (2, 1, 1, 2, 3)]
    assert mask_spec(nn.Linear(3, 2)).shapes == {"weight": (2, 3)}


def test_seeded_weights_biases_and_affine_parts() -> None:
    module = user_resnet()
    before = deepcopy(module.state_dict())
    model = convert(module, seed=5, weight_gain=2.0)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())  # left as it was
    for index, (layer, weight) in enumerate(zip(model.spec, model.layer_weights(model.weights), strict=True)):
        assert torch.equal(weight, seeded.weights(5, index, layer.shape, 2.0))
    assert not model.module[0].bias.any()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.prior(4) == SeededScores(seed=5, task=4)
    kaiming = convert(module, seed=5, weights="kaiming")
    assert torch.equal(kaiming.weights.sign(), model.weights.sign())  # so the same prior holds
    assert kaiming.prior(4) == model.prior(4)
    widest = kaiming.layer_weights(kaiming.weights)[2]
    assert float(widest.std()) == pytest.approx(math.sqrt(2 / seeded.fan_in(tuple(widest.shape))), rel=0.1)
    golden = seeded.kaiming_weights(5, 0, (2, 2))
    assert golden.flatten().tolist() == pytest.approx(GOLDEN_KAIMING, rel=1e-7)
    norm = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    norm[1].weight.data.fill_(3.0)
    assert float(convert(norm).module[1].weight[0]) == 1.0
    assert float(convert(norm, weights="keep").module[1].weight[0]) == 3.0
    assert float(convert(norm, skip="1").module[1].weight[0]) == 3.0


@pytest.mark.parametrize("rule", ["threshold", "edge-popup"])
def test_kept_weights_start_from_the_trained_network(rule: str) -> None:
    torch.manual_seed(0)
    module = user_resnet().train()
    inputs, _ = batch("residual blocks")
    module(inputs)
    module.eval()
    model = convert(module, weights="keep", mask=rule, **({"density": 1.0} if rule == "edge-popup" else {}))
    mask = model.mask_of(model.initial_scores(0))
    assert mask.density == 1.0
    with torch.no_grad():
        assert torch.equal(model(inputs, mask, extras=model.initial_statistics()), module(inputs))
    assert model.prior(0) == Uniform()
    loaded = convert(user_resnet(), weights="keep", mask=rule)
    loaded.load_state_dict(model.state_dict())  # kept weights and starting statistics are in the state dict
    assert torch.equal(loaded.weights, model.weights)
    if rule == "edge-popup":
        half = convert(module, weights="keep", mask=rule, density=0.5)
        first = half.layer_weights(half.weights)[0].abs().flatten()
        chosen = torch.from_numpy(half.mask_of(half.initial_scores(0)).layer(half.spec.layers[0].name)).flatten()
        assert first[chosen].min() >= first[~chosen].max()


def test_masks_are_applied_in_nested_blocks_and_never_stay() -> None:
    model = make("user mlp")
    inputs, _ = batch("user mlp")
    one, two = (model.mask_of(model.initial_scores(task)) for task in (1, 2))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        full, first, second = model.run_with(inputs, model.weights), model(inputs, one), model(inputs, two)
        with model.apply_mask(one) as masked:
            assert masked is model
            assert torch.equal(model(inputs), first)
            with pytest.raises(MissingMaskError):  # another model is not concerned
                make("user mlp")(inputs)
            with model.apply_mask(two):
                assert torch.equal(model(inputs), second)
                assert torch.equal(model(inputs, one), first)  # an argument goes before a block
            assert torch.equal(model(inputs), first)
            assert model.state_dict().keys() == before.keys()
        with pytest.raises(RuntimeError, match="boom"), model.apply_mask(one):
            raise RuntimeError("boom")
        with pytest.raises(MissingMaskError):
            model(inputs)
        assert torch.equal(model.run_with(inputs, model.weights), full)
        tensors = {name: torch.from_numpy(layer) for name, layer in one.dense().items()}
        assert torch.equal(model(inputs, tensors), first)
    assert not torch.equal(first, second)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert "weights" not in before  # the seed gives them back


def test_further_arguments_reach_the_module() -> None:
    model = make("transformer encoder layer")
    mask = model.mask_of(model.initial_scores(0))
    inputs, _ = batch("transformer encoder layer")
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    with torch.no_grad():
        output = model(inputs, mask, src_mask=causal)
        assert torch.allclose(output, model.export(mask)(inputs, src_mask=causal), atol=1e-6)
        assert not torch.allclose(output, model(inputs, mask), atol=1e-3)


def test_shared_weights_have_one_mask() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(11, 6)
            self.mix = nn.Linear(6, 6)
            self.head = nn.Linear(6, 11, bias=False)
            self.head.weight = self.embed.weight
            self.same = self.mix

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.same(self.mix(self.embed(tokens))))

    tied = convert(Tied(), embeddings=True, seed=1)
    assert tied.spec.shapes == {"embed.weight": (11, 6), "mix.weight": (6, 6)}
    tokens = torch.arange(11)
    mask = tied.mask_of(tied.initial_scores(0))
    dense = tied.export(mask)
    assert dense.head.weight is dense.embed.weight
    assert torch.equal(dense(tokens), tied(tokens, mask))
    with torch.no_grad():
        assert list(tied.state_dict()) == ["module.mix.bias", "module.same.bias"]
    assert list(mask_spec(Tied()).shapes) == ["mix.weight", "head.weight"]  # embeddings are masked on request only


def test_skipped_modules_are_left_as_they_are() -> None:
    module = user_resnet()
    model = convert(module, skip=("1", "*.downsample"))
    assert list(model.spec.shapes) == ["0.weight", "2.conv1.weight", "2.conv2.weight", "4.weight"]
    assert list(model.initial_statistics())[:2] == ["2.bn1.running_mean", "2.bn1.running_var"]
    running = model.module[1].bn1.running_mean.clone()
    fit(model, "residual blocks", steps=2)
    model.train()
    model(batch("residual blocks")[0], model.mask_of(model.initial_scores(0)))
    assert torch.equal(model.module[1].bn1.running_mean, running)  # the same for every task


def test_inference_of_tasks_by_batch_and_by_image() -> None:
    model = convert(UserMlp(), seed=3, image_shape=(12,), classes=3)
    assert (model.inputs, model.outputs, model.classes) == (12, 4, 3)
    matrix = MaskMatrix(model.spec, [model.mask_of(model.initial_scores(task)) for task in range(5)])
    inputs, _ = batch("user mlp", 6)
    for objective in ("H", "G"):
        for method in ("one-shot", "binary", "exhaustive"):
            whole = infer_task(model, matrix, inputs, method=method, objective=objective)
            assert whole.scores.shape == (5,)
            each = infer_each(model, matrix, inputs, method=method, objective=objective)
            single = [
                infer_task(model, matrix, inputs[i : i + 1], method=method, objective=objective) for i in range(6)
            ]
            np.testing.assert_allclose(each.scores, np.stack([guess.scores for guess in single]), rtol=1e-5, atol=1e-6)


def test_one_shot_is_the_derivative_by_each_masks_weight() -> None:
    model = convert(user_resnet(), seed=3, image_shape=(1, 8, 8)).double()
    masks = [model.mask_of(model.initial_scores(task)) for task in range(3)]
    inputs = batch("residual blocks")[0].flatten(1).double()
    alpha = torch.full((3,), 1 / 3, dtype=torch.float64, requires_grad=True)
    dense = torch.stack([torch.from_numpy(mask.flat()).double() for mask in masks])
    logits = model.run_with(inputs, model.weights * (alpha @ dense))
    log_p = torch.log_softmax(logits, dim=1)
    (-(log_p.exp() * log_p).sum(dim=1).mean()).backward()
    with pytest.warns(MethodWarning, match="batch statistics"):
        guess = infer_task(model, MaskMatrix(model.spec, masks), inputs, method="one-shot")
    assert alpha.grad is not None
    assert np.allclose(guess.scores, -alpha.grad.numpy(), rtol=1e-3, atol=1e-5)
