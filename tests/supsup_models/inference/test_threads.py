"""Inference and serving from many threads give what one gives, bit for bit, and leave the network as it was."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskstore import MaskBank, MaskMatrix
from supsup_models import (
    Adam,
    Calibration,
    MaskedModel,
    MaskServer,
    Recipe,
    TaskInference,
    convert,
    evaluate,
    infer_each,
    infer_task,
    mask_accuracy,
    open_stream,
    serve,
    train_task,
)
from tests.helpers.methods import METHODS
from tests.helpers.networks import network

MASKS, THREADS, ROUNDS = 8, 8, 4


def convolutional(*, norm: bool) -> MaskedModel:
    layers = (nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 6, 3), *((nn.BatchNorm2d(6),) if norm else ()), nn.ReLU())
    return convert(nn.Sequential(*layers, nn.Flatten(), nn.Linear(216, 12)), image_shape=(64,), classes=10)


MODELS: dict[str, Callable[[], MaskedModel]] = {
    "perceptron": lambda: network((64, 20, 30), classes=10),
    "sparse": lambda: network((64, 20, 30), classes=10, densities=(0.2, 0.2)),
    "double": lambda: network((64, 20, 30), classes=10).double(),
    "convolutional": lambda: convolutional(norm=False),
    "with statistics": lambda: convolutional(norm=True),
}


def masks_of(model: MaskedModel) -> tuple[MaskMatrix, dict[str, dict[str, np.ndarray]]]:
    matrix = MaskMatrix(model.spec)
    for number in range(MASKS):
        matrix.append(f"task-{number}", model.mask_of(model.initial_scores(number)))
    draw = np.random.default_rng(0)
    statistics = {name: tuple(value.shape) for name, value in model.initial_statistics().items()}
    extras = {
        name: {key: draw.random(shape, dtype=np.float32) + 0.5 for key, shape in statistics.items()}
        for name in matrix.names
    }
    return matrix, extras


def images(number: int, count: int = 5) -> Tensor:
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(number))


def state_of(model: nn.Module) -> dict[str, Any]:
    flags = {name: module.training for name, module in model.named_modules()}
    grads = {name: value.requires_grad for name, value in (*model.named_parameters(), *model.named_buffers())}
    return {**flags, **grads, "keys": list(model.state_dict()), "attributes": sorted(vars(model))}


def check(jobs: list[Callable[[], Any]]) -> None:
    """Every job's result, alone and among all others in threads, is the same."""

    def flat(result: Any) -> list[np.ndarray]:
        if isinstance(result, Tensor | np.ndarray | float | int):
            return [np.asarray(result)]
        return [np.asarray(each) for each in vars(result).values() if each is not None]

    alone = [flat(job()) for job in jobs]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda job: flat(job()), jobs * ROUNDS))
    for number, found in enumerate(together):
        for one, other in zip(alone[number % len(jobs)], found, strict=True):
            assert np.array_equal(one, other), number % len(jobs)


@pytest.mark.parametrize("kind", MODELS)
def test_task_inference(kind: str) -> None:
    model = MODELS[kind]()
    matrix, extras = masks_of(model)
    before = state_of(model)
    calibration = Calibration.fit(model, matrix, {name: images(9, 30) for name in matrix.names}, extras)
    inference = TaskInference(model, matrix, calibration=calibration, extras=extras)
    methods = ("exhaustive",) if kind == "with statistics" else METHODS
    jobs: list[Callable[[], Any]] = []
    for number, method in enumerate(methods):
        options: dict[str, Any] = {"method": method, "extras": extras, "calibration": calibration}
        jobs += [
            lambda n=number, o=options: infer_task(model, matrix, images(n), **o),
            lambda n=number, o=options: infer_each(model, matrix, images(n), **o),
            lambda n=number, m=method: inference.infer(images(n + 20), method=m),
            lambda n=number, m=method: inference.infer_each(images(n + 20), method=m),
        ]
    check(jobs)
    assert state_of(model) == before


@pytest.mark.parametrize("over", ["matrix", "bank"])
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("room", [0, 3])
def test_serving(kind: str, over: str, room: int, tmp_path: Path) -> None:
    """With room for three masks of eight, masks leave the cache all the time; with none, each is made anew."""
    model = MODELS[kind]()
    matrix, extras = masks_of(model)
    size = model.weights.numel() * model.weights.element_size()
    with MaskBank.create(tmp_path / "m.bank", model.spec) as bank:
        for name in matrix.names:
            bank.put(name, matrix[name], extras=extras[name])
    with MaskBank.open(tmp_path / "m.bank") as bank:
        source = matrix if over == "matrix" else bank
        server = serve(model, source, cache_bytes=room * size * 8 // 7 + 8, extras=extras if over == "matrix" else {})
        names = matrix.names
        jobs: list[Callable[[], Any]] = [
            lambda n=number: server(images(n), names[n] if n % 2 else [names[(n + i) % MASKS] for i in range(5)])
            for number in range(MASKS)
        ]
        before = state_of(model)
        check(jobs)
        assert state_of(model) == before
        state = server.state
        assert state.hits + state.misses == (ROUNDS + 1) * (MASKS // 2 * 1 + MASKS // 2 * 5)
        assert state.bytes <= room * size * 8 // 7 + 8


def test_a_server_shared_with_threads_keeps_what_it_counts() -> None:
    model = MODELS["perceptron"]()
    matrix, _ = masks_of(model)
    server = MaskServer(model, matrix)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda n: server(images(n), matrix.names[n % MASKS]), range(200)))
    assert server.state.hits + server.state.misses == 200
    assert server.state.masks == MASKS
    assert server.state.misses == MASKS  # nobody makes what another thread is making


def test_evaluation_and_accuracy() -> None:
    model = MODELS["perceptron"]()
    stream = open_stream("permuted-digits", tasks=2)
    matrix, _ = masks_of(model)
    jobs: list[Callable[[], Any]] = [
        lambda t=t: mask_accuracy(model, matrix[t], stream[t % 2].test) for t in range(4)
    ] + [lambda t=t: evaluate(model, matrix, stream, "GNu", limit=10 + t).accuracy for t in range(2)]
    check(jobs)


@pytest.mark.parametrize("kind", ["perceptron", "with statistics"])
def test_training_beside_inference(kind: str) -> None:
    """A network that trains in one thread answers in the others as it does alone, and trains the same mask."""
    model = MODELS[kind]()
    matrix, extras = masks_of(model)
    stream = open_stream("split-digits", tasks=2)

    def train(number: int) -> list[np.ndarray]:
        recipe = Recipe("r", Adam(1e-2), batch_size=16)
        trained = train_task(model, stream[number].train, recipe, task=number, steps=15)
        return [trained.mask.words, *trained.extras.values()]

    def infer(number: int) -> list[np.ndarray]:
        return [infer_task(model, matrix, images(number), method="exhaustive", extras=extras).scores]

    jobs = [lambda: train(0), *(lambda n=n: infer(n) for n in range(20)), lambda: train(1)]
    alone = [job() for job in jobs]
    before = state_of(model)
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda job: job(), jobs))
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert state_of(model) == before
