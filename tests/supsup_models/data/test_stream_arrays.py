"""Streams of a caller's own arrays: taken as they are, or refused with one line that says why."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch.utils.data import IterableDataset, Subset, TensorDataset

from supsup_models.data import TaskStream
from supsup_models.errors import ClassesWarning, SupSupError, TaskDataError

IMAGES = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
LABELS = np.array([0, 2, 1, 0])


@pytest.mark.filterwarnings("ignore::supsup_models.errors.ClassesWarning")  # labels are any
@given(
    images=hnp.arrays(np.float32, (4, 2, 3), elements=st.floats(-1e6, 1e6, width=32)),
    labels=st.lists(st.integers(0, 9), min_size=4, max_size=4),
)
def test_floats_are_served_as_they_are(images: np.ndarray, labels: list[int]) -> None:
    stream = TaskStream.from_arrays([(images, labels, images[:2], labels[:2])], name="mine")
    assert (stream.name, stream.inputs, stream.classes, len(stream)) == ("mine", 6, max(labels) + 1, 1)
    assert torch.equal(stream[0].train.images(slice(None)), torch.from_numpy(images.reshape(4, 6)))
    assert stream[0].train.labels.tolist() == labels
    assert len(stream[0].test) == 2


def test_bytes_are_scaled_and_all_are_normalised() -> None:
    pixels = np.array([[0, 255], [51, 102]], dtype=np.uint8)
    task = TaskStream.from_arrays([(pixels, [0, 1], pixels / 255, [0, 1])], mean=0.5, std=0.25)[0]
    expected = torch.tensor([[-2.0, 2.0], [-1.2, -0.4]])
    torch.testing.assert_close(task.train.images(slice(None)), expected)
    torch.testing.assert_close(task.test.images(slice(None)), expected)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "bool"])
def test_other_numbers_become_float32(dtype: str) -> None:
    images = np.array([[0, 1], [1, 1]], dtype=dtype)
    task = TaskStream.from_arrays([(images, [0, 1], torch.from_numpy(images), torch.tensor([0, 1]))])[0]
    assert task.train.images(slice(None)).tolist() == task.test.images(slice(None)).tolist() == [[0, 1], [1, 1]]


def test_bfloat16_tensors_are_taken() -> None:
    images = torch.tensor([[0.5, 2.0]], dtype=torch.bfloat16)
    task = TaskStream.from_arrays([(images, [0], images, [0])])[0]
    assert task.train.images(slice(None)).tolist() == [[0.5, 2.0]]


def test_arrays_are_copied() -> None:
    for images in (IMAGES.copy(), np.arange(12, dtype=np.uint8).reshape(4, 3)):
        labels = LABELS.copy()
        split = TaskStream.from_arrays([(images, labels, images, labels)])[0].train
        before = split.images(slice(None))
        images[:], labels[:] = 0, 0
        assert torch.equal(split.images(slice(None)), before)
        assert split.labels.tolist() == LABELS.tolist()


def test_read_only_and_unordered_arrays_are_fine() -> None:
    images = np.asfortranarray(IMAGES)[::-1]
    images.flags.writeable = False
    split = TaskStream.from_arrays([(images, LABELS, images, LABELS)])[0].train
    assert torch.equal(split.images(slice(None)), torch.from_numpy(IMAGES[::-1].copy()))


def test_tasks_may_have_different_numbers_of_classes() -> None:
    two = (IMAGES, [0, 1, 0, 1], IMAGES, [0, 1, 0, 1])
    stream = TaskStream.from_arrays([two, (IMAGES, LABELS, IMAGES, LABELS)])
    assert [task.classes for task in stream] == [2, 3]
    assert stream.classes == 3
    assert stream[1].global_labels == (0, 1, 2)
    assert TaskStream.from_arrays([two], classes=10)[0].classes == 10
    assert stream.to_json()["stream"] == "arrays"


def spoiled(value: float) -> np.ndarray:
    images = IMAGES.astype(np.float64)
    images[2, 1] = value
    return images


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (spoiled(np.nan), LABELS, "task 1, train images: expected finite float32 values, found nan in image 2"),
        (spoiled(-np.inf), LABELS, "found -inf in image 2"),
        (spoiled(1e60), LABELS, "found inf in image 2"),
        (IMAGES[0], LABELS, r"expected shape \(n, inputs\) or \(n, height, width\), found \(3,\)"),
        (IMAGES[:0], LABELS[:0], "expected at least one image"),
        (IMAGES[:, :0], LABELS, "expected at least one image"),
        (IMAGES.astype(complex), LABELS, "expected numbers, found complex128"),
        (IMAGES.astype(str), LABELS, "expected numbers, found <U"),
        ([[1.0, 2.0], [3.0]], [0, 1], "train images: expected an array, found rows of unequal lengths"),
        (IMAGES, LABELS[:3], "task 1, train: expected as many labels as images, found 3 and 4"),
        (IMAGES, LABELS[:, None], r"train labels: expected shape \(n,\), found \(4, 1\)"),
        (IMAGES, LABELS.astype(float), "expected integers, found float64"),
        (IMAGES, LABELS - 1, r"expected class numbers in range\(65536\), found -1"),
        (IMAGES, LABELS + 2**40, r"expected class numbers in range\(65536\), found 109951162777"),
        (IMAGES[:, :2], LABELS, "expected tasks with one number of inputs, found 2 and 3"),
    ],
)
def test_what_makes_no_task_is_refused(images: object, labels: object, message: str) -> None:
    good = (IMAGES, LABELS, IMAGES, LABELS)
    with pytest.raises(TaskDataError, match=message) as caught:
        TaskStream.from_arrays([good, (images, labels, IMAGES, LABELS)])  # type: ignore[list-item]
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, SupSupError)
    assert isinstance(caught.value, ValueError)


def test_the_test_set_is_checked_as_well() -> None:
    with pytest.raises(TaskDataError, match="task 0, test images: expected finite"):
        TaskStream.from_arrays([(IMAGES, LABELS, spoiled(np.nan), LABELS)])
    with pytest.raises(TaskDataError, match="task 0, test images: expected at least one image"):
        TaskStream.from_arrays([(IMAGES, LABELS, IMAGES[:0], LABELS[:0])])


def test_nothing_and_nonsense_are_refused() -> None:
    with pytest.raises(TaskDataError, match="found no task"):
        TaskStream.from_arrays([])
    with pytest.raises(TaskDataError, match="expected four arrays, found 2"):
        TaskStream.from_arrays([(IMAGES, LABELS)])  # type: ignore[list-item]
    with pytest.raises(TaskDataError, match="expected four arrays, found int"):
        TaskStream.from_arrays([5])  # type: ignore[list-item]
    for pair, found in ((5, "int"), (([], [], []), "3")):
        with pytest.raises(TaskDataError, match=f"task 0: expected a pair of datasets, found {found}"):
            TaskStream.from_datasets([pair])  # type: ignore[list-item]
    good = (IMAGES, LABELS, IMAGES, LABELS)
    with pytest.raises(TaskDataError, match=r"expected labels in range\(2\), found 2"):
        TaskStream.from_arrays([good], classes=2)
    for mean, std in ((0.0, 0.0), (np.nan, 1.0), (0.0, np.inf), ((0.0, 0.0), 1.0), (0.0, [1.0])):
        with pytest.raises(TaskDataError, match="positive std"):
            TaskStream.from_arrays([good], mean=mean, std=std)  # type: ignore[arg-type]


def test_datasets_of_torch_are_taken() -> None:
    images = torch.arange(24, dtype=torch.float32).reshape(4, 1, 2, 3)
    whole = TensorDataset(images, torch.tensor([0, 1, 2, 1]))
    stream = TaskStream.from_datasets([(whole, Subset(whole, [1, 3])), (whole, whole)], name="mine", std=2.0)
    assert (len(stream), stream.inputs, stream.classes, stream.image_shape) == (2, 6, 3, (1, 2, 3))
    assert torch.equal(stream[0].train.images(slice(None)), images.reshape(4, 6) / 2)
    assert torch.equal(stream[0].test.images(slice(None)), images.reshape(4, 6)[[1, 3]] / 2)
    assert stream[0].test.labels.tolist() == [1, 1]


def test_images_of_pillow_and_plain_labels_are_taken() -> None:
    pairs = [(Image.new("L", (3, 2), 51 * value), value) for value in (1, 0)]  # three wide, two high
    stream = TaskStream.from_datasets([(pairs, pairs)])
    assert stream.image_shape == (1, 2, 3)
    torch.testing.assert_close(stream[0].train.images(slice(None)), torch.tensor([[0.2] * 6, [0.0] * 6]))


class Endless(IterableDataset):
    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        yield torch.zeros(2), 0


@pytest.mark.parametrize(
    ("dataset", "phrase"),
    [
        (Endless(), "task 0, train: expected a dataset with a length, found Endless"),
        ([], "task 0, train: expected at least one image"),
        ([(np.zeros(2), 0), (np.zeros(3), 0)], "expected images of one shape"),
        ([np.zeros(2)], r"expected \(image, label\) pairs, found ndarray at 0"),
        ([(np.zeros(2), 0.5)], "labels: expected integers"),
        ([(np.zeros(2), np.array([0, 1]))], r"labels: expected shape \(n,\)"),
        ([(np.array([1, np.nan]), 0)], "expected finite"),
    ],
)
def test_other_datasets_are_refused(dataset: object, phrase: str) -> None:
    with pytest.raises(TaskDataError, match=phrase):
        TaskStream.from_datasets([(dataset, dataset)])


@pytest.mark.parametrize(("shape", "expected"), [((5,), (5,)), ((2, 3), (1, 2, 3)), ((3, 2, 2), (3, 2, 2))])
def test_streams_know_the_shape_of_an_image(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    images = np.zeros((2, *shape), dtype=np.float32)
    assert TaskStream.from_arrays([(images, [0, 1], images, [0, 1])]).image_shape == expected
    flat = images.reshape(2, -1)
    mixed = TaskStream.from_arrays([(images, [0, 1], flat, [0, 1])])
    assert mixed.image_shape == (expected if len(shape) == 1 else (flat.shape[1],))


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([100, 101, 102], "found 3 labels up to 102 and none 0; the tasks have 103 classes"),
        ([1, 2, 3], "none 0; the tasks have 4 classes: number labels from 0, or say `classes=4`"),
        ([0, 1, 3], "found 3 labels up to 3 and none 2"),
    ],
)
def test_classes_without_an_image_are_told(labels: list[int], says: str) -> None:
    images = np.zeros((3, 4), dtype=np.float32)
    task = (images, labels, images, labels)
    with pytest.warns(ClassesWarning, match=re.escape(says)):
        assert TaskStream.from_arrays([task]).classes == max(labels) + 1
    assert TaskStream.from_arrays([task], classes=max(labels) + 1).classes == max(labels) + 1  # said, so no warning
    rest = sorted(set(range(max(labels))) - set(labels)) or [0]
    others = (np.zeros((len(rest), 4)), rest, np.zeros((len(rest), 4)), rest)
    assert len(TaskStream.from_arrays([task, others])) == 2  # another task has the images
