"""Jobs on all cores, their results in order, with few of them in memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

from maskstore.files import check_wanted, wanted_now, wanted_until

T = TypeVar("T")
_AHEAD = 3  # jobs a core that have begun, or have ended and not been taken
_JOB_BITS = 1 << 22  # to begin a job takes as long as a few hundred thousand bits
_CORES = os.cpu_count() or 1


def in_batches(count: int, bits: int) -> Iterator[range]:
    """The numbers of so many neighbouring blocks of so many bits each, as many together as are worth a job."""
    size = max(1, min(_JOB_BITS // max(1, bits), count // (2 * _AHEAD * _CORES)))
    for first in range(0, count, size):
        yield range(first, min(first + size, count))


def side_by_side(jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """The result of each job, in order. Jobs are asked for, and results taken, in the caller's thread.

    Once the caller wants no more, or a job has failed, jobs that decode stop between two pieces of their work.
    """
    ended = Event()
    events = (ended, *wanted_now())

    def run(job: Callable[[], T]) -> T:
        with wanted_until(*events):
            check_wanted()
            return job()

    with ThreadPoolExecutor(_CORES) as pool:
        begun: deque[Future[T]] = deque()
        try:
            for job in jobs:
                begun.append(pool.submit(run, job))
                if len(begun) >= _AHEAD * _CORES:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            ended.set()
            for each in begun:
                each.cancel()
