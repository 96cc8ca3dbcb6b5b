"""What a missing torch looks like: one line that says what to install."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_needed() -> Iterator[None]:
    """Around imports that need torch: ImportError with one line that says what to install, if it is missing."""
    try:
        yield
    except ImportError as error:
        if error.name != "torch":
            raise
        raise ImportError('supsup_models needs torch: pip install "maskstore[models]"', name="torch") from error
