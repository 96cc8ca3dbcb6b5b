"""Tasks trained by workers: the bank and the record are those of a run without, whatever the executor."""

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from maskstore import MaskBank, errors
from supsup_models._progress import Reporter
from supsup_models.cli.app import run_command
from supsup_models.data import TaskStream, open_stream
from supsup_models.errors import ArgumentError, ArgumentTypeError, NetworkError, RunError, ShardError, WorkerError
from supsup_models.networks.convert import convert
from supsup_models.runs import RayExecutor, Run, Workers, run_config, train_run
from supsup_models.runs.workers import SharingExecutor, TrainingJob
from tests.helpers.commands import ROOT, error_of
from tests.helpers.runs import assert_same_run

CONFIG = run_config("permuted-digits", tasks=6, outputs=40, batches=10, recipe="dense", seed=5)


class Sent:
    """An executor that does the work at once, and sends what it is given through pickle, as to another process.

    `breaking` says which submission is lost with its worker.
    """

    def __init__(self, breaking: int | None = None) -> None:
        self.breaking, self.submitted = breaking, list[tuple[int, ...]]()
        self.futures, self.bytes = list[Future[Any]](), 0

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        self.submitted.append(args[-1])
        sent, future = pickle.dumps((fn, args)), Future[Any]()
        self.bytes = max(self.bytes, len(sent))
        self.futures.append(future)
        if self.breaking is not None and len(self.submitted) > self.breaking:
            future.set_exception(BrokenExecutor("a worker ended"))
            return future
        function, given = pickle.loads(sent)
        try:
            future.set_result(pickle.loads(pickle.dumps(function(*given))))
        except Exception as error:
            future.set_exception(error)
        return future


class Sharing(SharingExecutor):
    """An executor that keeps what is shared."""

    def __init__(self) -> None:
        self.shared = list[TrainingJob]()

    def share(self, value: Any) -> Any:
        self.shared.append(pickle.loads(pickle.dumps(value)))
        return len(self.shared) - 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        future = Future[Any]()
        future.set_result(fn(self.shared[args[0]], *args[1:]))
        return future

    def __str__(self) -> str:
        return "a cluster of one"


class Lines(Reporter):
    """Keeps the lines that are said."""

    said: "list[str]"

    def line(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def lines() -> type[Lines]:
    return type("OwnLines", (Lines,), {"said": []})


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    train_run(CONFIG, folder)
    return folder


@pytest.mark.parametrize("tasks", [1, 4])
def test_workers_make_the_run_that_one_process_makes(tasks: int, plain: Path, tmp_path: Path) -> None:
    sent = Sent()
    trained = train_run(CONFIG, tmp_path, executor=Workers(sent, tasks))
    assert trained.new_tasks == 6
    assert sent.submitted == [tuple(range(first, min(6, first + tasks))) for first in range(0, 6, tasks)]
    assert sent.bytes < 20_000  # the data set goes by its name
    assert_same_run(tmp_path, plain)


def test_threads_are_workers_too(plain: Path, tmp_path: Path, lines: type[Lines]) -> None:
    before = torch.get_num_threads()
    with ThreadPoolExecutor(2) as pool:
        train_run(CONFIG, tmp_path, executor=pool, reporter=lines)
    assert torch.get_num_threads() == before
    assert_same_run(tmp_path, plain)
    assert all(f"by process {os.getpid()} on " in line for line in lines.said)


def test_a_shard_and_seeds_go_to_workers(tmp_path: Path) -> None:
    sent = Sent()
    train_run(CONFIG, tmp_path, executor=sent, shard="1/3")
    assert sent.submitted == [(1,), (4,)]


def test_a_lost_worker_is_named_and_the_same_call_goes_on(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="found BrokenExecutor: a worker ended; what is finished is kept"):
        train_run(CONFIG, tmp_path, executor=Sent(breaking=3))
    with MaskBank.open(tmp_path / "masks.bank") as bank:
        assert list(bank) == ["task-0", "task-1", "task-2"]
    assert train_run(CONFIG, tmp_path, executor=Sent()).new_tasks == 3
    assert_same_run(tmp_path, plain)
    unused = Sharing()
    assert train_run(CONFIG, tmp_path, executor=unused).new_tasks == 0
    assert unused.shared == []


def test_a_shared_job_is_sent_once_with_its_data(plain: Path, tmp_path: Path, lines: type[Lines]) -> None:
    cluster = Sharing()
    train_run(CONFIG, tmp_path, executor=Workers(cluster, 2), reporter=lines)
    (job,) = cluster.shared
    assert isinstance(job.stream, TaskStream)
    assert lines.said[0] == "a cluster of one"
    assert_same_run(tmp_path, plain)


def test_an_interrupt_cancels_what_waits_and_keeps_what_is_finished(tmp_path: Path) -> None:
    class Interrupted(Sent):
        def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
            if args[-1] < (2,):
                return super().submit(fn, *args)
            self.futures.append(Future())
            if args[-1] == (2,):
                self.futures[-1].set_exception(KeyboardInterrupt())
            return self.futures[-1]

    executor = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        train_run(CONFIG, tmp_path, executor=executor)
    assert [future.cancelled() for future in executor.futures] == [False] * 3 + [True] * 3
    with MaskBank.open(tmp_path / "masks.bank") as bank:
        assert list(bank) == ["task-0", "task-1"]


@pytest.mark.filterwarnings("ignore::supsup_models.errors.ImageValueWarning")
def test_an_error_of_the_training_is_the_same_as_without_workers(tmp_path: Path) -> None:
    images = np.full((20, 4), 1e38, dtype=np.float32)
    stream = TaskStream.from_arrays([(images, np.arange(20) % 2) * 2])
    model = convert(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), weights="keep", image_shape=(4,))
    with pytest.raises(NetworkError, match="expected a training that stays finite"):
        Run.create(tmp_path, model, stream, batches=3).train(executor=Sent())


