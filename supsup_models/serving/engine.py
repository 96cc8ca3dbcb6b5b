"""`Engine`: what a server does, without the web: batches of images under many masks, inference of tasks, loading.

Two threads compute. One runs images whose task is named, many requests and masks in one batch, and all that changes
which masks are in memory. The other infers tasks, which takes longer. Each takes whatever waits when it is free: a
batch is as large as the load makes it, and nobody waits for others to come.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskMatrix
from maskstore.files import is_name
from supsup_models.data import checked_images
from supsup_models.errors import ImageValueError, RequestError, SupSupError
from supsup_models.inference import Calibration, TaskInference, run_mixed
from supsup_models.networks import MaskedModel
from supsup_models.runs import Answer, answer_images
from supsup_models.serving.limits import Limits
from supsup_models.serving.metrics import Metrics
from supsup_models.serving.residents import Residents, unknown_task
from supsup_models.serving.served import Served
from supsup_models.serving.worker import Job, Worker


@dataclass
class _Images(Job):
    """Images of one request as they came, `(n, inputs)`; `tasks` is empty where they are to be inferred."""

    images: NDArray[np.generic] = field(default_factory=lambda: np.empty((0, 0)))
    tasks: tuple[str, ...] = ()
    pixels: str | None = None

    @property
    def size(self) -> int:
        return len(self.images)


@dataclass
class _Call(Job):
    """Something else for the thread that owns the masks in memory."""

    call: Callable[[], object] = lambda: None


class Engine:
    """A network and a growing source of masks, which answers for images.

    Args:
        location: A run's folder, or a bank, a shard or a URL that `maskstore.open_source` takes.
        model: The network, where neither a run's record nor the source's meta says how to make it.
        limits: How much memory and time is spent.
        immutable: Read a bank as it lies there, as `MaskBank.open` does, because nobody writes to it.

    Raises:
        RunError, MaskStoreError: There is no run and no source of masks.
        NetworkError: The source does not say what network its masks are of.
        RequestError: The memory has no room for a single mask.

    Examples:
        >>> import tempfile, torch
        >>> from maskstore import MaskBank
        >>> from supsup_models import MaskedNetwork
        >>> from supsup_models.serving import Engine
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/m.bank", model.spec, meta=model.bank_meta()) as bank:
        ...         for number in range(3):
        ...             bank.put(f"task-{number}", model.mask_of(model.initial_scores(number)))
        ...     with Engine(f"{folder}/m.bank") as engine:
        ...         answers = engine.predict(torch.zeros(2, 64).numpy(), ["task-2", "task-0"]).result()
        >>> [answer.task for answer in answers]
        ['task-2', 'task-0']
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        *,
        model: MaskedModel | None = None,
        limits: Limits | None = None,
        immutable: bool = False,
    ) -> None:
        self.limits = Limits() if limits is None else limits
        self.served = Served.open(location, model, immutable=immutable)
        try:
            self._memory = self.limits.memory // 2
            self.residents = Residents(self.served, self._memory)
        except BaseException:
            self.served.close()
            raise
        self.metrics = Metrics(self)
        self._matrix: tuple[MaskMatrix, dict[str, Any]] | None = None
        self._stamps: dict[str, bytes] = {}  # of the masks in the matrix
        self._generation = -1
        self._inference: tuple[MaskMatrix, Calibration | None, TaskInference] | None = None
        waiting, every = self.limits.waiting, self.limits.refresh_seconds
        self.after_batch: list[Callable[[], object]] = []
        """Called in a thread of the engine once the futures of a batch are done, so that one call tells of all."""
        told = self._tell
        self._named = Worker(
            "named", self._run_named, self.limits.batch, waiting, told, (self.residents.refresh, every)
        )
        self._inferred = Worker("inferred", self._run_inferred, self.limits.batch, waiting, told)
        self._named.start()
        self._inferred.start()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads, after the batches that they work on, and close the source."""
        self._named.stop()
        self._inferred.stop()
        self.served.close()

    @property
    def waiting(self) -> int:
        """Images that wait for their turn."""
        return self._named.waiting + self._inferred.waiting

    @property
    def matrix_bytes(self) -> int:
        """Bytes of the masks that tasks are inferred with; 0 until a task has been inferred."""
        return 0 if self._matrix is None else self._matrix[0].nbytes

    def predict(
        self, images: NDArray[np.generic], tasks: str | Sequence[str] | None = None, *, pixels: str | None = None
    ) -> "Future[tuple[Answer, ...]]":
        """Answers for images, as they will be there: one an image.

        Args:
            images: `(n, inputs)`, or in the shape of an image, floats or uint8.
            tasks: A task's name, or one for each image; None infers the task of each image, as `infer_images` does.
            pixels: What form the pixels have, as in `infer_images`.

        Raises:
            ShapeError: Images of another shape or type.
            RequestError: Too many images, another number of names, or too many images wait already (status 503).
            ImageValueError, UnknownNameError: From the future's `result`: values, or a form of pixels, that cannot be
                meant. A task that there is not is a RequestError with status 404 there.
        """
        if images.ndim and len(images) > self.limits.images:
            raise RequestError(f"images: expected at most {self.limits.images} a request, found {len(images)}", 413)
        rows, deadline = self.served.flat(images, pixels), self._deadline()
        if tasks is None:
            self.metrics.inferred.inc(len(rows))
            return self._inferred.submit(_Images(deadline=deadline, images=rows, pixels=pixels))
        names = (tasks,) * len(rows) if isinstance(tasks, str) else tuple(tasks)
        if len(names) != len(rows):
            raise RequestError(f"tasks: expected a name for each of {len(rows)} images, found {len(names)}", 422)
        for name in set(names):
            if not is_name(name):
                raise unknown_task(name, len(self.residents.names))
        self.metrics.named.inc(len(rows))
        return self._named.submit(_Images(deadline=deadline, images=rows, tasks=names, pixels=pixels))

    def load(self, name: str) -> "Future[object]":
        """Bring a task's mask into memory; RequestError with status 404 for one that there is not."""
        return self._change(self.residents.load, name)

    def unload(self, name: str) -> "Future[object]":
        """Put a task's mask out of memory; RequestError with status 409 for a pinned one."""
        return self._change(self.residents.unload, name)

    def pin(self, name: str) -> "Future[object]":
        """Keep a task's mask in memory until it is unpinned."""
        return self._change(self.residents.pin, name)

    def unpin(self, name: str) -> "Future[object]":
        """Let a task's mask leave when its room is needed."""
        return self._change(self.residents.unpin, name)

    def _change(self, how: Callable[[str], object], name: str) -> "Future[object]":
        if not is_name(name):
            raise unknown_task(name, len(self.residents.names))
        return self._named.submit(_Call(deadline=self._deadline(), call=lambda: how(name)))

    def _tell(self) -> None:
        for call in self.after_batch:
            call()

    def _deadline(self) -> float:
        return monotonic() + self.limits.answer_seconds

    def _checked(self, jobs: Sequence[_Images]) -> Tensor:
        """The images of jobs, together, as the network takes them. Errors are those of `checked_images`."""
        rows = [self.served.normalised(job.images, job.pixels) for job in jobs]
        return checked_images(rows[0] if len(rows) == 1 else np.concatenate(rows), self.served.model)

    def _sorted(self, jobs: Sequence[Job], results: list[object]) -> tuple[list[tuple[int, _Images]], Tensor]:
        """The jobs whose images can be meant, by their numbers, and these images; the others get their errors here."""
        numbered = [(n, job) for n, job in enumerate(jobs) if isinstance(job, _Images) and results[n] is None]
        if not numbered:
            return [], torch.empty(0)
        try:
            return numbered, self._checked([job for _, job in numbered])
        except SupSupError:  # of some of them
            good: list[tuple[int, _Images]] = []
            checked: list[Tensor] = []
            for number, job in numbered:
                try:
                    checked.append(self._checked([job]))
                    good.append((number, job))
                except SupSupError as error:
                    results[number] = error
            return good, torch.cat(checked) if good else torch.empty(0)

    # -- the thread of the named tasks ----------------------------------------------------------------------------

    def _run_named(self, jobs: Sequence[Job]) -> list[object]:
        """What each job gets: answers, or the error that is its own."""
        results: list[object] = [None] * len(jobs)
        for number, job in enumerate(jobs):
            try:
                if isinstance(job, _Call):
                    results[number] = job.call()
                elif isinstance(job, _Images):
                    for name in dict.fromkeys(job.tasks):
                        self.residents.load(name)  # an unknown task is the error of its own request only
            except Exception as error:
                results[number] = error
        run, images = self._sorted(jobs, results)
        if not run:
            return results
        try:
            answered = self._answers(images, [name for _, job in run for name in job.tasks])
        except Exception as error:
            if len(run) == 1:
                results[run[0][0]] = error
            else:  # each by itself: the error is that of one
                for number, job in run:
                    results[number] = self._run_named([job])[0]
            return results
        start = 0
        for number, job in run:
            found = answered[start : start + job.size]
            results[number] = _not_finite() if None in found else tuple(found)
            start += len(found)
        return results

    def _answers(self, images: Tensor, names: Sequence[str]) -> list[Answer | None]:
        """The answers for images whose tasks are named, as many masks at a time as there is room for.

        None for an image that is too large for the network's arithmetic; it does no harm to the others.
        """
        found: list[Answer | None] = []
        together = min(self.limits.batch, self.residents.room - len(self.residents.pinned))
        for start in range(0, len(images), together):
            some = slice(start, start + together)
            own, extras = self.residents.own_masks(names[some])
            logits = run_mixed(self.served.model, images[some], own, extras)
            probabilities = torch.softmax(logits, dim=1)
            sure, labels = probabilities[:, : self.served.model.classes].max(dim=1)
            finite = torch.isfinite(logits).all(dim=1)
            self.metrics.batch_images.observe(len(logits))
            self.metrics.batch_masks.observe(len(set(names[some])))
            rows = zip(names[some], labels.tolist(), sure.tolist(), finite.tolist(), strict=True)
            found += [Answer(name, label, p) if fine else None for name, label, p, fine in rows]
        return found

    # -- the thread that infers tasks -----------------------------------------------------------------------------

    def _run_inferred(self, jobs: Sequence[Job]) -> list[object]:
        results: list[object] = [None] * len(jobs)
        run, images = self._sorted(jobs, results)
        if not run:
            return results
        try:
            inference, matrix, extras, calibration = self._ready()
            model, views = self.served.model, self.served.views
            answered = answer_images(inference, model, matrix, images, extras, calibration, views=views)
        except Exception as error:
            for number, job in run:
                results[number] = error if len(run) == 1 else self._run_inferred([job])[0]
            return results
        self.metrics.batch_images.observe(len(images))
        self.metrics.none_of_these.inc(sum(answer.none_of_these is True for answer in answered))
        start = 0
        for number, job in run:
            results[number] = answered[start : start + job.size]
            start += job.size
        return results

    def _ready(self) -> tuple[TaskInference, MaskMatrix, dict[str, Any], Calibration | None]:
        """The matrix of all masks that there are now, and what infers tasks with it."""
        residents, source = self.residents, self.served.source
        generation, names = residents.generation, residents.names
        if not names:
            raise RequestError("task inference: expected at least one task, found none", 409)
        needed = len(names) * residents.mask_bytes
        if needed > self._memory:
            raise RequestError(
                f"task inference: expected masks of at most {self._memory} bytes together, found {len(names)} tasks of "
                f"{needed} bytes; name the task, or raise `memory`",
                409,
            )
        if self._matrix is None or (self._generation != generation and not self._is_current()):
            self._matrix, self._stamps = (MaskMatrix(self.served.model.spec, room=len(names)), {}), {}
        self._generation = generation
        matrix, extras = self._matrix
        for name in names:
            if name not in self._stamps:
                stamp = self.served.stamp(name)  # before the mask, which may be replaced in between
                if self.served.model.has_extras:
                    extras[name] = source.extras(name)
                matrix.append(name, source[name])
                self._stamps[name] = stamp
        calibration = self.served.calibration()
        if calibration is not None and not calibration.covers(matrix.names):
            calibration = None
        if self._inference is None or self._inference[0] is not matrix or self._inference[1] is not calibration:
            model, views = self.served.model, self.served.views
            inference = TaskInference(model, matrix, calibration=calibration, extras=extras, views=views)
            self._inference = matrix, calibration, inference
        return self._inference[2], matrix, extras, calibration

    def _is_current(self) -> bool:
        """Whether all masks of the matrix are still those of the source."""
        there = self.served.stamps()
        return all(there.get(name) == stamp for name, stamp in self._stamps.items())


def _not_finite() -> ImageValueError:
    return ImageValueError(
        "images: expected values that the network can compute with, found NaN or infinity in its answers"
    )
