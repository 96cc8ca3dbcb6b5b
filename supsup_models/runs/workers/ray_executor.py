"""Ray as an executor: tasks on the machines of a cluster, data put once, lost work done again."""

import logging
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, final

from maskstore.errors import needing, one_line
from supsup_models._names import expect, number, whole_number
from supsup_models.errors import ArgumentError, WorkerError
from supsup_models.runs.workers.results import SharingExecutor

_RETRIES = 3  # how often work is done again that was lost with its worker; what always ends its worker must end too


@dataclass(frozen=True)
class _Shared:
    """Stands for a value in Ray's store."""

    reference: Any


@final
class RayExecutor(SharingExecutor):
    """A Ray cluster as a `concurrent.futures.Executor`.

    Ray starts, or is connected to, when it is first used. Work that is lost with its worker, or with a machine, is done
    again, up to three times. It needs the package ray (extra `cluster`).

    Args:
        address: "local" for a cluster of this machine alone, which ends with the executor; "auto" for the one that runs
            here or that `RAY_ADDRESS` names; or the address of one, such as "10.0.0.1:6379" or "ray://10.0.0.1:10001".
        workers: How many workers a local cluster has; one for each core that this process may use if not said.
        cpus: How many cores a worker takes.
        gpus: How many GPUs a worker takes, such as 1, or 0.25 for four workers on each.

    Raises:
        ArgumentError: For no worker, or shares that cannot be.

    Examples:
        >>> from supsup_models import RayExecutor
        >>> print(RayExecutor("auto", cpus=2))
        Ray cluster auto, not yet connected
    """

    def __init__(
        self, address: str = "local", *, workers: int | None = None, cpus: float = 1, gpus: float = 0.0
    ) -> None:
        self._address = expect("address", address, str, 'text such as "local" or "auto"')
        if not address:
            raise ArgumentError("address: expected local, auto or an address, found nothing")
        if not (0 < number("cpus", cpus) <= 4096 and 0 <= number("gpus", gpus) <= 64):
            raise ArgumentError(f"worker: expected cores in (0, 4096] and GPUs in [0, 64], found {cpus} and {gpus}")
        if workers is not None and whole_number("workers", workers) < 1:
            raise ArgumentError(f"workers: expected at least 1, found {workers}")
        self._workers, self._cpus, self._gpus = workers, cpus, gpus
        self._ray: Any = None
        self._call: Any = None
        self._started = self._closed = self._gone = False
        self._open: set[Future[Any]] = set()

    def __str__(self) -> str:
        if self._ray is None:
            return f"Ray cluster {self._address}, not yet connected"
        has = self._ray.cluster_resources()
        nodes = sum(bool(each["Alive"]) for each in self._ray.nodes())
        shares = [has.get("CPU", 0) / self._cpus] + ([has.get("GPU", 0) / self._gpus] if self._gpus else [])
        return f"Ray cluster {self._address}: {int(min(shares))} workers on {nodes} machine{'s' if nodes != 1 else ''}"

    def share(self, value: Any) -> Any:
        """Put a value into Ray's store, from where workers take it; WorkerError if Ray cannot be started or reached."""
        return _Shared(self._connected().put(value))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn(*args)` on a worker.

        Raises:
            WorkerError: Ray cannot be started or reached.
            RuntimeError: The executor was shut down.
        """
        self._connected()
        given = [each.reference if isinstance(each, _Shared) else each for each in args]
        reference, future = self._call.remote(fn, *given, **kwargs), Future[Any]()
        self._open.add(future)
        future.add_done_callback(partial(self._ended, reference))
        reference.future().add_done_callback(partial(_settle, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End: wait for what is running, or not; a cluster that was started here ends too."""
        self._closed = True
        for each in list(self._open) if cancel_futures else ():
            each.cancel()
        if wait:
            wait_for(self._open.copy())
        self._gone = True
        if self._started:
            self._ray.shutdown()
        self._started = False

    def _connected(self) -> Any:
        """The package ray, connected to the cluster."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")  # as executors of the library say it
        if self._ray is None:
            with needing("ray", "RayExecutor"):
                import ray
            if not ray.is_initialized():
                self._start(ray)
            self._call = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=_RETRIES)(_run)
            self._ray = ray
        return self._ray

    def _start(self, ray: Any) -> None:
        """Connect to the cluster, or start one; WorkerError where that fails."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address == "local":
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            count = cores if self._workers is None else ceil(self._workers * self._cpus)
            options |= {"num_cpus": count, "include_dashboard": False}
        try:
            ray.init(address=self._address, **options)
        except Exception as error:  # of whatever kind Ray raises
            raise WorkerError(
                f"Ray cluster {self._address}: expected to reach or start it, found {type(error).__name__}: "
                f"{one_line(error)}"
            ) from error
        self._started = True

    def _ended(self, reference: Any, future: Future[Any]) -> None:
        self._open.discard(future)
        if future.cancelled() and not self._gone:
            self._ray.cancel(reference, force=True)  # its worker has nothing that is worth keeping


def _run(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


def _settle(future: Future[Any], done: Future[Any]) -> None:
    """Hand on what came of some work: a worker's own error as it raised it, any of Ray's as a broken executor."""
    if not future.set_running_or_notify_cancel():
        return
    error = done.exception()
    if error is None:
        future.set_result(done.result())
        return
    cause = getattr(error, "cause", None)  # of a RayTaskError
    if isinstance(cause, Exception):
        future.set_exception(cause)
    else:
        broken = BrokenExecutor(f"{type(error).__name__}: {one_line(error)}")
        broken.__cause__ = error
        future.set_exception(broken)