def test_other_data_on_a_worker_are_refused(tmp_path: Path) -> None:
    class There(Sent):
        def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
            job = replace(args[0], stream=lambda: open_stream("permuted-digits", tasks=6, seed=6))
            future = Future[Any]()
            try:
                future.set_result(fn(job, *args[1:]))
            except Exception as error:
                future.set_exception(error)
            return future

    with pytest.raises(RunError, match="expected the data that the run was trained on, found seed "):
        train_run(CONFIG, tmp_path, executor=There())


def own_run(folder: Path) -> Run:
    draw = np.random.default_rng(0)

    def labelled(count: int, row: int) -> tuple[Any, Any]:
        labels = draw.integers(0, 2, count)
        pixels = draw.normal(size=(count, 1, 6, 6)).astype("f4")
        pixels[:, 0, row] += 4 * labels[:, None] - 2
        return pixels, labels

    stream = TaskStream.from_arrays([(*labelled(60, row), *labelled(30, row)) for row in range(3)])
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)]
    model = convert(nn.Sequential(*layers), mask="edge-popup", weights="keep", image_shape=(1, 6, 6), seed=1)
    return Run.create(folder, model, stream, batches=20)


def test_a_network_and_data_of_ones_own_are_sent(tmp_path: Path) -> None:
    assert own_run(tmp_path / "sent").train(executor=Sent()).new_tasks == 3
    own_run(tmp_path / "here").train()
    assert_same_run(tmp_path / "sent", tmp_path / "here")
    with MaskBank.open(tmp_path / "sent" / "masks.bank") as bank:
        assert bank.extras("task-2")


def test_what_is_no_executor_and_what_cannot_be_spread_are_refused(tmp_path: Path) -> None:
    for wrong in ("local", 3, ThreadPoolExecutor):
        with pytest.raises(ArgumentTypeError, match="executor: expected a concurrent"):
            train_run(CONFIG, tmp_path / "run", executor=wrong)  # type: ignore[arg-type]
    for asked in ({"tasks": 0}, {"threads": 0}):
        with pytest.raises(ArgumentError, match="workers: expected at least 1 of"):
            Workers(Sent(), **asked)
    for config in (replace(CONFIG, transfer=True), run_config("permuted-digits", tasks=2, task_identity=False)):
        with pytest.raises(ShardError, match="executor: expected a run with"):
            train_run(config, tmp_path / "other", executor=Sent())
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "asked", [{"address": ""}, {"cpus": 0}, {"cpus": float("nan")}, {"gpus": -1.0}, {"workers": 0}]
)
def test_shares_that_cannot_be_are_refused_before_ray_starts(asked: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=r"expected .*, found"):
        RayExecutor(**asked)


def test_without_ray_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["train", "--stream", "permuted-digits", "--tasks", "1", "--cluster", "local", "--out", str(tmp_path)]
    assert run_command(words) == 1
    assert 'found it not installed (pip install "maskstore[cluster]")' in error_of(capsys)
    with pytest.raises(errors.MissingPackageError):
        RayExecutor().share(1)
    capsys.readouterr()
    assert run_command([*words[:-1], str(tmp_path / "other"), "--transfer"]) == 2
    assert "expected a run without transfer" in error_of(capsys)


@pytest.mark.slow
def test_a_pool_of_processes_trains_the_same_run(plain: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        train_run(CONFIG, tmp_path / "run", executor=Workers(pool, tasks=2))
        assert_same_run(tmp_path / "run", plain)
        pids = list(pool._processes)  # type: ignore[attr-defined]
        os.kill(pids[0], signal.SIGKILL)
        with pytest.raises(WorkerError, match="found BrokenProcessPool"):
            train_run(replace(CONFIG, tasks=8), tmp_path / "run", executor=pool)
    assert train_run(replace(CONFIG, tasks=8), tmp_path / "run").new_tasks == 2


@pytest.mark.slow
def test_jobs_of_submitit_train_the_same_run(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=10)
    train_run(CONFIG, tmp_path / "run", executor=Workers(executor, tasks=3))
    assert_same_run(tmp_path / "run", plain)
