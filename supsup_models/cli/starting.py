"""`uncollected`: imports without the collector of unreachable objects, which takes a sixth of a command's start."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Inside the block, Python does not look for unreachable cycles; it never looks at what is there at the end.

    For imports: the million objects that torch and its like make stay until the process ends, and the collector would
    go through them again and again. Where the caller has turned it off, it stays off, and nothing else happens.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
