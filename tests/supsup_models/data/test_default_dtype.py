"""torch's default dtype is the caller's: images, training and inference are the same whatever it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from maskstore import MaskMatrix
from supsup_models import (
    Calibration,
    MaskedNetwork,
    Recipe,
    RMSProp,
    TaskStream,
    evaluate,
    infer_each,
    open_stream,
    train_task,
)
from supsup_models.data import unlabelled_batches
from supsup_models.data.augment import Augmented
from supsup_models.data.tasks import Split

DTYPES = [torch.float64, torch.bfloat16]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _arrays(dtype: type) -> Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 9)).astype(np.uint8)
    images = pixels if dtype is np.uint8 else (pixels / 255).astype(dtype)
    stream = TaskStream.from_arrays([(images, np.arange(20) % 2) * 2], mean=0.5, std=0.25)
    return stream[0].test.images(slice(0, 9))


def _colours() -> Tensor:
    pixels = torch.arange(2 * 3 * 64, dtype=torch.uint8).view(2, -1)
    plain = Split(torch.tensor([0, 1]), lambda: pixels, 192, (0.1, 0.2, 0.3), (-1.0, -2.0, -3.0))
    return Augmented(plain, (3, 8, 8), seed=0, task=0).images(torch.tensor([1, 0]))


IMAGES: dict[str, Callable[[], Tensor]] = {
    **{
        f"{kind} by {how}": lambda kind=kind, which=which: open_stream(f"{kind}-digits", tasks=2)[1].train.images(which)
        for kind in ("permuted", "rotated", "split")
        for how, which in (("slice", slice(0, 5)), ("index", torch.tensor([4, 2])))
    },
    "bytes": lambda: _arrays(np.uint8),
    "floats": lambda: _arrays(np.float32),
    "doubles": lambda: _arrays(np.float64),
    "augmented": _colours,
    "unlabelled": lambda: unlabelled_batches(open_stream("split-digits")[0].test, 5, seed=1)(),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", IMAGES)
def test_images_are_float32(kind: str, dtype: torch.dtype) -> None:
    expected = IMAGES[kind]()
    with default_dtype(dtype):
        found = IMAGES[kind]()
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def _trained() -> list[np.ndarray]:
    stream = open_stream("split-digits", tasks=2)
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=20, classes=2, seed=0)
    matrix = MaskMatrix(model.spec)
    for task in stream:
        for stepping in ("fused", "autograd"):
            one = train_task(model, task.train, Recipe("r", RMSProp(1e-3)), task=task.index, steps=5, stepping=stepping)
            matrix.append(task.name if stepping == "fused" else f"{task.name} again", one.mask)
    calibration = Calibration.fit(model, matrix, {name: stream[0].test.images(slice(0, 20)) for name in matrix.names})
    guesses = infer_each(model, matrix, stream[1].test.images(slice(0, 9)), calibration=calibration)
    judged = evaluate(model, matrix, stream, "GNu", limit=20)
    assert guesses.confidence is not None
    return [matrix.rows, guesses.scores, guesses.confidence, np.array([judged.accuracy])]


@pytest.mark.parametrize("dtype", DTYPES)
def test_training_and_inference_are_the_same(dtype: torch.dtype) -> None:
    expected = _trained()
    with default_dtype(dtype):
        found = _trained()
    for one, other in zip(expected, found, strict=True):
        assert np.array_equal(one, other)
