"""What a worker is sent, what it does with it, and what it sends back."""

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskstore import Mask, MaskSpec, decode_mask, encode_mask
from maskstore.bank import Rounded
from maskstore.priors import Prior
from supsup_models.data import Task, TaskStream
from supsup_models.networks import MaskedModel
from supsup_models.runs.config import make_network, pick_device
from supsup_models.runs.record import RunRecord, processor
from supsup_models.training import Recipe, TrainedTask, train_many


@dataclass(frozen=True, eq=False)
class JudgedTask:
    """A trained mask, with all that a run keeps of it.

    Attributes:
        name: The task's.
        mask: The mask.
        figures: What is stored beside the mask.
        details: What the run's record has beyond that.
        extras: Arrays that belong to the mask.
        prior: What a decoder knows about the mask.
        worker: Which process trained it, for people; "" for this one.
        processor: What that process computed on; "" for this one's.
    """

    name: str
    mask: Mask
    figures: Mapping[str, Any]
    details: Mapping[str, Any]
    extras: Mapping[str, NDArray[np.float32] | Rounded]
    prior: Prior
    worker: str = ""
    processor: str = ""


Judge = Callable[[MaskedModel, Task, TrainedTask], JudgedTask]


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """What training any task of a run takes. It is the same for all tasks, so that a worker keeps what it made of it.

    Attributes:
        key: Another one for each call that trains.
        record: The run's record, which says what the network is.
        recipe: How it is trained.
        judge: What makes of a trained task what is kept of it; a function of a module.
        stream: The tasks, or what opens them where the worker is.
        model: The network, where the record does not say all of it.
        threads: Of torch, for one worker.
    """

    key: str
    record: RunRecord
    recipe: Recipe
    judge: Judge
    stream: TaskStream | Callable[[], TaskStream]
    model: MaskedModel | None
    threads: int


@dataclass(frozen=True, eq=False)
class CodedTask:
    """A `JudgedTask` on its way: the mask as `encode_mask` codes it, which takes few bytes and has a checksum."""

    name: str
    message: bytes
    figures: Mapping[str, Any]
    details: Mapping[str, Any]
    extras: Mapping[str, NDArray[np.float32] | Rounded]
    prior: Prior
    worker: str
    processor: str

    def judged(self, spec: MaskSpec) -> JudgedTask:
        """The mask decoded. Raises what `decode_mask` raises."""
        return JudgedTask(
            self.name, decode_mask(self.message, spec), self.figures, self.details, self.extras, self.prior,
            self.worker, self.processor,
        )  # fmt: skip


_KEPT: dict[str, tuple[MaskedModel, TaskStream]] = {}
"""The network and the stream of the latest job of this process, by its key: the next tasks are most likely of it."""


def run_job(job: TrainingJob, numbers: tuple[int, ...]) -> tuple[CodedTask, ...]:
    """Train the tasks of these numbers, judge and code them; what a worker does."""
    model, stream = _ready(job)
    threads = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        tasks = [stream[number] for number in numbers]
        at_once = None if model.device.type == "cuda" else 1  # a worker on a processor has one share of its cores
        trained = train_many(model, tasks, job.recipe, steps=job.record.config.batches, at_once=at_once)
        return tuple(_coded(job.judge(model, task, each), model) for task, each in zip(tasks, trained, strict=True))
    finally:
        torch.set_num_threads(threads)


def forget(job: TrainingJob) -> None:
    """Let go of what this process made for a job."""
    _KEPT.pop(job.key, None)


def _ready(job: TrainingJob) -> tuple[MaskedModel, TaskStream]:
    """The network on its device, and the stream; RunError for a stream with other data than the run's."""
    known = _KEPT.get(job.key)
    if known is None:
        where = pick_device(job.record.device)
        model = make_network(job.record, where) if job.model is None else job.model.to(where)
        stream = job.stream if isinstance(job.stream, TaskStream) else job.stream()
        job.record.check_stream(stream)
        _KEPT.clear()
        known = _KEPT[job.key] = model, stream
    return known


def _coded(task: JudgedTask, model: MaskedModel) -> CodedTask:
    message = encode_mask(task.mask, prior=task.prior)
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else processor()
    worker = f"process {os.getpid()} on {socket.gethostname()}"
    return CodedTask(task.name, message, task.figures, task.details, task.extras, task.prior, worker, device)
