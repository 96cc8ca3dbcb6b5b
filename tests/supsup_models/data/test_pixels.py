"""One rule for the pixels that a caller gives: normalised, in [0, 1], or raw; the rest is refused by name."""

import numpy as np
import pytest
import torch

from maskstore import MaskMatrix
from supsup_models import MaskedNetwork, MaskServer, TaskStream, infer_each, infer_task, open_stream
from supsup_models.data import PixelScale, checked_images, load_data_set
from supsup_models.errors import ImageValueError, ImageValueWarning, ShapeError, TaskDataError, UnknownNameError

DIGITS = load_data_set("digits")
RAW = DIGITS.test.images[:20]
MNIST = PixelScale(1 / (255 * 0.3081), -0.1307 / 0.3081, 0.3081)
COLOUR = PixelScale((1 / (255 * 0.2), 1 / (255 * 0.3)), (-2.0, -1.0), (0.2, 0.3))


@pytest.fixture(scope="module")
def scale() -> PixelScale:
    split = open_stream("split-digits")[0].test
    return PixelScale(split.scale, split.shift, DIGITS.std)


def expected() -> np.ndarray:
    return ((RAW / np.float32(16) - DIGITS.mean) / DIGITS.std).astype(np.float32)


def test_each_form_becomes_what_the_network_was_trained_on(scale: PixelScale) -> None:
    for images, says in (
        (RAW, "uint8"),
        ((RAW / 16).astype(np.float32), "float pixels in [0, 1]"),
        (expected(), "none"),
    ):
        found, line = scale.normalised(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected(), atol=1e-5)
        assert line.startswith(says)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_to_tensor_gives_is_scaled_with_a_word(dtype: type) -> None:
    unit = np.linspace(0, 1, 40, dtype=dtype).reshape(2, 20)
    found, line = MNIST.normalised(unit)
    np.testing.assert_allclose(found, (unit.astype(np.float32) - 0.1307) / 0.3081, rtol=1e-3, atol=1e-3)
    assert line == "float pixels in [0, 1] are normalised like the training images: pixel * 3.2457 + -0.424213"


def test_channels_are_scaled_each_by_its_own(scale: PixelScale) -> None:
    unit = np.full((1, 2, 3), [[[0.5], [0.8]]], dtype=np.float32).reshape(1, 6)
    found, _ = COLOUR.normalised(unit)
    np.testing.assert_allclose(found, [[0.5] * 3 + [0.8 / 0.3 - 1] * 3], rtol=1e-5)
    with pytest.raises(ShapeError, match="expected 2 channels, found 5 values"):
        COLOUR.normalised(unit[:, :5])


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (RAW.astype(np.float64), r'found float64 from 0 to 16; `pixels="raw"` takes floats of 0 to 16'),
        (RAW.astype(np.float32) * 16, r'found float32 from 0 to 256; `pixels="raw"`'),
        (RAW * np.uint8(15), r"expected raw pixels in 0 to 16, found uint8 from 0 to 240"),
        ((RAW > 8).astype(np.uint8), r"expected uint8 pixels in 0 to 16, found none above 1"),
        (RAW.astype(np.int64), r"expected uint8 or float pixels, found int64"),
        (RAW > 8, r"expected uint8 or float pixels, found bool"),
        (RAW * -20.0, r'found float64 from -320 to 0; `pixels="normalised"` takes them all the same'),
    ],
)
def test_a_range_that_cannot_be_meant_is_refused(scale: PixelScale, images: np.ndarray, says: str) -> None:
    with pytest.raises((ImageValueError, ShapeError), match=says):
        scale.normalised(images)


def test_the_caller_may_say_what_the_pixels_are(scale: PixelScale) -> None:
    raw = RAW.astype(np.float32)
    np.testing.assert_allclose(scale.normalised(raw, "raw")[0], expected(), atol=1e-5)
    unit = raw / 16
    assert np.array_equal(scale.normalised(unit, "normalised")[0], unit)
    dark = scale.normalised((RAW > 8).astype(np.uint8), "raw")[0]
    assert dark.max() == pytest.approx((1 / 16 - DIGITS.mean) / DIGITS.std, abs=1e-5)
    for form, images, says in (
        ("unit", raw, "expected unit pixels in 0 to 1, found float32 from 0 to 16"),
        ("unit", expected(), "expected unit pixels"),
        ("raw", expected(), "expected raw pixels in 0 to 16"),
        ("normalised", RAW, "found uint8"),
        ("unit", RAW, "expected float pixels with"),
    ):
        with pytest.raises(ImageValueError, match=says):
            scale.normalised(images, form)
    with pytest.raises(UnknownNameError, match="did you mean 'unit'"):
        scale.normalised(raw, "unitt")


