"""What a conversion refuses, each time with one line that says what was expected and what was found."""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from maskstore.errors import SpecError
from supsup_models import ConvertedModel, Run, TaskStream, convert, mask_accuracy, train_task
from supsup_models.errors import (
    ArgumentTypeError,
    ConversionError,
    DeviceError,
    NetworkError,
    ShapeError,
    SparsityError,
    UnknownNameError,
)


def mlp() -> nn.Module:
    return nn.Sequential(OrderedDict(hidden=nn.Linear(12, 32), relu=nn.ReLU(), head=nn.Linear(32, 4)))


def convolutional() -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 6, 3), bn=nn.BatchNorm2d(6)))


def converted(module: nn.Module, **options: Any) -> ConvertedModel:
    return convert(module, seed=3, **options)


BAD: list[tuple[str, Callable[[], object], type[Exception], str]] = [
    ("nothing to mask", lambda: convert(nn.Sequential(nn.ReLU(), nn.LayerNorm(3))), ConversionError, "found none"),
    ("only an embedding", lambda: convert(nn.Embedding(3, 2)), ConversionError, "embeddings=True"),
    ("everything skipped", lambda: convert(mlp(), skip=("*",)), ConversionError, "found none"),
    ("no such pattern", lambda: convert(mlp(), skip=("haed",)), ConversionError, "skip 'haed'.*head"),
    ("unknown rule", lambda: converted(mlp(), mask="topk"), UnknownNameError, "threshold, edge-popup"),
    ("unknown weights", lambda: converted(mlp(), weights="normal"), UnknownNameError, "kaiming"),
    ("unknown sparsity", lambda: converted(mlp(), mask="edge-popup", sparsity="x"), UnknownNameError, "uniform"),
    ("density 0", lambda: converted(mlp(), mask="edge-popup", density=0.0), SparsityError, r"\(0, 1\]"),
    ("density 2", lambda: converted(mlp(), mask="edge-popup", density=2.0), SparsityError, r"\(0, 1\]"),
    ("density unused", lambda: converted(mlp(), density=0.5), ConversionError, "edge-popup"),
    (
        "a layer's density missing",
        lambda: converted(mlp(), mask="edge-popup", density={"head.weight": 0.5}),
        ConversionError,
        "'hidden.weight' missing",
    ),
    (
        "a layer's density too large",
        lambda: converted(mlp(), mask="edge-popup", density={"head.weight": 0.5, "hidden.weight": 1.5}),
        SparsityError,
        "hidden.weight",
    ),
    (
        "not logits",
        lambda: converted(nn.TransformerEncoderLayer(16, 2, 24), image_shape=(5, 16)),
        ConversionError,
        "logits",
    ),
    ("too many classes", lambda: converted(mlp(), image_shape=(12,), classes=5), ConversionError, "1 to 4"),
    ("lazy weights", lambda: convert(nn.LazyLinear(3)), ConversionError, "lazy"),
    (
        "two dtypes",
        lambda: convert(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())),
        ConversionError,
        "float32 on cpu and torch.float64",
    ),
    (
        "cumulative averages",
        lambda: convert(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, momentum=None))),
        ConversionError,
        "momentum",
    ),
    ("a name", lambda: convert("resnet"), ConversionError, "expected an nn.Module, found str 'resnet'"),
    ("a class", lambda: convert(nn.Linear), ConversionError, "expected an nn.Module, found <class"),
    ("masks inside", lambda: convert(nn.Sequential(converted(mlp()))), ConversionError, "which has masks"),
    ("a gain in words", lambda: converted(mlp(), weight_gain="1"), ArgumentTypeError, "weight_gain: expected a number"),
    ("a gain unused", lambda: converted(mlp(), weights="keep", weight_gain=2.0), ConversionError, "kept weights"),
    ("a density in words", lambda: converted(mlp(), mask="edge-popup", density="1"), ArgumentTypeError, "density"),
    (
        "a shape in words",
        lambda: converted(mlp(), image_shape="12"),
        ArgumentTypeError,
        "image_shape: expected a tuple",
    ),
    ("no tuple", lambda: converted(mlp(), image_shape=12), ArgumentTypeError, "image_shape: expected a tuple"),
    ("an empty image", lambda: converted(mlp(), image_shape=(0,)), ConversionError, "at least 1"),
    ("classes in words", lambda: converted(mlp(), image_shape=(12,), classes="3"), ArgumentTypeError, "classes"),
    ("classes alone", lambda: converted(mlp(), classes=3), ConversionError, "image_shape with it"),
    ("skip nothing", lambda: convert(mlp(), skip=None), ArgumentTypeError, "skip: expected a pattern"),
    ("skip numbers", lambda: convert(mlp(), skip=[1]), ArgumentTypeError, "skip: expected a pattern"),
    (
        "a sparsity unused",
        lambda: converted(mlp(), mask="edge-popup", sparsity="er", density={"hidden.weight": 0.5, "head.weight": 0.5}),
        ConversionError,
        "sparsity: expected none",
    ),
    ("no gain", lambda: convert(nn.Linear(2, 2), weight_gain=0.0), NetworkError, "weight gain: expected a positive"),
]


