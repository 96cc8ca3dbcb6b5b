"""Arguments of another type: taken where they can be meant, else an error by the argument's name, before any work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler

from maskstore import Mask, MaskBank, MaskMatrix
from maskstore.errors import MaskStoreError, NotABankError
from supsup_models import (
    RECIPES,
    Adam,
    Calibration,
    IdentityFreeLearner,
    Inference,
    MaskedNetwork,
    MaskServer,
    NumberedTask,
    Recipe,
    RMSProp,
    SupSupError,
    TaskInference,
    TaskStream,
    evaluate,
    infer_each,
    infer_task,
    mask_accuracy,
    open_stream,
    serve,
    train_many,
    train_task,
)
from supsup_models.errors import ArgumentTypeError, LabelValueError, TaskDataError, UnknownNameError
from supsup_models.inference import classify
from supsup_models.training.recipes import Sparse

STREAM = open_stream("split-digits", tasks=2)
IMAGES, LABELS = STREAM[0].train.images(slice(0, 64)), STREAM[0].train.labels[:64]
MODEL = MaskedNetwork("lenet-300-100", inputs=64, outputs=20, classes=2, seed=0)
MATRIX = MaskMatrix(MODEL.spec, [MODEL.mask_of(MODEL.initial_scores(t)) for t in range(2)], ["task-0", "task-1"])
RECIPE = Recipe("short", RMSProp(1e-3), batch_size=16)
CALIBRATION = Calibration.fit(MODEL, MATRIX, dict.fromkeys(MATRIX.names, IMAGES))


class Pairs(Dataset[tuple[np.ndarray, int]]):
    """What most people write: images in their shape, labels as numbers."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return IMAGES[index].view(8, 8).numpy(), int(LABELS[index])


def backwards(batch: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([torch.as_tensor(x) for x, _ in batch]), torch.tensor([int(y) for _, y in batch])


FORMS: dict[str, Callable[[], Any]] = {
    "tensors": lambda: (IMAGES, LABELS),
    "arrays": lambda: [IMAGES.numpy().astype(np.float64), LABELS.numpy().astype(np.uint8)],
    "bfloat16": lambda: (IMAGES.double().float(), LABELS.int()),
    "lists": lambda: (IMAGES.tolist(), LABELS.tolist()),
    "squares": lambda: (IMAGES.view(-1, 1, 8, 8), LABELS),
    "TensorDataset": lambda: TensorDataset(IMAGES, LABELS),
    "a data set": Pairs,
    "a loader": lambda: DataLoader(Pairs(), batch_size=7),
    "a shuffled loader": lambda: DataLoader(TensorDataset(IMAGES, LABELS), batch_size=9, shuffle=True),
    "a loader with its own batches": lambda: DataLoader(Pairs(), batch_size=7, collate_fn=backwards),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_in_the_forms_that_people_have_them_in_train_the_same_mask(form: str) -> None:
    expected = train_task(MODEL, (IMAGES, LABELS), RECIPE, task=0, steps=3)
    data = FORMS[form]()
    found = train_task(MODEL, data, RECIPE, task=0, steps=3)
    assert found.mask == expected.mask
    assert mask_accuracy(MODEL, found.mask, data) == mask_accuracy(MODEL, found.mask, (IMAGES, LABELS))
    (many,) = train_many(MODEL, [NumberedTask(0, data)], RECIPE, steps=3)
    assert many.mask == expected.mask


def test_uint8_images_are_divided_by_255_as_in_a_stream() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    labels = np.arange(40) % 2
    stream = TaskStream.from_arrays([(pixels, labels, pixels, labels)])
    expected = train_task(MODEL, stream[0].train, RECIPE, task=0, steps=3).mask
    for data in ((pixels, labels), TensorDataset(torch.from_numpy(pixels), torch.from_numpy(labels))):
        assert train_task(MODEL, data, RECIPE, task=0, steps=3).mask == expected


def test_labels_of_no_class_are_an_error_and_not_all_wrong() -> None:
    with pytest.raises(LabelValueError, match=r"^labels: expected values in \[0, 2\), found 5"):
        mask_accuracy(MODEL, MODEL.mask_of(MODEL.initial_scores(0)), (IMAGES, LABELS * 0 + 5))


def test_a_loader_that_makes_no_batches_is_named() -> None:
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=None)
    with pytest.raises(TaskDataError, match=r"^data: expected batches, found single images; .*batch_size"):
        train_task(MODEL, loader, RECIPE, task=0, steps=1)


def test_a_sampler_of_its_own_is_not_passed_over() -> None:
    sampler = WeightedRandomSampler((LABELS == 1).double().tolist(), 30)
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=10, sampler=sampler)
    mask = MODEL.mask_of(MODEL.initial_scores(0))
    accuracies = {mask_accuracy(MODEL, mask, (IMAGES[k == LABELS], LABELS[k == LABELS])) for k in (0, 1)}
    assert len(accuracies) == 2
    zeros = WeightedRandomSampler((LABELS == 0).double().tolist(), 1000)
    found = mask_accuracy(MODEL, mask, DataLoader(TensorDataset(IMAGES, LABELS), sampler=zeros, batch_size=100))
    assert found == pytest.approx(mask_accuracy(MODEL, mask, (IMAGES[LABELS == 0], LABELS[LABELS == 0])), abs=0.1)
    assert train_task(MODEL, loader, RECIPE, task=0, steps=1).mask.spec == MODEL.spec


