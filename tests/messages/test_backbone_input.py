"""What a caller with a trained network can get wrong; each error says in one line what was expected and found."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from maskstore import KeptWeights, MaskBank
from maskstore.errors import BackboneError, MissingPackageError
from supsup_models import convert, train_task
from supsup_models.errors import LabelValueError, MissingStatisticsError, NetworkError, ShapeError, TaskDataError
from supsup_models.networks.convert import ConvertedModel
from tests.helpers.messages import check_message


def network(seed: int) -> ConvertedModel:
    torch.manual_seed(seed)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 9)).eval()
    return convert(plain, weights="keep", head="4", own="norm", image_shape=(1, 4, 4), classes=3)


MODEL = network(0)
ONES = MODEL.mask_of(torch.ones(MODEL.spec.bits))
LABELS = np.arange(12) % 3


def images(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype="f4")


class Uneven(Dataset[Any]):
    """A data set whose images are not all of one shape."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(1, 4, 4 + row % 2), row % 3


@contextmanager
def refused(error: type[Exception], *phrases: str) -> Iterator[None]:
    """The error is raised inside; its text has all of the phrases and the form of the house."""
    with pytest.raises(error) as raised:
        yield
    check_message(str(raised.value))
    for phrase in phrases:
        assert phrase in str(raised.value)


def test_other_weights_and_none_are_named_by_their_fingerprints(tmp_path):
    own, other = MODEL.backbone(), network(1).backbone()
    with MaskBank.create(tmp_path / "tasks.bank", MODEL.spec) as bank:
        bank.put("task", ONES, prior=KeptWeights(own))
    for given, phrase in ((other, other.fingerprint), (None, "found none")):
        bank = MaskBank.open(tmp_path / "tasks.bank", backbone=given)
        with bank, refused(BackboneError, own.fingerprint, phrase):
            bank["task"]


@pytest.mark.parametrize(
    ("error", "phrases", "data", "options"),
    [
        (ShapeError, ("(n, 1, 4, 4)", "(n, 5, 5)"), (images(12, 5, 5), LABELS), {}),
        (ShapeError, ("(b, 16)", "25"), (images(12, 25), LABELS), {}),
        (TaskDataError, ("12", "11"), (images(12, 1, 4, 4), LABELS[:11]), {}),
        (TaskDataError, ("(1, 4, 5)",), Uneven(), {}),
        (LabelValueError, ("3",), (images(12, 1, 4, 4), LABELS + 1), {}),
        (LabelValueError, ("2",), (images(12, 1, 4, 4), LABELS), {"classes": 2}),
        (NetworkError, ("1 to 3 classes", "4"), (images(12, 1, 4, 4), LABELS), {"classes": 4}),
    ],
)
def test_data_that_do_not_fit_are_named(error, phrases, data, options):
    with refused(error, *phrases):
        train_task(MODEL, data, "backbone", task=0, steps=1, **options)


def test_a_head_of_the_wrong_classes_and_none_are_named():
    shown = torch.zeros(2, 1, 4, 4)
    extras = MODEL.final_extras(MODEL.initial_extras(3))
    large = extras | {"4.weight": torch.zeros(4, 16), "4.bias": torch.zeros(4)}
    with refused(ShapeError, "(1 to 3 classes, 16)", "(4, 16)"):
        MODEL(shown, ONES, extras=large)
    with refused(MissingStatisticsError, "'4.weight'"):
        MODEL(shown, ONES)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "supsup_models.report.hub", raising=False)
    with refused(MissingPackageError, "huggingface_hub", "maskstore[hub]"):
        importlib.import_module("supsup_models.report.hub")
