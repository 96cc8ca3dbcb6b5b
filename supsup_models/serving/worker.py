"""`Worker`: a thread that takes all that waits, as one batch, whenever it is free."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Condition, Thread
from time import monotonic
from typing import Any

from supsup_models.errors import RequestError


@dataclass
class Job:
    """Something to be done, and where its result goes. `deadline` is a time of `monotonic`."""

    deadline: float
    done: "Future[Any]" = field(default_factory=Future, init=False)

    @property
    def size(self) -> int:
        """How many images it has."""
        return 0


class Worker:
    """A thread that runs jobs in batches of about `batch` images.

    `work` gets jobs and gives for each its result, or an exception that is its own. A job that nobody waits for any
    more, because it was cancelled or is past its deadline, is left out. `told` is called after each batch, when all its
    futures are done, and `between` every so many seconds.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Job]], list[object]],
        batch: int,
        most_waiting: int,
        told: Callable[[], object],
        between: tuple[Callable[[], object], float] | None = None,
    ) -> None:
        self._work, self._batch, self._most, self._told = work, batch, most_waiting, told
        self._between = None if between is None else between[0]
        self._every = None if between is None else between[1]
        self._next = monotonic() + (self._every or 0)
        self._jobs: deque[Job] = deque()
        self._changed = Condition()
        self._stopped = False
        self._thread = Thread(target=self._serve, name=f"masks-{name}", daemon=True)
        self.waiting = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch at hand; jobs that wait get status 503."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()
        while self._jobs:
            self._finish(self._jobs.popleft(), RequestError("server: expected to go on, found it ending", 503))
        self._told()

    def submit(self, job: Job) -> "Future[Any]":
        """Put a job in the queue. RequestError with status 503 if too many images wait."""
        with self._changed:
            if self._stopped or self.waiting + job.size > self._most:
                raise RequestError(
                    f"server: expected at most {self._most} waiting images, found {self.waiting}; try again later", 503
                )
            self._jobs.append(job)
            self.waiting += job.size
            self._changed.notify()
        return job.done

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._stopped and not self._is_due():
                    self._changed.wait(None if self._every is None else max(0.0, self._next - monotonic()))
                if self._stopped:
                    return
                jobs = self._taken()
            if jobs:
                self._run(jobs)
                del jobs  # else the last batch's images stay until the next
            self._told()
            if self._between is not None and self._is_due():
                with suppress(Exception):  # the source cannot be read at the moment: what is known goes on
                    self._between()
                self._next = monotonic() + (self._every or 0)

    def _is_due(self) -> bool:
        return self._every is not None and monotonic() >= self._next

    def _taken(self) -> list[Job]:
        taken: list[Job] = []
        images, now = 0, monotonic()
        while self._jobs and (not taken or images + self._jobs[0].size <= self._batch):
            job = self._jobs.popleft()
            self.waiting -= job.size
            if job.done.cancelled() or now > job.deadline:
                job.done.cancel()
                continue
            taken.append(job)
            images += job.size
        return taken

    def _run(self, jobs: list[Job]) -> None:
        try:
            results = self._work(jobs)
        except Exception as error:
            results = [error] * len(jobs)
        for job, result in zip(jobs, results, strict=True):
            self._finish(job, result)

    @staticmethod
    def _finish(job: Job, result: object) -> None:
        if not job.done.set_running_or_notify_cancel():
            return
        if isinstance(result, BaseException):
            job.done.set_exception(result)
        else:
            job.done.set_result(result)
