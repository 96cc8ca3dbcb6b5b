"""Images of other ranges are warned of, and those that arithmetic cannot bear are an error; no answer is NaN."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from maskstore import MaskMatrix
from supsup_models import (
    Calibration,
    MaskServer,
    TaskStream,
    evaluate,
    infer_each,
    infer_task,
    mask_accuracy,
)
from supsup_models.errors import ImageValueError, ImageValueWarning
from supsup_models.inference import classify
from tests.helpers.methods import METHODS
from tests.helpers.networks import network

MODEL = network((12, 16, 9), classes=4)
MATRIX = MaskMatrix(MODEL.spec, [MODEL.mask_of(MODEL.initial_scores(t)) for t in range(4)], list("abcd"))
OWN = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
CALIBRATION = Calibration.fit(MODEL, MATRIX, dict.fromkeys("abcd", OWN))


def numbers(found: Any) -> list[np.ndarray]:
    return [np.asarray(each, dtype=np.float64) for each in vars(found).values() if each is not None]


def judged(images: np.ndarray) -> Any:
    labels = np.arange(len(images)) % 4
    stream = TaskStream.from_arrays([(images, labels, images, labels)], classes=4)
    return evaluate(MODEL, MaskMatrix(MODEL.spec, [MATRIX[0]], ["task-0"]), stream, "GG")


CALLS: dict[str, Callable[[np.ndarray], Any]] = {
    **{
        f"{name}, {method}, {objective}": lambda images, ask=ask, m=method, o=objective: numbers(
            ask(MODEL, MATRIX, images, method=m, objective=o, calibration=CALIBRATION)
        )
        for name, ask in (("infer_task", infer_task), ("infer_each", infer_each))
        for method in METHODS
        for objective in ("H", "G")
    },
    "serve": lambda images: [MaskServer(MODEL, MATRIX)(images, "b").numpy()],
    "serve many": lambda images: [MaskServer(MODEL, MATRIX)(images, ["b", "a"]).numpy()],
    "classify": lambda images: [classify(MODEL, MATRIX, images, np.array([0, 1])).numpy()],
    "calibrate": lambda images: [np.asarray(Calibration.fit(MODEL, MATRIX, {"a": images}).values["a"])],
    "evaluate": lambda images: [np.asarray(judged(images).accuracy)],
    "accuracy": lambda images: [
        np.asarray(mask_accuracy(MODEL, MATRIX[0], TaskStream.from_arrays([(images, [0, 1]) * 2], classes=4)[0].test))
    ],
}


@pytest.mark.parametrize("size", [1e3, 1e18, 1e30, 1e37, 3.4e38])
@pytest.mark.parametrize("call", CALLS)
def test_no_answer_is_nan(call: str, size: float) -> None:
    images = (OWN[:2] / OWN[:2].abs().max() * size).numpy()
    try:
        with pytest.warns(ImageValueWarning, match="without signs"):
            found = CALLS[call](images)
    except ImageValueError as error:
        expected = r"images: expected values that the network can compute with, found NaN( or infinity)? in its answers"
        assert re.fullmatch(expected, str(error))  # noqa: PT017 - some sizes are borne by some methods
        assert size > 1e6
    else:
        assert size < 1e38
        assert not any(np.isnan(each).any() for each in found)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("call", [name for name in CALLS if name not in ("evaluate", "accuracy")])
def test_what_is_not_finite_is_named_with_its_image(call: str, value: float) -> None:
    images = OWN[:2].numpy().copy()
    images[1, 3] = value
    with pytest.raises(ImageValueError, match=r"^images: expected finite values, found NaN or infinity in image 1$"):
        CALLS[call](images)
