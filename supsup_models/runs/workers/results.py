"""Tasks handed to workers, and their results in order, as the one who writes the bank takes them."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from maskstore import MaskSpec
from maskstore.errors import MaskStoreError, one_line
from supsup_models._names import found, whole_number
from supsup_models.errors import ArgumentError, ArgumentTypeError, SupSupError, WorkerError
from supsup_models.runs.workers.job import JudgedTask, TrainingJob, forget, run_job

_PENDING = 256  # jobs that are handed in and whose results are not yet taken; a result is a few coded masks


@runtime_checkable
class Executes(Protocol):
    """What runs functions elsewhere: a `concurrent.futures.Executor`, or another object with its `submit`.

    What `submit` returns has `result()`, which waits, and `cancel()`. Executors of submitit and clients of Dask are
    such objects.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Run `fn(*args)` elsewhere."""


class SharingExecutor(Executor, ABC):
    """An executor whose workers are sent a large value once, however often it is used."""

    @abstractmethod
    def share(self, value: Any) -> Any:
        """A stand-in, which `submit` takes as an argument in the place of the value."""


@dataclass(frozen=True)
class Workers:
    """An executor, and how its workers are used.

    Attributes:
        executor: Where tasks are trained: a `concurrent.futures.Executor`, or another object with its `submit`.
        tasks: How many tasks a worker is handed together. More of them for workers that take long to start; fewer are
            lost with a worker.
        threads: How many threads of torch a worker uses.

    Raises:
        ArgumentError: For less than one task or thread.

    Examples:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from tempfile import TemporaryDirectory
        >>> from supsup_models import Workers, run_config, train_run
        >>> config = run_config("permuted-digits", tasks=3, outputs=40, batches=10, recipe="dense")
        >>> with TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        ...     train_run(config, folder, executor=Workers(pool, tasks=2)).new_tasks
        3
    """

    executor: Executes
    tasks: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.executor, type) or not isinstance(self.executor, Executes):
            raise ArgumentTypeError(
                f"executor: expected a concurrent.futures.Executor, or an object with its submit, found "
                f"{found(self.executor)}"
            )
        for name in ("tasks", "threads"):
            if whole_number(name, getattr(self, name)) < 1:
                raise ArgumentError(f"workers: expected at least 1 of {name}, found {getattr(self, name)}")

    @classmethod
    def of(cls, value: "Executes | Workers") -> "Workers":
        """An executor as it is used if nothing is said about it."""
        return value if isinstance(value, Workers) else cls(value)


def judged_tasks(
    workers: Workers,
    job: TrainingJob,
    numbers: Sequence[int],
    spec: MaskSpec,
    tell: Callable[[str], None],
) -> Iterator[JudgedTask]:
    """The tasks of these numbers, trained by workers, in order. Closing the iterator cancels what is not yet trained.

    Args:
        workers: Where they are trained.
        job: What training them takes.
        numbers: Of the tasks.
        spec: The layers of their masks.
        tell: Takes a line for the person.

    Raises:
        WorkerError: A worker was lost, or could not be given its work. Errors of the training itself come as they are.
    """
    executor, waiting = workers.executor, deque[Any]()
    ahead = max(1, _PENDING // workers.tasks)
    try:
        sent = job
        if numbers and isinstance(executor, SharingExecutor):
            sent = executor.share(job)
            tell(str(executor))
        for first in range(0, len(numbers), workers.tasks):
            with _named(executor):
                waiting.append(executor.submit(run_job, sent, tuple(numbers[first : first + workers.tasks])))
            if len(waiting) >= ahead:
                yield from _taken(waiting, executor, spec)
        while waiting:
            yield from _taken(waiting, executor, spec)
    finally:
        for each in waiting:
            each.cancel()
        forget(job)


def _taken(waiting: deque[Any], executor: Executes, spec: MaskSpec) -> Iterator[JudgedTask]:
    """The results of the job that was handed in first."""
    with _named(executor):
        tasks = waiting[0].result()
    waiting.popleft()
    for each in tasks:
        yield each.judged(spec)


@contextmanager
def _named(executor: Executes) -> Iterator[None]:
    """Errors inside are WorkerErrors, but for this library's own, which a worker found in the work itself."""
    try:
        yield
    except (SupSupError, MaskStoreError):
        raise
    except Exception as error:
        raise WorkerError(
            f"{type(executor).__name__}: expected workers that train their tasks, found {type(error).__name__}: "
            f"{one_line(error)}; what is finished is kept, and the same call goes on"
        ) from error
