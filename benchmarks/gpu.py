"""All that a first session on a GPU needs, in order of worth: `python -m benchmarks.gpu --minutes 8 --out FILE`.

Each step has a share of the minutes that are left, and FILE (JSON) is written anew as each one ends, so that a session
that is cut off leaves what it has. `python -m benchmarks.gpu --page FILE` writes the measured part of `docs/gpu.md`.
`--device cpu --tiny` goes through the same steps in seconds; with `TRITON_INTERPRET=1` and `--backend triton` the
Triton kernels run in Triton's interpreter. Such a FILE says so, and no page is made of it.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from hopfield import DualMemory, patterns
from maskstore import Mask, MaskMatrix, MaskSpec
from maskstore.torch import Backend, PackedMasks
from supsup_models import (
    RECIPES,
    MaskedNetwork,
    NumberedTask,
    TaskInference,
    infer_each,
    open_stream,
    serve,
    train_many,
)
from supsup_models.networks import MultilayerPerceptron

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
Row = dict[str, Any]


class Session:
    """What the steps share: the device, the sizes, and until when a step may go on."""

    def __init__(self, device: str, backend: str | None, tiny: bool) -> None:
        self.device = torch.device(device)
        self.backend = None if backend is None else Backend(backend)
        self.tiny = tiny
        self.until = 0.0
        architecture = MultilayerPerceptron("tiny", (16, 8)) if tiny else "lenet-300-100"
        inputs = 64 if tiny else 784
        model = MaskedNetwork(architecture, inputs=inputs, outputs=100, classes=10, seed=0)
        self.model = model.to(self.device)

    def wait(self) -> None:
        """Until the device has done what it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def median(self, run: Callable[[], object], most: int = 50) -> float:
        """Median seconds of a few calls after the first, fewer where the step's time is up."""
        run()
        self.wait()
        seconds = []
        while not seconds or (len(seconds) < (3 if self.tiny else most) and perf_counter() < self.until):
            start = perf_counter()
            run()
            self.wait()
            seconds.append(perf_counter() - start)
        return float(np.median(seconds))

    def matrix(self, count: int, spec: MaskSpec) -> MaskMatrix:
        """Random masks, made of random words, which is quick for any number."""
        rng, matrix = np.random.default_rng(0), MaskMatrix(spec, room=count)
        rows = rng.integers(0, 2**64, size=(count, spec.words), dtype=np.uint64)
        for layer in spec:
            if layer.size % 64:  # what pads a layer is zero
                rows[:, layer.word_start + layer.size // 64] &= np.uint64(2 ** (layer.size % 64) - 1)
        for number, words in enumerate(rows):
            matrix.append(f"task-{number}", Mask(spec, words))
        return matrix


def tests(session: Session) -> Iterator[Row]:
    """`pytest -m gpu`."""
    if session.device.type != "cuda":
        yield {"what": "tests that need a device", "found": "not run: no CUDA device"}
        return
    left = max(10.0, session.until - perf_counter())
    program = [sys.executable, "-m", "pytest", "tests", "-m", "gpu", "-q", "-x"]
    try:
        ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=left, check=False)
        found = (ended.stdout.strip().splitlines() or [ended.stderr.strip()])[-1]
    except subprocess.TimeoutExpired:
        found = f"not ended after {left:.0f} s"
    yield {"what": "tests that need a device", "found": found}


