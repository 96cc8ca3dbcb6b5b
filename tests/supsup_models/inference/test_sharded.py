"""Sharded inference: masks in many workers give the answers of one matrix, to the bit."""

import os
import signal

import numpy as np
import pytest
import torch

from maskstore import KeptWeights, MaskBank, MaskMatrix, MaskSpec
from maskstore.interop import write_shards
from maskstore.kernels import has_lookup
from supsup_models import MaskedNetwork, TaskInference, convert
from supsup_models.errors import (
    ArgumentError,
    ImageValueError,
    InferenceError,
    ShapeError,
    UnknownNameError,
    WorkerError,
)
from supsup_models.inference import LocalWorkers, ProcessWorkers, ShardedInference
from supsup_models.inference.sharded.part import UNIT, Best, best_of, merged
from tests.helpers.masks import random_matrix

MASKS = 2 * UNIT + 500 + 7  # three units, the last one not full, and a tail


@pytest.fixture(scope="module")
def model():
    return MaskedNetwork("lenet-300-100", inputs=20, outputs=30, classes=10, seed=0)


@pytest.fixture(scope="module")
def sparse():
    return MaskedNetwork("lenet-300-100", inputs=20, outputs=30, classes=10, seed=0, densities=(0.1, 0.2, 0.3))


@pytest.fixture(scope="module")
def matrix(model):
    return random_matrix(model.spec, MASKS)


def _images(count, seed=0):
    return torch.rand(count, 20, generator=torch.Generator().manual_seed(seed))


def _check(inference, one, *, each=(2,), methods=("one-shot", "short-list")):
    names = one._mixed.matrix.names
    assert inference.names == names
    for seed, count in enumerate((1, 5, 64)):
        images = _images(count, seed)
        found, expected = inference.infer(images), one.infer(images)
        assert found.task == expected.task
        assert found.tasks[0] == found.task
        assert np.array_equal(found.scores, np.sort(expected.scores)[::-1][: len(found.scores)])
        assert np.array_equal(found.scores, expected.scores[found.tasks])
    for method in methods:
        for count in each:
            images = _images(count, 9)
            found, expected = inference.infer_each(images, method=method), one.infer_each(images, method=method)
            assert np.array_equal(found.tasks, expected.tasks)
            finite = np.isfinite(found.scores)
            assert np.array_equal(np.take_along_axis(expected.scores, found.best, axis=1)[finite], found.scores[finite])
            if method == "one-shot" or not has_lookup():
                assert np.array_equal(found.scores, -np.sort(-expected.scores, axis=1)[:, : found.scores.shape[1]])


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_parts_give_what_one_matrix_gives(model, matrix, workers):
    with ShardedInference(model, matrix, LocalWorkers(workers), threads=None) as inference:
        each = (3,) if workers == 2 else ()  # a pass a mask, where the processor lacks AVX-512
        _check(inference, TaskInference(model, matrix), each=each)


@pytest.mark.parametrize("objective", ["H", "G"])
def test_sparse_recipes_exchange_nothing_beforehand(sparse, matrix, objective):
    workers = LocalWorkers(2)
    questions, ask = [], workers.ask
    workers.ask = lambda question, *arguments: questions.append(question) or ask(question, *arguments)
    with ShardedInference(sparse, matrix, workers, threads=None) as inference:
        _check(inference, TaskInference(sparse, matrix), each=(2,) if objective == "H" else (), methods=("short-list",))
        assert inference.infer(_images(3), objective=objective).task == (
            TaskInference(sparse, matrix).infer(_images(3), objective=objective).task
        )
    assert "counts" not in questions


def test_few_masks_leave_workers_without_any(model):
    matrix = random_matrix(model.spec, 3)
    with ShardedInference(model, matrix, LocalWorkers(4), best=5, threads=None) as inference:
        _check(inference, TaskInference(model, matrix), each=(1,))
        assert len(inference.infer(_images(2)).tasks) == 3


