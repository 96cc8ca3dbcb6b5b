"""Workers: whoever answers the questions that `Part` can answer, each for its own rows."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from supsup_models.inference.sharded.part import Part, Plan


class Workers(ABC):
    """Some workers, each with a part of the masks. An answer comes from each, in the order of their rows."""

    count: int
    """How many workers there are."""

    @abstractmethod
    def start(self, plans: Sequence[Plan]) -> None:
        """Give each worker its part, and wait until it has read it."""

    @abstractmethod
    def ask(self, question: str, *arguments: Any) -> list[Any]:
        """Ask all workers one question, a method of `Part`."""

    @abstractmethod
    def close(self) -> None:
        """End them. Closing twice is fine."""


class LocalWorkers(Workers):
    """Parts in this process, one after the other: for tests, and for masks that one process has.

    Args:
        count: How many parts.
    """

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._parts: list[Part] = []

    def start(self, plans: Sequence[Plan]) -> None:
        self._parts = [Part(plan) for plan in plans]

    def ask(self, question: str, *arguments: Any) -> list[Any]:
        return [getattr(part, question)(*arguments) for part in self._parts]

    def close(self) -> None:
        self._parts = []