def products(session: Session) -> Iterator[Row]:
    """The packed dot product and the weighted sum against the device's own copy of as many bytes."""
    spec = session.model.spec
    for count in (20, 33) if session.tiny else (1000, 2500, 100_000):
        if perf_counter() > session.until:
            yield {"what": f"packed products, k = {count}", "found": "not run: no time left"}
            continue
        masks = PackedMasks.of(session.matrix(count, spec), session.device, backend=session.backend)
        masks = masks.select(range(count))
        size = 8 * spec.words * count
        g, alpha = torch.randn(spec.bits, device=session.device), torch.rand(count, device=session.device)
        source = torch.ones(size // 4, device=session.device)
        copied = 2 * size / session.median(source.clone)
        asked = {"dot product": partial(masks.dot, g), "weighted sum": partial(masks.weighted_sum, alpha)}
        for name, product in asked.items():
            seconds = session.median(product)
            share = size / seconds / copied
            found = f"{1e3 * seconds:.3f} ms, {share:.2f} of the bandwidth of a copy ({copied / 1e9:.0f} GB/s)"
            yield {"what": f"packed {name}, k = {count}", "found": found, "seconds": seconds, "share": share}


def inference(session: Session) -> Iterator[Row]:
    """One-shot inference of one image and of a batch, and of each image by itself."""
    count = 20 if session.tiny else 2500
    matrix = session.matrix(count, session.model.spec)
    asked = TaskInference(session.model, matrix)
    for images in (1, 128):
        batch = torch.randn(images, session.model.inputs, device=session.device)
        seconds = session.median(lambda batch=batch: asked.infer(batch, method="one-shot"))
        yield {
            "what": f"one-shot, batch of {images}, k = {count}",
            "found": f"{1e3 * seconds:.2f} ms",
            "seconds": seconds,
        }
    few = 20 if session.tiny else 250
    some, batch = matrix.select(range(few)), torch.randn(16, session.model.inputs, device=session.device)
    seconds = session.median(lambda: infer_each(session.model, some, batch, method="one-shot"), most=5)
    yield {"what": f"each of 16 images, k = {few}", "found": f"{1e3 * seconds:.1f} ms", "seconds": seconds}


def training(session: Session) -> Iterator[Row]:
    """As many tasks as the step's time allows, with the recipe `paper`; 2500 tasks are extrapolated, and said to be."""
    asked, steps = (3, 5) if session.tiny else (2500, 1000)
    stream = open_stream("permuted-digits" if session.tiny else "permuted-mnist", tasks=asked)
    tasks = [NumberedTask(task.index, task.train) for task in stream]
    start, done = perf_counter(), 0
    for _ in train_many(session.model, tasks, RECIPES["paper"], steps=steps):
        done += 1
        seconds = perf_counter() - start
        if perf_counter() > session.until:
            break
    whole = seconds if done == asked else asked * seconds / done
    how = "measured" if done == asked else f"extrapolated from {done} tasks in {seconds:.0f} s"
    yield {
        "what": f"training of {asked} tasks, {steps} batches each",
        "found": f"{whole:.1f} s, {how}",
        "seconds": whole,
    }


def switching(session: Session) -> Iterator[Row]:
    """Another mask's weights, from a matrix on the host."""
    matrix = session.matrix(8, session.model.spec)
    server, turns = serve(session.model, matrix, cache_bytes=0), iter(range(10**9))
    seconds = session.median(lambda: server.weights(f"task-{next(turns) % 8}"))
    yield {"what": "mask switch, LeNet", "found": f"{1e3 * seconds:.2f} ms", "seconds": seconds}


def fields(session: Session) -> Iterator[Row]:
    """The field of a dual Hopfield memory over weight masks."""
    count = 8 if session.tiny else 500
    memory = DualMemory(session.matrix(count, session.model.spec), device=session.device)
    states = patterns.random_patterns(4, session.model.spec.bits, torch.Generator().manual_seed(0)).to(session.device)
    seconds = session.median(lambda: memory.field(states), most=10)
    yield {
        "what": f"Hopfield fields of 4 states, {count} patterns",
        "found": f"{1e3 * seconds:.1f} ms",
        "seconds": seconds,
    }


STEPS = (tests, products, inference, training, switching, fields)
"""In order of worth; the share of the time that is left goes to each."""
SHARES = (0.25, 0.35, 0.3, 0.6, 0.5, 1.0)


def run(session: Session, minutes: float, out: Path) -> dict[str, Any]:
    """All steps, FILE written after each."""
    end = perf_counter() + 60 * minutes
    cuda = session.device.type == "cuda"
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(session.device) if cuda else "cpu",
        "torch": torch.__version__,
        "tiny": session.tiny,
        "minutes": minutes,
        "rows": [],
    }
    for step, share in zip(STEPS, SHARES, strict=True):
        left = end - perf_counter()
        session.until = perf_counter() + share * max(0.0, left)
        name = step.__name__
        if left <= 0:
            result["rows"].append({"step": name, "what": name, "found": "not run: no time left"})
        else:
            try:
                for row in step(session):
                    result["rows"].append({"step": name, **row})
            except Exception as error:  # the steps that follow are worth their time all the same
                result["rows"].append({"step": name, "what": name, "found": f"failed: {type(error).__name__}: {error}"})
        out.write_text(json.dumps(result, indent=1) + "\n")
    return result


def section(result: dict[str, Any]) -> str:
    """The measured part of the page."""
    if result["device"] == "cpu" or result["tiny"]:
        raise SystemExit("benchmarks.gpu: expected a file measured on a GPU in full, found one of a trial on the CPU")
    lines = [f"Measured on {result['device']}, torch {result['torch']}, by `python -m benchmarks.gpu`.", ""]
    lines += ["| what | found |", "|---|---|"]
    lines += [f"| {row['what']} | {row['found']} |" for row in result["rows"]]
    return "\n".join(lines) + "\n"


def write_page(result: dict[str, Any], page: Path) -> None:
    """Put the measured part between its marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(before + BEGIN + section(result) + END + rest.partition(END)[2])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path, metavar="FILE", help="write docs/gpu.md from a file of an earlier run")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--backend", choices=[way.value for way in Backend])
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(arguments)
    if options.page is not None:
        write_page(json.loads(options.page.read_text()), ROOT / "docs" / "gpu.md")
        return
    if options.out is None:
        parser.error("expected --out FILE or --page FILE")
    result = run(Session(options.device, options.backend, options.tiny), options.minutes, options.out)
    for row in result["rows"]:
        print(f"{row['what']}: {row['found']}")


if __name__ == "__main__":
    main()
