"""`compiled`: Numba's `njit`, with a cache on the disk that sees a change of every source a kernel is made of."""

import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`njit(nogil=True, cache=True)` for a kernel: `@compiled` or `@compiled(error_model="numpy")`.

    Numba's own cache compares the kernel's file alone with what it compiled. This one also compares all modules of the
    kernel's folder and of `maskstore.kernels`, of which a kernel takes its intrinsics and inlined functions.
    """
    if function is None:
        return lambda function: compiled(function, **options)
    from numba import njit
    from numba.core.caching import CompileResultCacheImpl, FunctionCache

    class Stored(CompileResultCacheImpl):
        def __init__(self, py_func: Callable[..., Any]) -> None:
            super().__init__(py_func)
            own = self.locator.get_source_stamp
            self.locator.get_source_stamp = lambda: (own(), _sources(Path(inspect.getfile(py_func)).parent))

    class SourcesCache(FunctionCache):
        _impl_class = Stored

    dispatcher = njit(nogil=True, **options)(function)
    dispatcher._cache = SourcesCache(function)  # as `cache=True` does with a `FunctionCache`
    return dispatcher


@cache
def _sources(folder: Path) -> bytes:
    """A digest of all modules in a folder and in this one."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted({*folder.glob("*.py"), *Path(__file__).parent.rglob("*.py")}):
        source = path.read_bytes()
        digest.update(f"{path.name}\0{len(source)}\0".encode() + source)
    return digest.digest()
