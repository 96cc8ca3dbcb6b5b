"""Streams of transformed images and of several data sets: what each task shows, exactly."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from supsup_models.data import (
    DataSet,
    LabelledImages,
    load_data_set,
    open_stream,
    patch_order,
    stream_kinds,
    turn_order,
)
from supsup_models.data.sets.data_set import LabelledPixels
from supsup_models.errors import DataFormatError, ShapeError

DIGITS = load_data_set("digits")
UPRIGHT = DIGITS.test.images.reshape(-1, 8, 8)


def shown(split: LabelledImages, source: DataSet = DIGITS) -> np.ndarray:
    """A split's images as stored pixels `(n, 8, 8)`."""
    images = split.images(slice(None)).numpy()
    return np.rint((images * source.std + source.mean) * source.levels).astype(int).reshape(-1, 8, 8)


def test_transformed_tasks_turn_mirror_and_invert() -> None:
    tasks = [shown(task.test) for task in open_stream("transformed-digits")]
    mirrored = UPRIGHT[:, :, ::-1]
    for quarters in range(4):
        turned, both = (np.rot90(images, quarters, axes=(1, 2)) for images in (UPRIGHT, mirrored))
        inverted = 4 if quarters == 0 else 8 + quarters
        assert np.array_equal(tasks[quarters], turned)
        assert np.array_equal(tasks[5 + quarters], both)
        assert np.array_equal(tasks[inverted], 16 - turned)
        assert np.array_equal(tasks[12 + quarters], 16 - both)
    assert len(tasks) == 16
    assert not any(np.array_equal(one, other) for one, other in combinations(tasks, 2))


def test_patched_tasks_move_whole_patches() -> None:
    stream = open_stream("patched-digits", tasks=3, seed=5)
    first, second, third = (shown(task.test) for task in stream)
    assert np.array_equal(first, UPRIGHT)
    assert not np.array_equal(second, third)
    for images in (second, third):
        own, stored = (
            {patch.tobytes() for patch in np.ascontiguousarray(_patches(each)).astype(int)}
            for each in (images, UPRIGHT)
        )
        assert own == stored
    assert np.array_equal(shown(open_stream("patched-digits", tasks=3, seed=5)[2].test), third)
    assert not np.array_equal(shown(open_stream("patched-digits", tasks=3, seed=6)[2].test), third)


def _patches(images: np.ndarray) -> np.ndarray:
    """`(16, n, 2, 2)`: each patch of all images."""
    return images.reshape(-1, 4, 2, 4, 2).transpose(1, 3, 0, 2, 4).reshape(16, -1, 2, 2)


def test_patch_orders_are_pinned() -> None:  # a stored bank is useless if the tasks it was trained for change
    columns = open_stream("patched-digits", seed=0)[1].train.columns
    assert columns is not None
    assert columns[:8].tolist() == PINNED


PINNED = [0, 1, 36, 37, 16, 17, 20, 21]


def brighter(name: str) -> DataSet:
    """The digits inverted, as another data set."""
    parts = (LabelledPixels(16 - images, labels) for images, labels in (DIGITS.train, DIGITS.test))
    train, test = parts
    return replace(DIGITS, name=name, train=train, test=test, mean=1 - float(DIGITS.mean))


def test_data_sets_take_turns_and_are_normalised_alike() -> None:
    sources = stream_kinds.alike([DIGITS, brighter("light")])
    for source in sources:
        assert (source.mean, source.std) == (sources[0].mean, sources[0].std)
    both = np.concatenate([source.train.images for source in sources]) / 16
    assert abs(both.mean() - sources[0].mean) < 2e-3
    assert abs(both.std() - sources[0].std) < 2e-3
    make_task = stream_kinds.TakingTurns([stream_kinds.of_kind("transformed", source, 0) for source in sources])
    for index in range(6):
        task = make_task(index)
        source = sources[index % 2]
        assert (task.index, task.name) == (index, f"task-{index}")
        expected = np.rot90(source.test.images.reshape(-1, 8, 8), index // 2, axes=(1, 2))
        assert np.array_equal(shown(task.test, source), expected)
        assert torch.equal(task.test.labels, torch.from_numpy(source.test.labels))
    with pytest.raises(DataFormatError, match="expected images of one shape"):
        stream_kinds.alike([DIGITS, replace(DIGITS, image_shape=(1, 4, 16))])


@pytest.mark.mnist
def test_a_data_set_that_is_missing_is_named(tmp_path: Path) -> None:
    from supsup_models.data.sets.find import find_folder
    from supsup_models.data.sets.mnist import IDX_DATA_SETS
    from supsup_models.errors import DataNotFoundError

    (tmp_path / "mnist").symlink_to(find_folder(IDX_DATA_SETS["mnist"]))
    with pytest.raises(DataNotFoundError, match="Fashion-MNIST not found"):
        open_stream("datasets-mnist+fashion-mnist", data=tmp_path)


def test_colours_keep_their_channels() -> None:
    image = np.arange(2 * 4 * 4)
    channels = image.reshape(2, 4, 4)
    assert np.array_equal(image[turn_order((2, 4, 4), 3)].reshape(2, 4, 4), np.rot90(channels, 3, axes=(1, 2)))
    swapped = image[patch_order((2, 4, 4), np.array([1, 0, 2, 3]), patches=2)].reshape(2, 4, 4)
    assert np.array_equal(swapped[:, :2, :2], channels[:, :2, 2:])
    assert np.array_equal(swapped[:, 2:], channels[:, 2:])


def test_shapes_that_cannot_be_turned_or_cut_are_refused() -> None:
    assert turn_order((1, 2, 3), 2).tolist() == [5, 4, 3, 2, 1, 0]
    with pytest.raises(ShapeError, match="expected square images, found 2 x 3"):
        turn_order((1, 2, 3), 1)
    with pytest.raises(ShapeError, match="expected sides that 4 divides, found 6 x 8"):
        patch_order((1, 6, 8), np.arange(16))
