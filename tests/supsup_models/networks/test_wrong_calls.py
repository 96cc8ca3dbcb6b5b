"""What a caller gives to a network by mistake is an error of ours: torch's own come from the module's code alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maskstore import MaskMatrix
from supsup_models import MaskedNetwork, convert, infer_each, infer_task, mask_accuracy, train_task
from supsup_models.errors import (
    ArgumentTypeError,
    BatchStatisticsError,
    DeviceError,
    NetworkError,
    ShapeError,
    StatisticsError,
)
from supsup_models.training import RECIPES

CONVERTED = convert(nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)), image_shape=(8,))
OPEN = convert(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3)))  # takes whatever its module takes
SEEDED = MaskedNetwork("lenet-300-100", inputs=8, outputs=3, seed=0)
X = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
PIXELS = (X.abs() * 50).byte()
MASK = CONVERTED.mask_of(CONVERTED.initial_scores(0))
STATISTICS = CONVERTED.initial_statistics()


@pytest.mark.parametrize("images", [PIXELS, PIXELS.int(), PIXELS > 3, X.to(torch.complex64)], ids=str)
@pytest.mark.parametrize(
    "call",
    [
        lambda x: CONVERTED(x, MASK, extras=STATISTICS),
        lambda x: CONVERTED.bind(MASK, STATISTICS)(x),
        lambda x: CONVERTED.run_with(x, CONVERTED.weights, STATISTICS),
        lambda x: SEEDED.run_with(x, SEEDED.weights),
        lambda x: SEEDED(x, SEEDED.mask_of(SEEDED.initial_scores(0))),
    ],
)
def test_images_of_another_dtype(call: Callable[[Tensor], Any], images: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"images: expected torch.float32, that of the weights, found"):
        call(images)


def test_a_module_of_any_input_names_what_it_surely_does_not_take() -> None:
    mask = OPEN.mask_of(OPEN.initial_scores(0))
    for images in (PIXELS, X.double()):
        with pytest.raises(ShapeError, match=r"images: expected torch.float32") as caught:
            OPEN(images, mask)
        assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(ShapeError, match=r"expected a dense tensor, found torch.sparse_coo"):
        convert(nn.Conv1d(1, 1, 3))(torch.ones(1, 1, 8).to_sparse(), {"weight": torch.ones(1, 1, 3, dtype=torch.bool)})


def test_an_input_that_a_layer_does_not_take_is_named_with_the_layer() -> None:
    mask = OPEN.mask_of(OPEN.initial_scores(0))
    with pytest.raises(
        ShapeError, match=r"that layer '0' \(Linear\) can compute with, found \(2, 5\).*mat1 and mat2"
    ) as e:
        OPEN(X[:, :5], mask)
    assert isinstance(e.value.__cause__, RuntimeError)
    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    model = convert(plain)
    mask, statistics = model.mask_of(model.initial_scores(0)), model.initial_statistics()
    for x, layer in (
        (X[:, :5], "'0' .Conv2d"),
        (torch.ones(2, 3, 4, 4), "'0' .Conv2d"),
        (torch.ones(2, 1, 9, 9), "'3' .L"),
    ):
        with pytest.raises(ShapeError, match=f"input: expected a shape that layer {layer}"):
            model(x, mask, extras=statistics)
    with pytest.raises(ShapeError, match=r"a shape that the Linear can compute with, found \(2, 5\)"):
        convert(nn.Linear(8, 3)).bind({"weight": torch.ones(3, 8, dtype=torch.bool)})(X[:, :5])


def test_an_error_of_the_modules_own_code_comes_as_it_is() -> None:
    class Adding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x) + torch.ones(7)

    model = convert(Adding())
    with pytest.raises(RuntimeError, match="must match the size"):
        model(X, model.mask_of(model.initial_scores(0)))


def test_a_network_without_an_image_shape_says_that_it_takes_no_images() -> None:
    mask = OPEN.mask_of(OPEN.initial_scores(0))
    for call in (
        lambda: infer_task(OPEN, MaskMatrix(OPEN.spec, [mask, mask]), X),
        lambda: infer_each(OPEN, MaskMatrix(OPEN.spec, [mask, mask]), X),
        lambda: mask_accuracy(OPEN, mask, (X, torch.zeros(2, dtype=torch.int64))),
    ):
        with pytest.raises(NetworkError, match="expected one converted with image_shape"):
            call()


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("1.running_var", -1.0, "a variance of at least 0 for each channel, found -1 for channel 2"),
        ("1.running_var", np.nan, "a variance of at least 0 for each channel, found nan for channel 2"),
        ("1.running_var", np.inf, "a variance of at least 0 for each channel, found inf for channel 2"),
        ("1.running_mean", np.nan, "a finite mean for each channel, found nan for channel 2"),
    ],
)
def test_statistics_that_no_network_has(name: str, value: float, found: str) -> None:
    extras = {each: tensor.clone() for each, tensor in STATISTICS.items()}
    extras[name][2] = value
    arrays = {each: tensor.numpy() for each, tensor in extras.items()}
    matrix = MaskMatrix(CONVERTED.spec, [MASK, MASK])
    for given in (extras, arrays):
        for call in (
            lambda given=given: CONVERTED(X, MASK, extras=given),
            lambda given=given: CONVERTED.bind(MASK, given),
            lambda given=given: CONVERTED.export(MASK, given),
            lambda given=given: CONVERTED.run_with(X, CONVERTED.weights, given),
            lambda given=given: infer_task(
                CONVERTED, matrix, X, method="exhaustive", extras={"0": STATISTICS, "1": given}
            ),
        ):
            with pytest.raises(StatisticsError, match=f"extras '{name}': expected {found}"):
                call()


def test_statistics_that_have_gradients_serve() -> None:
    extras = {name: tensor.clone().requires_grad_() for name, tensor in STATISTICS.items()}
    assert torch.equal(CONVERTED(X, MASK, extras=extras), CONVERTED(X, MASK, extras=STATISTICS))


@pytest.mark.parametrize("model", [CONVERTED, SEEDED, convert(nn.Linear(8, 3), mask="edge-popup")])
def test_scores_and_mean_masks_are_flat_tensors(model: Any) -> None:
    flat = torch.zeros(model.spec.bits)
    for wrong, error in (("a", ArgumentTypeError), (3, ArgumentTypeError), (flat[:5], ShapeError)):
        for call in (model.subnet, lambda x: model.mean_scores(x, flat), lambda x: model.mean_scores(flat, x)):
            with pytest.raises(error, match=r"expected .*found"):
                call(wrong)


def test_a_module_that_scales_its_pixels_itself_takes_them() -> None:
    class Scaling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Any:
            return self.fc(x.float() / 255)

    model = convert(Scaling(), image_shape=(8,))
    mask = model.mask_of(model.initial_scores(0))
    assert torch.equal(model(PIXELS, mask), model(PIXELS.float(), mask))


def test_one_image_has_no_statistics_of_a_batch() -> None:
    for call in (lambda x: CONVERTED(x, MASK, extras="batch"), CONVERTED.bind(MASK, "batch")):
        with pytest.raises(BatchStatisticsError, match=r"images: expected two or more, .* found one"):
            call(X[:1])
        assert call(X).shape == (2, 3)
    with CONVERTED.training_mode(0), pytest.raises(BatchStatisticsError):
        CONVERTED(X[:1], MASK)


@pytest.mark.parametrize("model", [CONVERTED, SEEDED], ids=["converted", "seeded"])
def test_weights_are_one_tensor_a_layer(model: Any) -> None:
    layers = model.layer_weights(model.weights)
    for wrong in (None, 3, "abc", model.weights, layers[:1], [*layers, layers[0]], [w.numpy() for w in layers], {}):
        with pytest.raises(ShapeError, match=f"weights: expected a tensor for each of {len(layers)} layers, .* found"):
            model.run_layers(X, wrong)
    first, second = (rf"weights of '{layer.name}': expected torch" for layer in model.spec.layers[:2])
    for changed in (layers[0].mT, layers[0].long(), layers[0][:1]):
        with pytest.raises(ShapeError, match=rf"{first}.float32 of"):
            model.run_layers(X, [changed, *layers[1:]])
    with pytest.raises(ShapeError, match=rf"{second}.float64 of .*, found torch.float32"):  # one dtype for all
        model.run_layers(X, [layers[0].double(), *layers[1:]])
    if model is SEEDED:  # a module of a caller's own has buffers of one dtype
        double = model.run_layers(X.double(), [layer.double() for layer in layers])
        torch.testing.assert_close(double.float(), model.run_layers(X, layers))
    with pytest.raises(DeviceError, match="expected them on cpu, found meta"):
        model.run_layers(X, [*layers[:-1], layers[-1].to("meta")])
    assert torch.equal(model.run_layers(X, iter(layers)), model.run_with(X, model.weights))


@pytest.mark.parametrize("step", ["1", None, 1.5, float("nan"), True])
@pytest.mark.parametrize("model", [CONVERTED, SEEDED], ids=["converted", "seeded"])
def test_a_step_of_training_has_a_number(model: Any, step: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="step: expected a whole number, found"), model.training_mode(step):
        pass
    with model.training_mode(np.int64(3)):
        pass


@pytest.mark.parametrize("mean", ["a", None, [[1], [1, 2]], {}])
def test_a_mean_mask_is_an_array(mean: Any) -> None:
    with pytest.raises(ShapeError, match="mean mask: expected an array of numbers, found"):
        SEEDED.transfer_scores(mean, 0)


class Parts(nn.Module):
    """Two parts, each of which may be checkpointed; with `reentrant=None` neither is."""

    def __init__(self, reentrant: bool | None, whole: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 6), nn.Linear(6, 3)
        self.reentrant, self.whole = reentrant, whole

    def forward(self, x: Tensor) -> Any:
        def first(x: Tensor) -> Tensor:
            return torch.relu(self.one(x))

        if self.reentrant is None:
            return self.two(first(x))
        x = checkpoint(first, x, use_reentrant=self.reentrant) if self.whole else first(x)
        return checkpoint(self.two, x, use_reentrant=self.reentrant)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("whole", [True, False])
def test_a_reentrant_checkpoint_loses_no_gradient_silently(whole: bool) -> None:
    def gradient(reentrant: bool | None) -> Tensor:
        model = convert(Parts(reentrant, whole), image_shape=(8,), seed=1)
        scores = model.initial_scores(0).requires_grad_()
        model.run_with(X, model.effective_weights(scores)).square().sum().backward()
        assert scores.grad is not None
        return scores.grad

    expected = gradient(None)
    assert expected.abs().sum() > 0
    assert torch.equal(gradient(False), expected)
    with pytest.raises(NetworkError, match=f"{'one' if whole else 'two'}: expected a checkpoint .* `use_reentrant=Fal"):
        gradient(True)
    model = convert(Parts(True, whole), image_shape=(8,), seed=1)
    with pytest.raises(NetworkError, match="expected a checkpoint that gives masked weights their gradients"):
        train_task(model, (X, torch.tensor([0, 1])), RECIPES["paper"], task=0, steps=2)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_reentrant_checkpoint_runs_where_no_gradient_of_weights_is_wanted() -> None:
    found = {}
    for reentrant in (None, True):
        model = convert(Parts(reentrant, True), image_shape=(8,), seed=1)
        x, mask = X.clone().requires_grad_(), model.mask_of(model.initial_scores(0))
        model(x, mask).square().sum().backward()
        assert x.grad is not None
        found[reentrant] = x.grad
    assert torch.equal(found[None], found[True])
    assert found[None].abs().sum() > 0


def test_a_part_without_gradients_is_left_alone() -> None:
    """A forward may leave a part without gradients on purpose."""

    class Frozen(Parts):
        def forward(self, x: Tensor) -> Any:
            with torch.no_grad():
                x = torch.relu(self.one(x))
            return self.two(x)

    model = convert(Frozen(None, False), image_shape=(8,), seed=1)
    scores = model.initial_scores(0).requires_grad_()
    model.run_with(X, model.effective_weights(scores)).sum().backward()
    assert scores.grad is not None
    first, second = (part.abs().sum() for part in model.layer_weights(scores.grad))
    assert first == 0
    assert second > 0


def test_scores_that_are_no_numbers_choose_no_mask() -> None:
    for model in (SEEDED, OPEN, convert(nn.Linear(8, 3), mask="edge-popup")):
        scores = model.initial_scores(0)
        scores[1] = float("nan")
        with pytest.raises(NetworkError, match=r"scores: expected numbers, found 1 of \d+ that are NaN"):
            model.mask_of(scores)
