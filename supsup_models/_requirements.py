"""Lazy faces of folders, and what a missing torch looks like: one line that says what to install."""

from collections.abc import Callable
from typing import Any

import lazy_loader


def attach(name: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """A folder's lazy face: `__getattr__`, `__dir__` and `__all__` for its `__init__.py`.

    Args:
        name: the folder's `__name__`.
        file: the folder's `__file__`; the names are listed in `__init__.pyi` beside it.

    A name is imported when it is first used, so that listing commands or stream names does not wait for torch.
    """
    find, names, listed = lazy_loader.attach_stub(name, file)

    def lookup(wanted: str) -> Any:
        if wanted not in listed:
            raise AttributeError(f"module {name!r} has no attribute {wanted!r}")
        try:
            return find(wanted)
        except ImportError as error:
            if error.name != "torch":
                raise
            message = 'supsup_models: expected torch, found it not installed (pip install "maskstore[models]")'
            raise ImportError(message, name="torch") from error

    return lookup, names, listed
