"""Serving: mixed batches against a pass for each mask, and a server against one that decodes and runs each request.

`pytest benchmarks/ -k serving -s --full`. Ratios are asserted, times of this machine are printed. Masks are random, as
dense as trained ones; what they answer was computed beforehand, a pass for each image.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median
from threading import Event
from time import perf_counter, process_time
from urllib.parse import quote

import numpy as np
import pytest
import torch

from benchmarks.serving_load import Asked, Load, run_load
from benchmarks.serving_process import logits_of, network
from maskstore import Mask, MaskBank, MaskMatrix
from maskstore.kernels.threads import CORES, limit_threads
from supsup_models import MaskedModel, mixed_logits, open_stream, run_config, train_run
from supsup_models.networks.convert import ConvertedModel
from tests.helpers.servers import raw_answer, served_in_a_process
from tests.supsup_models.serving.test_hostile_requests import REQUESTS

NETWORKS = ("lenet", "resnet")


def random_masks(model: MaskedModel, count: int) -> Iterator[Mask]:
    """Masks near the initial ones: an eighth of the scores is drawn anew, as training changes about as many bits."""
    rng, start = np.random.default_rng(0), model.initial_scores(0)
    for _ in range(count):
        scores = start.clone()
        fresh = torch.from_numpy(rng.random(len(scores), dtype=np.float32) < 0.25)
        scores[fresh] = scores[fresh][torch.from_numpy(rng.permutation(int(fresh.sum())))]
        yield model.mask_of(scores)


def statistics(model: MaskedModel, mask: Mask) -> dict[str, np.ndarray]:
    """Normalisation statistics that suit a mask, as training leaves them; none for a network without."""
    if not isinstance(model, ConvertedModel):
        return {}
    return {name: value.numpy() for name, value in model._measured(model.masked_weights(mask)).items()}


def in_turns(works: tuple[Callable[[], object], ...], repeats: int, clock: Callable[[], float]) -> list[float]:
    """The median seconds of each, taken in turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 1):
        for work, own in zip(works, times, strict=True):
            start = clock()
            work()
            own.append(clock() - start)
    return [median(own[1:]) for own in times]


