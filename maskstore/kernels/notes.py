"""What the kernels have to tell a person: at most one line a process, on standard error.

It is no Python warning: with `-W error` that would be an exception, and the kernels must not stand between a caller and
an answer. For the same reason it does not matter whether the line can be written.
"""

import sys
from contextlib import suppress

from maskstore.errors import printable

_told: list[str] = []


def note_once(text: str) -> None:
    """Say this, unless something has been said in this process."""
    if not _told:
        _told.append(text)
        with suppress(AttributeError, OSError, ValueError):  # no standard error, a full one, a closed one
            sys.stderr.write(f"maskstore: {printable(text)}\n")
            sys.stderr.flush()


def noted() -> bool:
    """Whether something has been said."""
    return bool(_told)
