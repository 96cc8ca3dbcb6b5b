"""Split ImageNet from a small folder in the true layout, written here."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from supsup_models.data import open_stream
from supsup_models.data.sets.imagenet import MEAN, STD
from supsup_models.errors import DataFormatError, DataNotFoundError, StreamLengthError

CLASSES = [f"n{10_000_000 + 17 * number}" for number in range(20)]


def colour(number: int) -> tuple[int, int, int]:
    return 12 * number, 255 - 12 * number, 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training images and one validation image a class, each of the class's own colour; one grey, one upright."""
    root = tmp_path_factory.mktemp("imagenet")
    for part, count in (("train", 2), ("val", 1)):
        for number, name in enumerate(CLASSES):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                size = (300, 260) if index == 0 else (40, 90)
                image = Image.new("RGB", size, colour(number))
                if number == 3 and part == "val":
                    image = image.convert("L")
                image.save(root / part / name / f"{name}_{index}.JPEG", quality=95)
    (root / "train" / CLASSES[0] / "notes.txt").write_text("no image")
    return root


def test_two_tasks_of_ten_classes(folder: Path) -> None:
    stream = open_stream("split-imagenet", tasks=2, data=folder, seed=1)
    assert (stream.inputs, stream.classes, stream.image_shape) == (3 * 224 * 224, 10, (3, 224, 224))
    assert sorted(label for task in stream for label in task.global_labels) == list(range(20))
    for task in stream:
        assert (len(task.train), len(task.test)) == (20, 10)
        images = task.test.images(slice(None)).view(-1, 3, 224 * 224)
        assert images.dtype == torch.float32
        pixels = (images.mean(dim=2) * torch.tensor(STD) + torch.tensor(MEAN)) * 255
        for label, found in zip(task.test.labels.tolist(), pixels, strict=True):
            number = task.global_labels[label]
            if number != 3:  # the grey one
                np.testing.assert_allclose(found, colour(number), atol=3)
            else:
                assert found.max() - found.min() < 1
        chosen = torch.tensor([4, 0])
        assert torch.equal(task.test.images(chosen), task.test.images(slice(None))[chosen])
    assert open_stream("split-imagenet", tasks=2, data=folder).to_json() != stream.to_json()
    assert open_stream("split-imagenet", tasks=2, data=folder, seed=1).to_json() == stream.to_json()


def test_the_middle_is_what_a_plain_reading_gives(tmp_path: Path, folder: Path) -> None:
    """Resized to 256 on the shorter side, the middle 224 x 224 cut out; an image of 256 x 256 is not resized at all."""
    root = tmp_path / "root"
    random = np.random.default_rng(0)
    array = random.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for part in ("train", "val"):
        for name in CLASSES[:10]:
            (root / part / name).mkdir(parents=True)
            Image.fromarray(array).save(root / part / name / "one.png")
    task = open_stream("split-imagenet", tasks=1, data=root)[0]
    mean, std = (np.array(values)[:, None] for values in (MEAN, STD))
    expected = (array[16:240, 16:240].transpose(2, 0, 1).reshape(3, -1) / 255 - mean) / std
    torch.testing.assert_close(task.test.images(slice(0, 1)), torch.from_numpy(expected).float().reshape(1, -1))
    first = task.train.images(slice(0, 4))
    assert not torch.equal(task.train.images(slice(0, 4)), first)  # other rectangles
    assert torch.equal(task.train.to(torch.device("cpu")).images(slice(0, 4)), first)
    assert not torch.equal(first[0], first[1])


def test_bad_folders(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(StreamLengthError, match="expected 1000 classes for 100 tasks, found 20"):
        open_stream("split-imagenet", data=folder)
    with pytest.raises(DataNotFoundError, match=r"ImageNet not found.*give the folder as `data`"):
        open_stream("split-imagenet", tasks=1, data=tmp_path)
    root = tmp_path / "root"
    for part in ("train", "val"):
        for name in CLASSES[:10]:
            (root / part / name).mkdir(parents=True)
            (root / part / name / "one.JPEG").write_bytes(b"GIF89a is no JPEG")
    task = open_stream("split-imagenet", tasks=1, data=root)[0]
    with pytest.raises(DataFormatError, match=r"one\.JPEG: expected a JPEG or PNG image"):
        task.test.images(slice(0, 1))
    (root / "val" / CLASSES[0] / "one.JPEG").unlink()
    with pytest.raises(DataFormatError, match=f"{CLASSES[0]}: expected images of the class, found none"):
        open_stream("split-imagenet", tasks=1, data=root)
    (root / "val" / CLASSES[0]).rmdir()
    with pytest.raises(DataFormatError, match="in one only"):
        open_stream("split-imagenet", tasks=1, data=root)


def test_no_image_is_an_empty_batch(folder: Path) -> None:
    task = open_stream("split-imagenet", tasks=1, data=folder)[0]
    for images in (task.train, task.test):
        assert images.images(slice(0, 0)).shape == (0, 3 * 224 * 224)