def on_one_core(works: tuple[Callable[[], object], ...], repeats: int) -> list[float]:
    """The same in the processor's time and one thread, on which other programs have less influence."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    limit_threads(1)
    try:
        return in_turns(works, repeats, process_time)
    finally:
        torch.set_num_threads(threads)
        limit_threads(CORES)


@pytest.mark.parametrize("name", NETWORKS)
def test_serving_mixed_batch(name, full):
    model, count = network(name), 128 if full else 32
    masks = list(random_masks(model, count))
    own = statistics(model, masks[0])
    names = [f"task-{number}" for number in range(count)]
    matrix, extras = MaskMatrix(model.spec, masks, names), dict.fromkeys(names, own) if own else {}
    images = torch.randn(count, model.inputs, generator=torch.Generator().manual_seed(0))

    def passes() -> torch.Tensor:
        rows = [logits_of(model, images[i : i + 1], matrix[i], own or None) for i in range(count)]
        return torch.cat(rows)

    def mixed() -> torch.Tensor:
        return mixed_logits(model, matrix, images, names, extras=extras)

    wanted, found = passes(), mixed()
    error = float((wanted - found).abs().max() / wanted.abs().max())
    repeats = 7 if full else 3
    print(
        f"\n{name}, {count} images under {count} masks of density {masks[0].density:.2f}; largest difference "
        f"{error:.1e} of the largest logit"
    )
    for what, (one_by_one, together) in (
        ("by the clock, all cores", in_turns((passes, mixed), repeats, perf_counter)),
        ("processor time, one thread", on_one_core((passes, mixed), repeats)),
    ):
        gain = one_by_one / together
        print(f"  {what}: {count} passes {1e3 * one_by_one:.1f} ms, mixed {1e3 * together:.1f} ms, {gain:.1f} x")
        assert gain >= ((5 if name == "lenet" else 2) if full else 1)
    assert error < 1e-5


class Served:
    """A bank, and requests for it with their answers."""

    def __init__(self, folder: Path, name: str, tasks: int) -> None:
        self.name, self.path = name, folder / f"{name}.bank"
        model = network(name)
        rng = np.random.default_rng(1)
        self.images = rng.standard_normal((tasks, model.inputs)).astype("f4")
        self.tasks = [f"task-{number}" for number in range(tasks)]
        self.answers: list[tuple[str, int, float]] = []
        own: dict[str, np.ndarray] = {}
        with MaskBank.create(self.path, model.spec, meta=model.bank_meta()) as bank, bank.transaction():
            for number, mask in enumerate(random_masks(model, tasks)):
                own = own or statistics(model, mask)
                bank.put(self.tasks[number], mask, prior=model.prior(0), extras=own or None)
                logits = logits_of(model, torch.from_numpy(self.images[number : number + 1]), mask, own or None)
                sure, label = torch.softmax(logits, 1)[0, : model.classes].max(0)
                self.answers.append((self.tasks[number], int(label), float(sure)))

    def requests(self, count: int, images: int) -> list[Asked]:
        """Requests over all masks, so many images each under as many masks."""
        order = np.random.default_rng(2).permutation(np.arange(count * images) % len(self.tasks)).reshape(count, images)
        return [self.request(rows.tolist()) for rows in order]

    def request(self, rows: list[int]) -> Asked:
        """One request for these images."""
        stream = BytesIO()
        np.lib.format.write_array(stream, self.images[rows], allow_pickle=False)
        query = "&".join(f"task={quote(self.tasks[row])}" for row in rows)
        body = stream.getvalue()
        head = f"POST /predict?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\n"
        sent = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        return Asked(sent, tuple(self.answers[row] for row in rows))


@contextmanager
def server(served: Served, kind: str, mib: int = 1024) -> Iterator[tuple[str, int]]:
    """A server in its own process: where it answers, and its process id."""
    command = [sys.executable, "-m", "benchmarks.serving_process", served.name, str(served.path), kind, str(mib)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.kill()


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def told(what: str, load: Load) -> str:
    return (
        f"{what}: {load.answers} answers, {load.wrong} wrong, {load.rate:.0f} a second, p50 "
        f"{1e3 * load.quantile(0.5):.1f} ms, p95 {1e3 * load.quantile(0.95):.1f} ms"
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_serving_many_masks(name, full, tmp_path):
    served = Served(tmp_path, name, (1024 if full else 24))
    shapes = {"lenet": ((20_000, 1), (5_000, 16)), "resnet": ((20_000, 1),)}[name] if full else ((60, 1),)
    few = {"lenet": 320, "resnet": 128}[name] if full else 30
    for count, images in shapes:
        warm = served.requests(-(-len(served.tasks) // images), images)
        with server(served, "decoded") as (url, _):
            decoded = run_load(url, served.requests(-(-few // images), images), 64)
        with server(served, "served") as (url, pid):
            run_load(url, warm, 64)  # all masks are in memory then
            load = run_load(url, served.requests(count, images), 64)
            print(f"\n{name}, {len(served.tasks)} masks, 64 clients, {images} images and masks a request")
            print(told("  served", load) + f", memory {resident(pid) >> 20} MiB")
        print(told("  decode and run", decoded) + f"; served answers {load.rate / decoded.rate:.1f} times as many")
        assert load.wrong == decoded.wrong == 0
        if full:
            assert load.quantile(0.95) <= 3 * load.quantile(0.5)


def test_serving_hostile_requests(full, tmp_path):
    served = Served(tmp_path, "lenet", 64)
    sent = [request for request in REQUESTS.values() if len(request) < 1 << 22]
    count = 500 if full else len(sent)
    with server(served, "served") as (url, pid), ThreadPoolExecutor(9) as pool:
        run_load(url, served.requests(64, 1), 8)
        before = resident(pid)
        harm = [pool.submit(raw_answer, url, sent[number % len(sent)]) for number in range(count)]
        load = run_load(url, served.requests(4 * count, 1), 8)
        found = [each.result()[0] for each in harm]
        grown = resident(pid) - before
    print(f"\n{count} hostile requests: statuses {sorted(set(found))}, memory grew by {grown / 2**20:.0f} MiB")
    print(told("  others meanwhile", load))
    assert load.wrong == 0
    assert 400 <= min(found) <= max(found) < 500
    assert grown < 256 << 20


def test_serving_soak(full, tmp_path):
    """80 % of what the server can do, tasks added meanwhile, less memory than there are masks."""
    served, seconds = Served(tmp_path, "lenet", 512 if full else 32), 600 if full else 6
    mask = next(random_masks(network("lenet"), 1))
    added, ended = 0, Event()

    def write() -> None:
        nonlocal added
        with MaskBank.open(served.path, "a") as bank:
            while not ended.wait(1.0):
                bank.put(f"added-{added}", mask)
                added += 1

    with server(served, "served", 8) as (url, pid), ThreadPoolExecutor(2) as pool:
        most = run_load(url, served.requests(2000 if full else 200, 1), 16).rate
        writer, memory, loads = pool.submit(write), [], []
        end = perf_counter() + seconds
        while perf_counter() < end:
            loads.append(run_load(url, served.requests(max(1, int(0.8 * most * seconds / 20)), 1), 16, rate=0.8 * most))
            memory.append(resident(pid))
        ended.set()
        writer.result()
        shown = raw_answer(url, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[1]["tasks"]
    wrong, answers = sum(load.wrong for load in loads), sum(load.answers for load in loads)
    half = memory[len(memory) // 4 :]
    print(
        f"\nsoak of {seconds} s at {0.8 * most:.0f} requests a second (most: {most:.0f}): {answers} answers, {wrong} "
        f"wrong, {added} tasks added, {shown} shown at the end; memory {min(half) / 2**20:.1f} to "
        f"{max(half) / 2**20:.1f} MiB"
    )
    assert wrong == 0
    assert len(served.tasks) + added - 3 <= shown
    assert not full or max(half) <= 1.05 * min(half)


def installed(folder: Path) -> dict[str, str]:
    """The environment of programs whose modules are compiled once and kept, as those of an installed package are."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}