def test_names_streams_and_dense_masks_are_taken() -> None:
    by_name = train_task(MODEL, STREAM[0].train, "dense", task=0, steps=2)
    assert by_name.mask == train_task(MODEL, STREAM[0].train, RECIPES["dense"], task=0, steps=2).mask
    many = list(train_many(MODEL, STREAM, "dense", steps=2))
    assert [each.mask for each in many] == [each.mask for each in train_many(MODEL, STREAM[:], "dense", steps=2)]
    assert many[0].mask == by_name.mask
    dense = many[0].mask.dense()
    assert mask_accuracy(MODEL, dense, STREAM[0].test) == mask_accuracy(MODEL, many[0].mask, STREAM[0].test)
    assert IdentityFreeLearner(MODEL, "dense").model is MODEL
    names = np.array(["task-1", "task-0"])
    assert torch.equal(serve(MODEL, MATRIX)(IMAGES[:2], names), serve(MODEL, MATRIX)(IMAGES[:2], names.tolist()))


def test_paths_may_be_strings(tmp_path: Path) -> None:
    CALIBRATION.write(str(tmp_path / "c.json"))
    assert Calibration.read(str(tmp_path / "c.json")) == Calibration.read(tmp_path / "c.json") == CALIBRATION


WRONG: list[Any] = [3, 2.5, "x", b"x", object(), [1, 2], {"a": 1}, np.zeros(3), torch.zeros(2, 2), Path("x"), int, 1j]
GOOD: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[str, ...]]] = {
    "train_task": (
        train_task,
        {"model": MODEL, "data": STREAM[0].train, "recipe": RECIPE, "task": 0, "steps": 1},
        ("model", "data", "recipe", "transfer", "stepping"),
    ),
    "train_many": (
        lambda **given: list(train_many(**given)),
        {"model": MODEL, "tasks": [NumberedTask(0, STREAM[0].train)], "recipe": RECIPE, "steps": 1},
        ("model", "tasks", "recipe", "stepping", "together"),
    ),
    **{
        ask.__name__: (
            ask,
            {"model": MODEL, "matrix": MATRIX, "images": IMAGES},
            ("model", "matrix", "images", "method", "objective", "calibration"),
        )
        for ask in (infer_task, infer_each)
    },
    "TaskInference": (TaskInference, {"model": MODEL, "matrix": MATRIX}, ("model", "matrix", "calibration")),
    "evaluate": (
        evaluate,
        {"model": MODEL, "matrix": MATRIX, "tasks": STREAM, "scenario": "GG"},
        ("model", "matrix", "tasks", "scenario", "inference"),
    ),
    "mask_accuracy": (
        mask_accuracy,
        {"model": MODEL, "mask": MATRIX[0], "data": STREAM[0].test},
        ("model", "data"),
    ),
    "serve": (serve, {"model": MODEL, "source": MATRIX}, ("model", "source")),
    "a server": (lambda **given: MaskServer(MODEL, MATRIX)(**given), {"images": IMAGES, "tasks": "task-0"}, ("tasks",)),
    "classify": (
        lambda **given: classify(MODEL, MATRIX, **given),
        {"images": IMAGES, "tasks": np.zeros(len(IMAGES), dtype=int)},
        ("images", "tasks"),
    ),
    "calibrate": (Calibration.fit, {"model": MODEL, "matrix": MATRIX, "images": {}}, ("model", "matrix")),
    "Calibration": (Calibration, {"values": {"a": (1.0,)}}, ("values",)),
    "Inference": (Inference, {"method": "binary"}, ("method", "objective", "images")),
    "open_stream": (open_stream, {"name": "split-digits"}, ("name", "tasks", "seed")),
    "Recipe": (Recipe, {"name": "r"}, ("optimiser", "schedule", "batch_size", "weight_gain", "sparse")),
    "RMSProp": (RMSProp, {}, ("learning_rate", "alpha", "eps")),
    "Adam": (Adam, {}, ("learning_rate", "betas", "eps")),
    "Sparse": (Sparse, {"density": 0.1}, ("density", "settled", "margin", "rate_weight")),
    "learner": (IdentityFreeLearner, {"model": MODEL, "recipe": RECIPE}, ("model", "recipe", "config")),
}
MEANT = {("a server", "tasks"), ("Inference", "images"), ("open_stream", "tasks"), ("open_stream", "seed")}