def test_values_beyond_the_training_images_are_told() -> None:
    half = np.linspace(-1, 1, 20, dtype=np.float32)[None]  # what Normalize((0.5,), (0.5,)) gives
    found, line = MNIST.normalised(half)
    assert np.array_equal(found, half)
    assert "they go from -1 to 1, those of the training images from -0.4242 to 2.821" in line
    assert MNIST.normalised(np.array([[-0.42, 2.8]], dtype=np.float32))[1].endswith("already")


def test_training_on_floats_as_they_are_leaves_them_alone() -> None:
    own = PixelScale(1.0, 0.0, 1.0)
    images = np.array([[0.0, 200.0]], dtype=np.float32)
    assert np.array_equal(own.normalised(images)[0], images)
    with pytest.raises(ImageValueError, match="training images were no uint8 pixels"):
        own.normalised(images.astype(np.uint8))
    unknown = PixelScale(1 / 255, 0.0)
    assert np.array_equal(unknown.normalised(images / 255)[0], images / 255)
    with pytest.raises(ImageValueError, match="a known `std`"):
        unknown.normalised(images / 255, "unit")


def test_a_network_alone_refuses_raw_pixels() -> None:
    """It does not know how its training images were normalised: inference, serving and training say so alike."""
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
    matrix = MaskMatrix(model.spec, [model.mask_of(model.initial_scores(t)) for t in (0, 1)], ["a", "b"])
    for images in (RAW, torch.from_numpy(RAW)):
        for ask in (infer_task, infer_each):
            with pytest.raises(ImageValueError, match="expected floats, normalised as in training, found uint8 pixels"):
                ask(model, matrix, images)
        with pytest.raises(ImageValueError, match="found uint8 pixels"):
            MaskServer(model, matrix)(images, "a")  # type: ignore[arg-type]
    assert infer_task(model, matrix, expected()).task in (0, 1)
    for raw in (RAW.astype(np.float32), RAW.astype(np.int64) * 16, torch.from_numpy(RAW).half()):
        with pytest.warns(ImageValueWarning, match="found a mean of"):
            infer_task(model, matrix, raw)
    white = np.full((1, 64), (1 - DIGITS.mean) / DIGITS.std)
    infer_task(model, matrix, white)  # no warning
    infer_task(model, matrix, torch.from_numpy(np.repeat(expected(), 200, axis=0)).half())  # its sum is beyond float16


@pytest.mark.parametrize("factor", [1e30, -1e30, 1e5, -200.0, 3e38])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_of_another_range_are_warned_of_whatever_their_sign(factor: float, dtype: torch.dtype) -> None:
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
    balanced = torch.tensor([1.0, -1.0]).repeat(2, 32)
    with pytest.warns(ImageValueWarning, match="without signs"):
        checked_images((balanced * factor).to(dtype), model)
    with pytest.warns(ImageValueWarning, match="without signs"):
        checked_images(torch.rand(3, 64).to(dtype).mul(factor), model)


def _stream(*images: np.ndarray) -> TaskStream:
    labels = np.arange(20) % 3
    return TaskStream.from_arrays([(images[0], labels, each, labels) for each in images[1:]])


@pytest.mark.parametrize(
    "images",
    [
        (RAW, RAW.astype(np.float32)),
        (RAW.astype(np.int64), RAW),
        (RAW / 16, RAW.astype(np.int32)),
        (RAW, RAW / 255, RAW.astype(np.float64)),
    ],
)
def test_a_stream_of_pixels_of_two_ranges_is_refused(images: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(TaskDataError, match=r"expected pixels of one range, found .* and .* from 0 to 16 in task"):
        _stream(*images)


@pytest.mark.parametrize(
    "images",
    [
        (RAW, RAW / 16),
        (RAW.astype(np.int64), RAW.astype(np.float32)),
        (expected(), expected() * 2),
        (RAW / 16, RAW > 8),
    ],
)
def test_a_stream_of_pixels_of_one_range_is_taken(images: tuple[np.ndarray, ...]) -> None:
    assert len(_stream(*images)) == 1
