"""Serving against the network called with each mask by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from maskstore import Mask, MaskBank, MaskMatrix, MaskSpec
from maskstore.errors import TaskNotFoundError
from supsup_models import MaskedNetwork, serve
from supsup_models.errors import ImageValueError, ShapeError
from supsup_models.networks import MultilayerPerceptron

TASKS = 7


@pytest.fixture(scope="module")
def model() -> MaskedNetwork:
    return MaskedNetwork(MultilayerPerceptron("small", (9, 5)), inputs=12, outputs=6, seed=0)


@pytest.fixture(scope="module")
def matrix(model: MaskedNetwork) -> MaskMatrix:
    bits = np.random.default_rng(0).random((TASKS, model.spec.bits)) < 0.5
    names = [f"task-{i}" for i in range(TASKS)]
    return MaskMatrix(model.spec, [Mask.from_flat(row, model.spec) for row in bits], names)


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
