"""Requests that are repeated: a bounded number of times, each after a longer wait."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from maskstore.errors import BankIOError, CorruptError, StoreOptionError
from maskstore.interop.shards.stores import TransientError

T = TypeVar("T")


@dataclass(frozen=True)
class Retries:
    """How often a request is made before its failure is an error.

    Args:
        attempts: The most requests for one range, 1 or more. Bytes that are not as they were written are asked for
            twice at most: the second time tells a bad connection from a bad object.
        first_wait: Seconds before the second request. Each wait is about twice the one before, and at most 5 s.

    Raises:
        StoreOptionError: The values are out of range.

    Examples:
        >>> from maskstore.interop import Retries
        >>> Retries(attempts=3).waits()
        [0.1, 0.2]
    """

    attempts: int = 5
    first_wait: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 100 or not 0 <= self.first_wait <= 60:
            raise StoreOptionError(
                f"retries: expected 1 to 100 attempts and a first wait of 0 to 60 s, found {self.attempts} and "
                f"{self.first_wait}"
            )

    def waits(self) -> list[float]:
        """Seconds between the attempts, before they are spread at random."""
        return [min(5.0, self.first_wait * 2**i) for i in range(self.attempts - 1)]

    def call(self, what: str, request: Callable[[], T]) -> T:
        """What a request gives.

        Args:
            what: The object, for messages.
            request: Raises TransientError, or CorruptError, where another request may give another answer.

        Raises:
            BankIOError: All attempts failed.
            CorruptError: The bytes were wrong twice.
        """
        waits = self.waits()
        wrong = 0
        for attempt in range(self.attempts):
            try:
                return request()
            except CorruptError:
                wrong += 1
                if wrong == 2 or attempt == len(waits):
                    raise
            except TransientError as fault:
                if attempt == len(waits):
                    raise BankIOError(
                        f"{what}: expected an answer in {self.attempts} attempts, found: {fault}"
                    ) from fault
            time.sleep(waits[attempt] * random.uniform(0.5, 1.0))  # many readers must not all come back at once
        raise AssertionError("unreachable")