@pytest.mark.parametrize(("call", "error", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_conversions_are_one_line(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own about lazy modules
        with pytest.raises(error, match=message) as found:
            call()
    assert "\n" not in str(found.value)


def test_images_that_do_not_fit_are_refused() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())
    model = convert(module, image_shape=(1, 8, 8))
    run = model.bind(model.mask_of(model.initial_scores(0)))
    assert run(torch.zeros(2, 64)).shape == run(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    for shape in ((2, 63), (2, 8, 8), (2, 1, 8, 9)):
        with pytest.raises(ShapeError, match=r"expected shape \(b, 64\) or \(b, 1, 8, 8\), found"):
            model(torch.zeros(shape))
    with pytest.raises(ShapeError, match=r"expected torch\.float32, that of the weights, found torch\.float64"):
        model(torch.zeros(2, 64).double())
    with pytest.raises(ShapeError, match="images: expected a tensor, found ndarray"):
        model(np.zeros((2, 64), np.float32))
    with pytest.raises(DeviceError, match="expected them on cpu, where the weights are, found meta"):
        model(torch.zeros(2, 64, device="meta"))


def test_masks_and_statistics_of_another_network_are_refused() -> None:
    model, other = converted(convolutional()), converted(mlp())
    inputs = torch.zeros(2, 1, 8, 8)
    foreign = other.mask_of(other.initial_scores(0))
    with pytest.raises(ShapeError, match="expected the layers of MaskSpec"):
        model(inputs, foreign)
    with pytest.raises(ShapeError, match="expected the layers of MaskSpec"), model.apply_mask(foreign):
        pass
    with pytest.raises(ShapeError, match="expected the layers of MaskSpec"):
        model.export(foreign)
    with pytest.raises(SpecError):
        model(inputs, {"conv.weight": torch.ones(2, 2)})
    mask = model.mask_of(model.initial_scores(0))
    with pytest.raises(ShapeError, match=r"'bn\.running_mean' missing"):
        model(inputs, mask, extras={})
    wrong = {name: value[:1] for name, value in model.initial_statistics().items()}
    with pytest.raises(ShapeError, match=r"expected shape \(6,\), found \(1,\)"):
        model(inputs, mask, extras=wrong)
    for extras in ("task-0", [1.0], dict.fromkeys(model.initial_statistics(), "x")):
        with pytest.raises(ArgumentTypeError, match=r"extras.*: expected"):
            model(inputs, mask, extras=extras)
    with pytest.raises(ShapeError, match="mean mask"):
        model.transfer_scores(np.zeros(3), 0)


def test_a_flat_shape_is_named_once() -> None:
    model = convert(nn.Linear(64, 10), image_shape=(64,))
    with pytest.raises(ShapeError, match=r"^images: expected shape \(b, 64\), found \(5, 8, 8\)$"):
        model(torch.zeros(5, 8, 8), model.mask_of(model.initial_scores(0)))


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 24), (24, 8), (3, 4, 16)])
def test_images_whose_pixels_lie_in_another_order_are_refused(shape, tmp_path):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    model = convert(plain, weights="keep", image_shape=(3, 8, 8))
    pair = np.zeros((6, *shape), dtype="f4"), np.arange(6) % 2
    stream = TaskStream.from_arrays([(*pair, *pair)])
    pairs = list(zip(map(torch.from_numpy, pair[0]), pair[1].tolist(), strict=True))
    of_datasets = TaskStream.from_datasets([(pairs, pairs)])
    came = ", ".join(map(str, shape))
    says = rf"expected shape \(n, 192\) or \(n, 3, 8, 8\), as the network has it, found \(n, {came}\)"
    mask = model.mask_of(model.initial_scores(0))
    for call in (
        lambda: train_task(model, pair, "dense", task=0, steps=1),
        lambda: train_task(model, stream[0].train, "dense", task=0, steps=1),
        lambda: train_task(model, of_datasets[0].train, "dense", task=0, steps=1),
        lambda: mask_accuracy(model, mask, pair),
        lambda: mask_accuracy(model, mask, stream[0].test.to("cpu")),
        lambda: Run.create(tmp_path / "run", model, stream),
    ):
        with pytest.raises(ShapeError, match=says):
            call()
    for taken in ((3, 8, 8), (192,), (3, 8, 8, 1)):
        assert 0 <= mask_accuracy(model, mask, (pair[0].reshape(6, *taken), pair[1])) <= 1