def seconds_of(command: list[str], environment: dict[str, str]) -> float:
    """Seconds of a whole process."""
    start = perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return perf_counter() - start


def test_serving_start(full, tmp_path):
    """From nothing to answers: `supsup serve` to its first one, and all of `supsup infer`; torch alone is the floor."""
    served, environment = Served(tmp_path, "lenet", 256 if full else 16), installed(tmp_path)
    run, images = tmp_path / "run", tmp_path / "images.npy"
    stream = open_stream("permuted-digits", tasks=5)
    train_run(run_config("permuted-digits", tasks=5, batches=20), run)
    np.save(images, next(iter(stream)).test.images(torch.arange(16)).numpy())
    python, program = sys.executable, [sys.executable, "-m", "supsup_models"]
    times: dict[str, list[float]] = {"import torch": [], "supsup serve": [], "supsup infer": []}
    for _ in range(8 if full else 2):
        times["import torch"].append(seconds_of([python, "-c", "import torch"], environment))
        start = perf_counter()
        with served_in_a_process(served.path, environment=environment) as (_, url):
            assert run_load(url, [served.request([3])], 1).wrong == 0
            times["supsup serve"].append(perf_counter() - start)
        times["supsup infer"].append(seconds_of([*program, "infer", str(run), str(images)], environment))
    floor = median(times["import torch"][1:])
    for what, each in times.items():  # the first compiles the modules
        shown = ", ".join(f"{seconds:.2f}" for seconds in each[1:])
        print(
            f"\n{what}: {shown} s, median {median(each[1:]):.2f} s, {median(each[1:]) / floor:.2f} x the import", end=""
        )
    print()