@pytest.mark.parametrize(("call", "argument"), [(call, name) for call, (_, _, names) in GOOD.items() for name in names])
def test_a_wrong_type_is_named(call: str, argument: str) -> None:
    function, good, _ = GOOD[call]
    number = argument in ("learning_rate", "alpha", "eps", "weight_gain", "density", "settled", "margin", "rate_weight")
    for wrong in WRONG:
        if isinstance(wrong, int | float) and (number or (call, argument) in MEANT or argument == "batch_size"):
            continue
        with pytest.raises((SupSupError, MaskStoreError)) as refused:
            function(**{**good, argument: wrong})
        message = str(refused.value)
        assert "expected" in message
        assert "found" in message or call == "a server"  # no such task
        assert "\n" not in message
        assert "attribute" not in message


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    plain = nn.Linear(64, 20)
    with MaskBank.create(tmp_path / "m.bank", MODEL.spec) as bank:
        cases: list[tuple[Callable[[], Any], str]] = [
            (lambda: infer_task(plain, MATRIX, IMAGES), r"found Linear; convert\(module\) makes one"),  # type: ignore[arg-type]
            (lambda: infer_task(MODEL, bank, IMAGES), r"found MaskBank; bank\.matrix\(\) makes one"),  # type: ignore[arg-type]
            (lambda: serve(MODEL, "x.bank"), r"found str 'x\.bank'; MaskBank\.open\(path\) opens one"),  # type: ignore[arg-type]
            (lambda: evaluate(MODEL, MATRIX, STREAM[0], "GG"), r"found Task; \[task\] is a list of one"),  # type: ignore[arg-type]
            (lambda: train_task(MODEL, STREAM[0], RECIPE, task=0, steps=1), r"found Task; task\.train and task\.test"),
            (lambda: list(train_many(MODEL, STREAM[0], RECIPE, steps=1)), r"found Task; \[task\] is"),  # type: ignore[arg-type]
            (lambda: train_task(MODEL, STREAM[0].train, RECIPE, task=0, steps=2.0), "found float 2.0"),  # type: ignore[arg-type]
            (lambda: train_task(MODEL, STREAM[0].train, RECIPE, task=True, steps=2), "found bool True"),
        ]
        for call, says in cases:
            with pytest.raises(ArgumentTypeError, match=says):
                call()
    with pytest.raises(UnknownNameError, match="did you mean 'dense'"):
        train_task(MODEL, STREAM[0].train, "dens", task=0, steps=1)
    with pytest.raises(TaskDataError, match="as many labels as images, found 63 and 64"):
        train_task(MODEL, (IMAGES, LABELS[:63]), RECIPE, task=0, steps=1)
    other = MaskMatrix(Mask.from_dense({"a": np.ones((2, 2), dtype=bool)}).spec)
    with pytest.raises(SupSupError, match="transfer: expected masks of"):
        train_task(MODEL, STREAM[0].train, RECIPE, task=0, steps=1, transfer=other)


@pytest.mark.parametrize("given", ["x.bank", Path("x.bank"), MODEL.spec, None])
def test_a_bank_is_opened_by_its_methods(given: Any) -> None:
    with pytest.raises(
        NotABankError, match=r"found \w+; MaskBank\.open\(path\) opens a bank, MaskBank\.create\(path, spec"
    ):
        MaskBank(given)
