"""`Answers`: results of an engine's threads, awaited in an event loop. One wake-up tells of all results of a batch."""

import asyncio
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from supsup_models.errors import RequestError
from supsup_models.serving.engine import Engine


class Answers:
    """The results that requests of one event loop wait for."""

    def __init__(self, engine: Engine) -> None:
        self._seconds = engine.limits.answer_seconds
        self._done: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        engine.after_batch.append(self._wake)

    async def of(self, future: "Future[Any]") -> Any:
        """What comes of a future of the engine; RequestError with status 504 if it takes too long."""
        self._loop = asyncio.get_running_loop()
        own: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(partial(self._ended, own))
        if future.done():  # perhaps before anybody listened
            self._hand_on()
        try:
            async with asyncio.timeout(self._seconds):
                return await own
        except TimeoutError:
            future.cancel()
            raise self._late() from None

    def _ended(self, own: "asyncio.Future[Any]", future: "Future[Any]") -> None:
        self._done.append((own, future))  # mostly in a thread of the engine, which calls `_wake` when its batch is done

    def _wake(self) -> None:
        if self._done and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it all who waited
                self._loop.call_soon_threadsafe(self._hand_on)

    def _hand_on(self) -> None:
        while self._done:
            own, future = self._done.popleft()
            if own.done():
                continue
            if future.cancelled():  # by the engine: nobody had time for it
                own.set_exception(self._late())
            elif error := future.exception():
                own.set_exception(error)
            else:
                own.set_result(future.result())

    def _late(self) -> RequestError:
        return RequestError(f"answer: expected one within {self._seconds:g} seconds, found the server busy", 504)
