"""Serving against the network called with each mask by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from maskstore import MaskBank, MaskMatrix, MaskSpec
from maskstore.errors import TaskNotFoundError
from supsup_models import MaskedNetwork, convert, serve
from supsup_models.errors import ImageValueError, ShapeError
from tests.helpers.masks import random_matrix
from tests.helpers.networks import network

TASKS = 7


@pytest.fixture(scope="module")
def model() -> MaskedNetwork:
    return network((12, 9, 5, 6))


@pytest.fixture(scope="module")
def matrix(model: MaskedNetwork) -> MaskMatrix:
    return random_matrix(model.spec, TASKS)


def test_a_batch_of_several_tasks_is_each_image_under_its_mask(model: MaskedNetwork, matrix: MaskMatrix) -> None:
    server = serve(model, matrix)
    rng = np.random.default_rng(1)
    names = [f"task-{i}" for i in rng.integers(0, TASKS, size=40)]
    images = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    logits = server(images, names)
    for image, name, found in zip(images, names, logits, strict=True):
        torch.testing.assert_close(found, model(image[None], matrix[name])[0])
    torch.testing.assert_close(server(images, "task-3"), model(images, matrix["task-3"]))
    assert server.state.masks == len(set(names) | {"task-3"})


def test_the_cache_is_bounded_and_drops_the_least_recently_used(model: MaskedNetwork, matrix: MaskMatrix) -> None:
    one = 4 * model.spec.bits
    limit = 4 * one  # seven eighths of it hold three decoded masks
    server = serve(model, matrix, cache_bytes=limit)
    for name in ("task-0", "task-1", "task-2", "task-0", "task-3"):  # task-1 leaves for task-3
        server.weights(name)
        assert 0 < server.state.bytes <= limit
    assert (server.state.masks, server.state.hits, server.state.misses) == (3, 1, 4)
    server.weights("task-0")
    assert server.state.hits == 2
    server.weights("task-1")
    assert server.state.misses == 5
    server.forget()
    assert (server.state.masks, server.state.bytes) == (0, 0)


def test_without_room_everything_still_works(model: MaskedNetwork, matrix: MaskMatrix) -> None:
    server = serve(model, matrix, cache_bytes=0)
    images = torch.randn(3, 12)
    torch.testing.assert_close(server(images, "task-2"), model(images, matrix["task-2"]))
    assert server.state.masks == 0


def test_masks_come_from_a_bank_as_asked_for(model: MaskedNetwork, matrix: MaskMatrix, tmp_path: Path) -> None:
    path = tmp_path / "masks.bank"
    with MaskBank.create(path, model.spec) as bank:
        for name in matrix.names:
            bank.put(name, matrix[name])
    images = torch.randn(4, 12)
    with MaskBank.open(path) as bank:
        server = serve(model, bank)
        torch.testing.assert_close(server(images, "task-6"), model(images, matrix["task-6"]))
        assert server.state.masks == 1
        with pytest.raises(TaskNotFoundError, match="task-99"):
            server(images, "task-99")


def test_what_does_not_fit_a_server_is_refused(model: MaskedNetwork, matrix: MaskMatrix) -> None:
    server = serve(model, matrix)
    with pytest.raises(ShapeError, match="a name for each of 3 images, found 2"):
        server(torch.zeros(3, 12), ["task-0", "task-1"])
    with pytest.raises(ShapeError, match="images"):
        server(torch.zeros(3, 11), "task-0")
    with pytest.raises(ImageValueError):
        server(torch.full((1, 12), torch.nan), "task-0")
    with pytest.raises(ShapeError, match="masks"):
        serve(model, MaskMatrix(MaskSpec({"fc1": (2, 2)})))


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_statistics_are_served_with_their_masks(cache_bytes: int, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))
    model = convert(net, image_shape=(1, 3, 3))
    masks = {name: model.mask_of(model.initial_scores(task)) for task, name in enumerate(("a", "b"))}
    rng = np.random.default_rng(0)
    extras = {
        name: {
            key: rng.random(value.shape, dtype=np.float32) + 0.5 for key, value in model.initial_statistics().items()
        }
        for name in masks
    }
    images = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    expected = {name: model(images, masks[name], extras=extras[name]) for name in masks}
    with MaskBank.create(tmp_path / "masks.bank", model.spec) as bank:
        for name, mask in masks.items():
            bank.put(name, mask, extras=extras[name])
        for server in (
            serve(model, bank, cache_bytes=cache_bytes),
            serve(model, bank.matrix(), cache_bytes=cache_bytes, extras=extras),
        ):
            for _ in range(2):
                for name, found in expected.items():
                    torch.testing.assert_close(server(images, name), found)
            mixed = server(images, ["a", "b"] * 3)
            torch.testing.assert_close(mixed[::2], expected["a"][::2])
            torch.testing.assert_close(mixed[1::2], expected["b"][1::2])
            assert server.state.bytes <= cache_bytes
