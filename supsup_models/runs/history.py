"""When a run was trained, for how long, and on what: what its record keeps beside the arguments."""

import os
import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class History:
    """When, for how long and on what a run was trained. It says nothing of the masks: two runs may differ in it alone.

    Attributes:
        started: When training began, in UTC, as ISO 8601 has it.
        changed: When the last mask was written.
        seconds: Wall-clock time of training, judging and storing, over all calls.
        processors: The processors that it was trained on, the first one first.
        cores: How many cores the latest of them had.
        system: The operating system and the machine's architecture.
    """

    started: str
    changed: str
    seconds: float
    processors: tuple[str, ...]
    cores: int
    system: str


class Clock:
    """Measures a call that trains; `now` is the history with this call added, up to this moment.

    Args:
        earlier: What earlier calls have left in the record, if there were any.
        accelerator: The name of the device that computes, where it is not the processor.
    """

    def __init__(self, earlier: History | None, accelerator: str | None = None) -> None:
        self._start = perf_counter()
        name = accelerator or processor()
        here = History(_time(), _time(), 0.0, (name,), os.cpu_count() or 1, f"{platform.system()} {platform.machine()}")
        if earlier is not None:
            known = tuple(dict.fromkeys((*earlier.processors, name)))
            here = replace(here, started=earlier.started, seconds=earlier.seconds, processors=known)
        self._begun = here

    def now(self) -> History:
        """The history so far."""
        seconds = self._begun.seconds + perf_counter() - self._start
        return replace(self._begun, changed=_time(), seconds=round(seconds, 2))


def processor() -> str:
    """The name of this machine's processor, as far as the system tells it."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine() or "unknown"


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