def test_sources_of_every_kind(model, tmp_path):
    """A matrix, an open bank, the place of a bank and a shard set, of which none ends where a worker's rows end."""
    parts = [random_matrix(model.spec, count, seed=count) for count in (600, 333, 100, 50)]
    whole = MaskMatrix(model.spec)
    for number, part in enumerate(parts):
        with MaskBank.create(tmp_path / f"{number}.bank", model.spec) as bank:
            for name in part.names:
                whole.append(f"{number}-{name}", part[name])
                bank.put(f"{number}-{name}", part[name], codec="raw")
    first = whole.select(range(600))
    with MaskBank.open(tmp_path / "1.bank") as one, MaskBank.open(tmp_path / "3.bank") as three:
        write_shards(three, tmp_path / "tasks", shards=3)
        sources = [first, one, tmp_path / "2.bank", str(tmp_path / "tasks")]
        with ShardedInference(model, sources, LocalWorkers(2), threads=None) as inference:
            _check(inference, TaskInference(model, whole), each=(2,))
    with ShardedInference(model, [tmp_path / "1.bank", first], LocalWorkers(2), threads=None) as inference:
        assert inference.names == (*whole.names[600:933], *first.names)
        other = MaskMatrix(model.spec, [*(whole[row] for row in range(600, 933)), *(whole[row] for row in range(600))])
        assert np.array_equal(
            inference.infer(_images(3)).scores[:1], [TaskInference(model, other).infer(_images(3)).scores.max()]
        )


def test_a_converted_network(tmp_path):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    model = convert(module, seed=0, classes=10, image_shape=(20,))
    matrix = random_matrix(model.spec, 40)
    with ShardedInference(model, matrix, LocalWorkers(2), threads=None) as inference:
        _check(inference, TaskInference(model, matrix), each=(1, 5), methods=("one-shot",))
        for ask in (inference.infer, inference.infer_each):
            with pytest.raises(
                InferenceError, match=r"^short-list inference over workers: .*`method=\"one-shot\"` works$"
            ):
                ask(_images(2), method="short-list")


@pytest.mark.slow
def test_processes_give_what_one_matrix_gives(model, matrix):
    with ShardedInference(model, matrix, workers=2) as inference:
        _check(inference, TaskInference(model, matrix), methods=("one-shot",))
        assert "2 workers" in repr(inference)
    inference.close()
    with pytest.raises(WorkerError, match="found them closed"):
        inference.infer(_images(2))


@pytest.mark.slow
def test_a_process_that_is_killed_is_named(model, matrix):
    workers = ProcessWorkers(2)
    with ShardedInference(model, matrix, workers) as inference:
        os.kill(workers._processes[1].pid, signal.SIGKILL)
        workers._processes[1].join()
        with pytest.raises(WorkerError, match=r"worker 1.*exit code -9"):
            inference.infer(_images(2))


@pytest.mark.slow
def test_an_error_in_a_worker_is_the_callers(model, tmp_path):
    with MaskBank.create(tmp_path / "a.bank", model.spec) as bank:
        for name, mask in zip("abc", (random_matrix(model.spec, 3)[row] for row in range(3)), strict=True):
            bank.put(name, mask)
    workers = ProcessWorkers(1)
    start = workers.start
    workers.start = lambda plans: ((tmp_path / "a.bank").unlink(), start(plans))
    with pytest.raises(FileNotFoundError):
        ShardedInference(model, tmp_path / "a.bank", workers)


def _rank(rank, port, folder):
    import datetime

    from torch import distributed

    from supsup_models.inference import DistributedWorkers

    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    workers = DistributedWorkers()
    if rank:
        workers.serve()
    else:
        model = MaskedNetwork("lenet-300-100", inputs=20, outputs=30, classes=10, seed=0)
        matrix = random_matrix(model.spec, UNIT + 50)
        with ShardedInference(model, matrix, workers) as inference:
            _check(inference, TaskInference(model, matrix), each=(2,), methods=("one-shot",))
        (folder / "done").write_text("yes")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_of_torch_distributed(tmp_path):
    import multiprocessing
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=_rank, args=(rank, port, tmp_path)) for rank in range(2)]
    for one in ranks:
        one.start()
    for one in ranks:
        one.join(120)
    assert [one.exitcode for one in ranks] == [0, 0]
    assert (tmp_path / "done").exists()


