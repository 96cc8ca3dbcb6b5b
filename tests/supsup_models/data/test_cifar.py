"""CIFAR-100 from small files in its two true layouts; what else a pickle may hold is refused, and nothing is run."""

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from supsup_models.cli.app import run_command
from supsup_models.data import load_data_set, open_stream
from supsup_models.data.sets.cifar import MEAN, STD
from supsup_models.data.stream_kinds import shared_out
from supsup_models.errors import DataFormatError, DataNotFoundError

PER_CLASS = {"train": 2, "test": 1}


@pytest.fixture(autouse=True)
def nothing_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MASKSTORE_DATA", raising=False)


def pixels_and_labels(part: str) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(100), PER_CLASS[part])
    random = np.random.default_rng(len(part))
    random.shuffle(labels)
    return random.integers(0, 256, (len(labels), 3072), dtype=np.uint8), labels


def write_binary(folder: Path) -> Path:
    """A coarse label, a fine label and 3072 pixels a record."""
    folder.mkdir(parents=True)
    for part in PER_CLASS:
        images, labels = pixels_and_labels(part)
        coarse = (labels // 5).astype(np.uint8)[:, None]
        records = np.concatenate([coarse, labels.astype(np.uint8)[:, None], images], axis=1)
        (folder / f"{part}.bin").write_bytes(records.tobytes())
    return folder


def python_2_pickle(images: np.ndarray, labels: list[int]) -> bytes:
    """The bytes that Python 2's cPickle made of CIFAR-100: protocol 2, byte strings, numpy's names of that time."""

    def text(value: bytes) -> bytes:
        short = len(value) < 256
        return (b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))) + value

    rows, columns = images.shape
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + text(b"b") + b"\x87R"
        b"(K\x01" + b"J" + struct.pack("<i", rows) + b"J" + struct.pack("<i", columns) + b"\x86"
        b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
        b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89" + text(images.tobytes()) + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    coarse = b"](" + b"".join(b"K" + bytes([label // 5]) for label in labels) + b"e"
    names = b"](" + b"".join(text(b"image_%d.png" % number) for number in range(len(labels))) + b"e"
    entries = (("filenames", names), ("batch_label", text(b"training batch 1 of 1")), ("fine_labels", numbers))
    entries += (("coarse_labels", coarse), ("data", array))
    return b"\x80\x02}(" + b"".join(text(key.encode()) + value for key, value in entries) + b"u."


def write_python(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for part in PER_CLASS:
        images, labels = pixels_and_labels(part)
        (folder / part).write_bytes(python_2_pickle(images, labels.tolist()))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple"]}, protocol=2))
    return folder


def test_the_pickle_of_this_test_is_what_others_read() -> None:
    images, labels = pixels_and_labels("test")
    found = pickle.loads(python_2_pickle(images, labels.tolist()), encoding="bytes")
    assert np.array_equal(found[b"data"], images)
    assert found[b"fine_labels"] == labels.tolist()


@pytest.mark.parametrize("write", [write_binary, write_python])
@pytest.mark.parametrize("below", ["", "archive", "cifar-100/archive"])
def test_both_layouts_give_the_same_images(write, below: str, tmp_path: Path) -> None:
    archive = "cifar-100-binary" if write is write_binary else "cifar-100-python"
    write(tmp_path / "data" / below.replace("archive", archive))
    found = load_data_set("cifar-100", data=tmp_path / "data")
    for part, images, labels in (
        ("train", found.train.images, found.train.labels),
        ("test", found.test.images, found.test.labels),
    ):
        assert np.array_equal(images, pixels_and_labels(part)[0])
        assert np.array_equal(labels, pixels_and_labels(part)[1])
    assert (found.image_shape, found.inputs, found.classes) == ((3, 32, 32), 3072, 100)


def test_split_tasks_share_out_all_classes_by_the_seed(tmp_path: Path) -> None:
    stream = open_stream("split-cifar-100", seed=3, data=write_binary(tmp_path / "data"))
    assert (len(stream), stream.classes, stream.inputs, stream.image_shape) == (20, 5, 3072, (3, 32, 32))
    assert sorted(label for task in stream for label in task.global_labels) == list(range(100))
    other = open_stream("split-cifar-100", seed=4, data=tmp_path / "data")
    assert stream[0].global_labels != other[0].global_labels
    assert stream[0].global_labels == shared_out(100, 5, 3)[0]
    assert shared_out(100, 5, 0)[0] == (60, 18, 79, 38, 72)  # pinned: stored masks are of these classes
    task = stream[7]
    images, labels = pixels_and_labels("test")
    rows = np.flatnonzero(np.isin(labels, task.global_labels))
    mean, std = (np.repeat(np.array(values), 1024) for values in (MEAN, STD))
    torch.testing.assert_close(
        task.test.images(slice(None)), torch.from_numpy((images[rows] / 255 - mean) / std).float()
    )
    assert [task.global_labels[label] for label in task.test.labels] == labels[rows].tolist()


def test_training_images_are_crops_that_may_be_mirrored(tmp_path: Path) -> None:
    task = open_stream("split-cifar-100", data=write_binary(tmp_path / "data"))[2]
    images, labels = pixels_and_labels("train")
    whole = images[np.isin(labels, task.global_labels)].reshape(-1, 3, 32, 32)
    scale, shift = (np.array(values).reshape(1, 3, 1, 1) for values in (task.train.scale, task.train.shift))
    padded = np.pad(whole, ((0, 0), (0, 0), (4, 4), (4, 4)))
    served = task.train.images(slice(None)).reshape(-1, 3, 32, 32).numpy()
    pixels = np.rint((served - shift) / scale).astype(np.int64)
    places = set()
    for own, image in zip(padded, pixels, strict=True):
        crops = {
            (down, right, mirrored): own[:, down : down + 32, right : right + 32][:, :, :: -1 if mirrored else 1]
            for down in range(9)
            for right in range(9)
            for mirrored in (False, True)
        }
        found = [place for place, crop in crops.items() if np.array_equal(crop, image)]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 5
    again = task.train.images(slice(None)).reshape(-1, 3, 32, 32).numpy()
    assert not np.array_equal(again, served)  # another batch, other crops
    afresh = task.train.to(torch.device("cpu"))
    assert np.array_equal(afresh.images(slice(None)).reshape(-1, 3, 32, 32).numpy(), served)
    assert len(task.train) == len(task.train.labels) == 10


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never be printed",)


def test_pickles_that_name_anything_else_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_python(tmp_path / "data")
    images, labels = pixels_and_labels("test")
    good = {b"data": images, b"fine_labels": labels.tolist()}
    bad = {
        "evil": pickle.dumps({**good, b"more": Evil()}, protocol=2),
        "objects": pickle.dumps({**good, b"data": np.array([Evil()] * 2)}, protocol=2),
        "no data": pickle.dumps({b"fine_labels": [1]}, protocol=2),
        "a list": pickle.dumps([1, 2], protocol=2),
        "few pixels": python_2_pickle(images[:, :100], labels.tolist()),
        "few labels": python_2_pickle(images, labels.tolist()[:-1]),
        "large labels": python_2_pickle(images, [100, *labels.tolist()[1:]]),
        "cut short": python_2_pickle(images, labels.tolist())[:-100],
        "empty": b"",
        "text": b"hello",
        "large memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    }
    for name, content in bad.items():
        (folder / "test").write_bytes(content)
        with pytest.raises(DataFormatError, match="expected") as caught:
            load_data_set("cifar-100", data=folder)
        assert "\n" not in str(caught.value), name
        assert str(folder / "test") in str(caught.value), name
    assert capsys.readouterr().out == ""


def test_binary_files_that_are_none(tmp_path: Path) -> None:
    folder = write_binary(tmp_path / "data")
    for content, phrase in (
        (b"", "found 0 bytes"),
        (b"\0" * 3073, "found 3073 bytes"),
        (b"\0\xc8" + b"\0" * 3072, "found 200 to 200"),
    ):
        (folder / "test.bin").write_bytes(content)
        with pytest.raises(DataFormatError, match=phrase):
            load_data_set("cifar-100", data=folder)
    (folder / "test.bin").write_bytes(b"\0" * 3074)  # a class without images is seen by the task that needs it
    with pytest.raises(DataFormatError, match=r"expected images of class \d+, found none"):
        open_stream("split-cifar-100", data=folder)[0]


def test_nothing_there_says_where_to_get_it(tmp_path: Path) -> None:
    for download in (False, True):
        with pytest.raises(DataNotFoundError, match=r"CIFAR-100 not found.*cifar-100-binary\.tar\.gz"):
            load_data_set("cifar-100", data=tmp_path, download=download)


def test_runs_over_colour_images_infer_from_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_binary(tmp_path / "data")
    arguments = ["train", "--stream", "split-cifar-100", "--data", str(tmp_path / "data"), "--tasks", "2"]
    run = str(tmp_path / "run")
    assert run_command([*arguments, "--outputs", "9", "--batches", "8", "--out", run]) == 0
    task = open_stream("split-cifar-100", tasks=2, data=tmp_path / "data")[1]
    images, labels = pixels_and_labels("test")
    own = images[np.isin(labels, task.global_labels)]
    files = {
        "bytes": own.reshape(-1, 3, 32, 32),
        "flat": own,
        "floats": task.test.images(slice(None)).numpy(),
        "last": own.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1),
    }
    answers = {}
    for name, array in files.items():
        np.save(tmp_path / f"{name}.npy", array)
        capsys.readouterr()
        code = run_command(["infer", run, str(tmp_path / f"{name}.npy"), "--json"])
        printed = capsys.readouterr()
        if name == "last":
            assert code == 1
            assert "expected images of 3 channels, channels first, found (32, 32, 3)" in printed.err
        else:
            answers[name] = [(each["task"], each["label"]) for each in json.loads(printed.out)["answers"]]
    assert answers["bytes"] == answers["flat"] == answers["floats"]
    assert run_command(["eval", run, "--data", str(tmp_path / "data"), "--scenario", "GG"]) == 0
