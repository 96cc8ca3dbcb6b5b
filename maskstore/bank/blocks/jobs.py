"""Jobs on all cores, their results in order, with few of them in memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

from maskstore.codecs import wanted_now, wanted_until

T = TypeVar("T")
_AHEAD = 3  # jobs a core that have begun, or have ended and not been taken
_CORES = os.cpu_count() or 1


def side_by_side(jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """The result of each job, in order. Jobs are asked for, and results taken, in the caller's thread.

    Once the caller wants no more, or a job has failed, jobs that decode stop between two pieces of their work.
    """
    ended = Event()
    events = (ended, *wanted_now())

    def run(job: Callable[[], T]) -> T:
        with wanted_until(*events):
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
