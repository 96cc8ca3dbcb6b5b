"""Clients of a server of masks, many in one thread, for `bench_serving.py`.

A client checks every answer: the task, the label, and the probability to a thousandth.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np


@dataclass(frozen=True)
class Asked:
    """A request as bytes, and its answers: task, label and probability of each image."""

    sent: bytes
    wanted: tuple[tuple[str, int, float], ...]


@dataclass
class Load:
    """What came of a load: `seconds` of each request, how many answers were wrong, and how long all of it took."""

    seconds: list[float]
    wrong: int
    answers: int
    took: float

    def quantile(self, share: float) -> float:
        """The seconds below which this share of the requests stayed."""
        return float(np.quantile(self.seconds, share))

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.took


def is_right(answer: dict[str, object], wanted: tuple[str, int, float]) -> bool:
    """Whether an answer is the one that was computed beforehand."""
    task, label, sure = wanted
    return answer["task"] == task and answer["label"] == label and abs(float(str(answer["confidence"])) - sure) < 1e-3


def run_load(url: str, requests: Sequence[Asked], clients: int, *, rate: float | None = None) -> Load:
    """Send all requests, by so many clients at a time; with `rate`, no more than so many requests a second."""
    return asyncio.run(_run(url, requests, clients, rate))


async def _run(url: str, requests: Sequence[Asked], clients: int, rate: float | None) -> Load:
    parts, load = urlsplit(url), Load([], 0, 0, 0.0)
    remaining = iter(requests)
    begun, due = time.perf_counter(), 0

    async def client() -> None:
        nonlocal due
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for asked in remaining:
            if rate is not None:
                due += 1
                await asyncio.sleep(max(0.0, begun + due / rate - time.perf_counter()))
            start = time.perf_counter()
            writer.write(asked.sent)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            content = await reader.readexactly(length)
            load.seconds.append(time.perf_counter() - start)
            answers = json.loads(content).get("answers", [])
            right = sum(map(is_right, answers, asked.wanted))
            load.wrong += len(asked.wanted) - right
            load.answers += len(asked.wanted)
            if b"connection: close" in head.lower():
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    load.took = time.perf_counter() - begun
    return load
