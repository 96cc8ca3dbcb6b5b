"""`compiled`: Numba's `njit`, with a cache on the disk that never stands between a caller and an answer.

The cache may be absent, full, unwritable, damaged or stale: a kernel is then compiled, and one line says so.
"""

import hashlib
import inspect
import pickle
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy as np

from maskstore.errors import CompilerError
from maskstore.kernels.notes import note_once

_DIGEST_BYTES = 16
_EACH_TIME = "kernels are compiled in every run (set NUMBA_CACHE_DIR to a folder for them)"


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`njit(nogil=True)` for a kernel, with a cache: `@compiled` or `@compiled(error_model="numpy")`.

    Numba's own cache compares the kernel's file alone with what it compiled. This one also compares all modules of the
    kernel's folder and of `maskstore.kernels`, of which a kernel takes its intrinsics and inlined functions. It checks
    every byte that it reads back, and whatever fails costs a note and the time to compile.

    With `NUMBA_DISABLE_JIT=1` the kernel runs as Python. One that is made of vector instructions has no such form and
    raises CompilerError.
    """
    if function is None:
        return lambda function: compiled(function, **options)
    from numba import njit

    if not compiles():
        return _interpreted(function)
    dispatcher = njit(nogil=True, **options)(function)
    dispatcher._cache = _kernel_cache(function)  # as `cache=True` does with a `FunctionCache`
    return dispatcher


def compiles() -> bool:
    """Whether Numba compiles here; where `NUMBA_DISABLE_JIT=1` tells it not to, that is noted."""
    from numba.core import config

    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        note_once("NUMBA_DISABLE_JIT is set: kernels run as Python, many times slower")
        return False
    return True


def _interpreted(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*arguments: Any) -> Any:
        try:
            with np.errstate(all="ignore"):  # integers wrap around, as they do in compiled code
                return function(*arguments)
        except NotImplementedError:  # an intrinsic
            raise CompilerError(
                f"{function.__module__}: expected a compiler for its vector instructions, found NUMBA_DISABLE_JIT set "
                "(unset it)"
            ) from None

    return run


def _kernel_cache(function: Callable[..., Any]) -> Any:
    """Numba's cache of a function, whose every failure is a note."""
    from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache
    from numba.core.config import CACHE_DIR  # type: ignore[attr-defined]

    class Stored(CompileResultCacheImpl):
        def __init__(self, py_func: Callable[..., Any]) -> None:
            super().__init__(py_func)
            own = self.locator.get_source_stamp
            self.locator.get_source_stamp = lambda: (own(), _sources(Path(inspect.getfile(py_func)).parent))

    class SourcesCache(FunctionCache):
        _impl_class = Stored

        def __init__(self, py_func: Callable[..., Any]) -> None:
            super().__init__(py_func)
            stamp = self._impl.locator.get_source_stamp()
            self._cache_file = _checked_file(self._cache_path, f"{self._impl.filename_base}.checked", stamp)

    class KernelCache(NullCache):
        """Opened when it is first asked, so that importing a kernel neither reads nor writes files."""

        def __init__(self) -> None:
            self._opened: Any = None

        @property
        def cache_path(self) -> Any:
            return self._attempt(lambda: self._files().cache_path)

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            return self._attempt(lambda: self._files().load_overload(sig, target_context))

        def save_overload(self, sig: Any, cres: Any) -> None:
            self._attempt(lambda: self._files().save_overload(sig, cres))

        def flush(self) -> None:
            self._attempt(lambda: self._files().flush())

        def _files(self) -> Any:
            if self._opened is None:
                try:
                    self._opened = SourcesCache(function)
                except RuntimeError:  # Numba has tried all its folders
                    self._opened = NullCache()
                    asked = f"{CACHE_DIR} (NUMBA_CACHE_DIR) is none" if CACHE_DIR else "found none"
                    _note(f"expected a folder that can be written, {asked}", _EACH_TIME)
                else:
                    if CACHE_DIR and not Path(self._opened.cache_path).is_relative_to(CACHE_DIR):
                        why = f"expected a folder that can be written, {CACHE_DIR} (NUMBA_CACHE_DIR) is none"
                        _note(why, f"they go to {self._opened.cache_path}")
            return self._opened

        def _attempt(self, work: Callable[[], Any]) -> Any:
            try:
                return work()
            except _DamagedError as error:
                _note(str(error), "kernels are compiled again")
            except Exception as error:  # a cache is never worth an answer, whatever is wrong with it
                place = getattr(error, "filename", None) or getattr(self._opened, "cache_path", None) or "its folder"
                why = getattr(error, "strerror", None) or type(error).__name__
                _note(f"expected a cache that can be read and written, found {why!r} at {place}", _EACH_TIME)
            return None

    return KernelCache()


class _DamagedError(Exception):
    """A file of the cache is not what was written; its text is for the note."""


def _checked_file(folder: str, base: str, stamp: object) -> Any:
    """Numba's pair of index and data files, each with a digest of its bytes; data also say which kernel they are.

    Of two processes with different sources one may replace the data that the other's index names: such data are not
    found, and are compiled again.
    """
    from numba.core.caching import IndexDataCacheFile

    class CheckedFile(IndexDataCacheFile):
        def save(self, key: Any, data: Any) -> None:
            super().save(key, (self._stamp_of(key), data))

        def load(self, key: Any) -> Any:
            found = super().load(key)
            return None if found is None or found[0] != self._stamp_of(key) else found[1]

        def _stamp_of(self, key: Any) -> bytes:
            return hashlib.blake2b(pickle.dumps((self._version, self._source_stamp, repr(key)))).digest()

        def _load_index(self) -> Any:
            try:
                version, stamp, overloads = _unsealed(self._index_path)
            except FileNotFoundError:
                return {}
            except _DamagedError as error:
                _note(str(error), "kernels are compiled again")
                return {}
            return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

        def _save_index(self, overloads: Any) -> None:
            self._write(self._index_path, (self._version, self._source_stamp, overloads))

        def _load_data(self, name: str) -> Any:
            return _unsealed(self._data_path(name))

        def _save_data(self, name: str, data: Any) -> None:
            self._write(self._data_path(name), data)

        def _write(self, path: str, value: Any) -> None:
            content = self._dump(value)
            with self._open_for_write(path) as file:
                file.write(_digest(content) + content)

    return CheckedFile(folder, base, stamp)


def _unsealed(path: str) -> Any:
    file = Path(path)
    if file.exists() and not file.is_file():  # a pipe would keep us waiting
        raise _DamagedError(f"expected a file, found something else at {path}")
    content = file.read_bytes()
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if digest != _digest(content):
        raise _DamagedError(f"expected the bytes that were written, found others in {path}")
    return pickle.loads(content)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _note(why: str, therefore: str) -> None:
    note_once(f"cache of compiled kernels: {why}; {therefore}")


@cache
def _sources(folder: Path) -> bytes:
    """A digest of all modules in a folder and in this one."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted({*folder.glob("*.py"), *Path(__file__).parent.rglob("*.py")}):
        source = path.read_bytes()
        digest.update(f"{path.name}\0{len(source)}\0".encode() + source)
    return digest.digest()
