"""Streams, tasks and what works on them can be sent to other processes, of any start method."""

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from maskstore import MaskMatrix
from supsup_models import (
    Calibration,
    Guess,
    MaskedNetwork,
    MaskServer,
    NumberedTask,
    TaskInference,
    TaskStream,
    infer_task,
    open_stream,
)
from supsup_models.data import Task, unlabelled_batches
from supsup_models.data.augment import Augmented
from supsup_models.data.sets.imagenet import ImageFiles
from supsup_models.data.tasks import Held, Split

Sent = Callable[[Any], Any]
WAYS: dict[str, Sent] = {"pickle": lambda thing: pickle.loads(pickle.dumps(thing)), "deepcopy": copy.deepcopy}


def own_arrays() -> TaskStream:
    draw = np.random.default_rng(0)
    return TaskStream.from_arrays([(draw.random((20, 3, 3)), np.arange(20) % 2) * 2 for _ in range(2)])


KINDS = ("permuted", "rotated", "split", "transformed", "patched")
STREAMS: dict[str, Callable[[], TaskStream]] = {
    **{kind: lambda kind=kind: open_stream(f"{kind}-digits", tasks=2) for kind in KINDS},
    "arrays": own_arrays,
    "data sets": lambda: TaskStream.from_datasets([(task.train, task.test) for task in own_arrays()]),
}


def same(one: Task, other: Task) -> bool:
    parts = ((one.train, other.train), (one.test, other.test))
    return one.name == other.name and all(
        torch.equal(a.labels, b.labels) and torch.equal(a.images(slice(0, 9)), b.images(slice(0, 9))) for a, b in parts
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", STREAMS)
def test_a_copy_has_the_same_images(kind: str, way: str) -> None:
    stream, send = STREAMS[kind](), WAYS[way]
    for copied in (send(stream), [send(task) for task in stream]):
        assert all(same(one, other) for one, other in zip(stream, copied, strict=True))
    split = send(stream[1].train)
    rows = torch.tensor([3, 1])
    assert torch.equal(split.images(rows), stream[1].train.images(rows))
    assert torch.equal(send(split.to("cpu")).images(rows), split.images(rows))
    assert len(send(NumberedTask(1, split)).data) == len(split)


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_of_batches_goes_on_where_it_was(way: str) -> None:
    draw = unlabelled_batches(own_arrays()[0].train, 6, seed=1)
    draw()
    copied = WAYS[way](draw)
    for _ in range(4):
        assert torch.equal(copied(), draw())


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_infers_and_serves_as_the_original(way: str) -> None:
    stream, send = open_stream("split-digits", tasks=2), WAYS[way]
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=20, classes=2, seed=0)
    matrix = MaskMatrix(model.spec, [model.mask_of(model.initial_scores(t)) for t in range(2)], ["task-0", "task-1"])
    images = stream[0].test.images(slice(0, 9))
    calibration = Calibration.fit(model, matrix, dict.fromkeys(matrix.names, images))
    inference, server = TaskInference(model, matrix, calibration=calibration), MaskServer(model, matrix)
    before = inference.infer(images), server(images, "task-1")
    after = send(inference).infer(images), send(server)(images, "task-1")
    assert np.array_equal(before[0].scores, after[0].scores)
    assert before[0].confidence == after[0].confidence
    assert torch.equal(before[1], after[1])
    assert send(server).state.masks == 0


def test_task_images_are_torch_data_sets(tmp_path: Path) -> None:
    split = own_arrays()[0].train
    image, label = split[3]
    assert torch.equal(image, split.images(slice(3, 4))[0])
    assert label == int(split.labels[3])
    assert split[-1][1] == int(split.labels[-1])
    with pytest.raises(IndexError):
        split[20]
    assert len(list(split)) == 20  # iteration ends
    found = torch.cat([images for images, _ in DataLoader(Subset(split, range(12)), batch_size=5)])
    assert torch.equal(found, split.images(slice(0, 12)))
    pixels = torch.arange(2 * 3 * 64, dtype=torch.uint8).view(2, -1)
    colours = Augmented(Split(torch.tensor([0, 1]), Held(pixels), 192), (3, 8, 8), seed=0, task=0)
    assert colours[1][0].shape == (192,)
    assert pickle.loads(pickle.dumps(colours)).inputs == 192
    files = ImageFiles([tmp_path / "none.png"], torch.tensor([0]))
    assert len(pickle.loads(pickle.dumps(files))) == 1


def _guess(model: MaskedNetwork, matrix: MaskMatrix, task: Task) -> Guess:
    return infer_task(model, matrix, task.test.images(slice(0, 9)))


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_other_processes_take_tasks_and_give_guesses(start: str) -> None:
    stream = open_stream("permuted-digits", tasks=3)
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=20, classes=10, seed=0)
    matrix = MaskMatrix(model.spec, [model.mask_of(model.initial_scores(t)) for t in range(3)])
    with ProcessPoolExecutor(1, mp_context=get_context(start)) as pool:
        found = list(pool.map(_guess, [model] * 3, [matrix] * 3, stream))
    for task, guess in zip(stream, found, strict=True):
        assert np.array_equal(guess.scores, _guess(model, matrix, task).scores)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_workers_of_a_data_loader_serve_a_split(start: str) -> None:
    split = open_stream("rotated-digits", tasks=2)[1].test
    loader = DataLoader(split, batch_size=64, num_workers=1, multiprocessing_context=start)
    found = [images for images, _ in loader]
    assert torch.equal(torch.cat(found), split.images(slice(None)))