@pytest.mark.slow
def test_actors_of_ray(model, matrix):
    ray = pytest.importorskip("ray", reason="Ray is in no extra that the tests install")
    from supsup_models.inference import RayWorkers

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with ShardedInference(model, matrix, RayWorkers(2)) as inference:
            _check(inference, TaskInference(model, matrix), each=(2,), methods=("one-shot",))
    finally:
        ray.shutdown()


def test_scores_that_are_no_numbers_are_told(model, matrix):
    part = LocalWorkers(1)
    with ShardedInference(model, matrix, part, threads=None) as inference:
        vector = np.full((1, model.spec.bits), np.nan, dtype=np.float32)
        assert not part.ask("best_by_dot", vector, 3)[0].are_numbers
        part.ask = lambda *_: [Best(np.zeros((1, 1), dtype=np.int64), np.zeros((1, 1), dtype=np.float32), False)]
        with pytest.raises(ImageValueError, match="found NaN"):
            inference.infer(_images(2))


def test_wrong_arguments_are_named(model, matrix):
    other = MaskMatrix(MaskSpec({"fc1": (2, 3)}))
    with pytest.raises(ShapeError):
        ShardedInference(model, other, LocalWorkers(1))
    with pytest.raises(InferenceError, match="found none"):
        ShardedInference(model, MaskMatrix(model.spec), LocalWorkers(1))
    with pytest.raises(InferenceError, match="come twice"):
        ShardedInference(model, [matrix, matrix], LocalWorkers(1))
    for wrong in ({"workers": 0}, {"workers": "two"}, {"workers": LocalWorkers(1), "best": 0}):
        with pytest.raises(ArgumentError):
            ShardedInference(model, matrix, **wrong)
    with ShardedInference(model, matrix, LocalWorkers(1), threads=None) as inference:
        for wrong in ({"method": "exhaustive"}, {"objective": "Q"}):
            with pytest.raises(UnknownNameError):
                inference.infer(_images(1), **wrong)


def test_the_best_few_and_their_merge():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.integers(0, 6, size=(3, 40)).astype(np.float32)  # with ties
        expected = np.argsort(-scores, axis=1, kind="stable")[:, :7]
        assert np.array_equal(np.stack([best_of(row, 7) for row in scores]), expected)
        parts = []
        for start, stop in ((0, 10), (10, 10), (10, 31), (31, 40)):
            rows = np.array([best_of(row[start:stop], 7) + start for row in scores]).reshape(3, -1).astype(np.int64)
            parts.append(Best(rows, np.take_along_axis(scores, rows, axis=1), True))
        found = merged(parts, 7)
        assert np.array_equal(found.rows, expected)
        assert np.array_equal(found.scores, np.take_along_axis(scores, expected, axis=1))


def test_a_location_of_masks_on_kept_weights_is_read_with_the_networks(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 20), torch.nn.ReLU(), torch.nn.Linear(20, 4))
    kept = convert(net, weights="keep", image_shape=(6,), classes=3)
    prior, path = KeptWeights(kept.backbone()), tmp_path / "a.bank"
    with MaskBank.create(path, kept.spec, meta=kept.bank_meta()) as bank:
        for row, name in enumerate("abcd"):
            bank.put(name, random_matrix(kept.spec, 4)[row], prior=prior)
    with MaskBank.open(path, backbone=kept.backbone()) as bank:
        right = TaskInference(kept, bank.matrix()).infer(torch.ones(2, 6), method="one-shot", objective="H")
    with ShardedInference(kept, path, LocalWorkers(2)) as inference:
        found = inference.infer(torch.ones(2, 6), method="one-shot", objective="H")
    assert found.task == right.task
