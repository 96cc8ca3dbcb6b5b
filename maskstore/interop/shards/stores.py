"""Objects under one location: a folder, or a prefix in a store. Each call here is one request.

A store gives a range of an object, takes a whole object, and swaps a small one if it is still the one that was read.
That is all a shard set needs, so another client is another short class.
"""

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from maskstore.errors import (
    BankIOError,
    BankNotFoundError,
    BankReadOnlyError,
    MaskStoreError,
    MissingPackageError,
    WriteConflictError,
    needing,
    one_line,
)
from maskstore.files import named_os_errors, open_regular, replacing

TIMEOUT_SECONDS = 30.0
_FINAL = (PermissionError, NotADirectoryError, IsADirectoryError)
"""What no other request would change."""


class TransientError(Exception):
    """A request that failed and may succeed when it is asked again. It never leaves this folder."""


class Fetched(NamedTuple):
    """What a request gave."""

    data: bytes
    version: Any
    """Names the object's content, for `Store.swap`; None where the store does not say."""


class Store(ABC):
    """Objects by name under one location."""

    where: str
    """The location, for messages."""
    threads: int = 32
    """How many requests may be under way at once."""

    @abstractmethod
    def get(self, name: str, start: int, stop: int) -> Fetched:
        """The bytes of an object from `start` to `stop`, fewer if it ends before; or the whole object.

        Raises:
            BankNotFoundError: There is no such object.
            BankIOError: The store refuses, and would refuse again.
            TransientError: Anything else.
        """

    @abstractmethod
    def put(self, name: str, path: Path) -> None:
        """Store a file as an object, whole or not at all; it may be there already, with the same content."""

    @abstractmethod
    def swap(self, name: str, data: bytes, version: Any) -> None:
        """Replace an object in one step, if its content is still that of `version`; None: if there is none.

        Raises:
            WriteConflictError: It is another one by now.
        """

    def at(self, name: str) -> str:
        """An object, for messages."""
        return f"{self.where}/{name}"

    def conflict(self, name: str) -> WriteConflictError:
        """The error of the writer who lost."""
        return WriteConflictError(
            f"{self.at(name)}: expected the manifest that this writer had read, found that another writer was first "
            "(run the same again)"
        )


class LocalStore(Store):
    """A folder."""

    threads = 4

    def __init__(self, folder: Path) -> None:
        self.where, self._folder = str(folder), folder

    def get(self, name: str, start: int, stop: int) -> Fetched:
        """A range of a file."""
        path = self._folder / name
        if not path.exists():
            raise BankNotFoundError(f"{path}: expected a file, found none")
        with named_os_errors(path), open_regular(path, what="a file of a shard set") as file:
            file.seek(start)
            data = file.read(min(stop, max(start, os.fstat(file.fileno()).st_size)) - start)
        return Fetched(data, _digest(data))

    def put(self, name: str, path: Path) -> None:
        """A copy of a file, under its name only when it is whole."""
        target = self._folder / name
        with named_os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, overwrite=True) as scratch, path.open("rb") as source, scratch.open("wb") as file:
            while piece := source.read(1 << 24):
                file.write(piece)

    def swap(self, name: str, data: bytes, version: Any) -> None:
        """Under a lock among the writers of this machine."""
        path = self._folder / name
        with named_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                found = _digest(path.read_bytes()) if path.exists() else None
                if found != version:
                    raise self.conflict(name)
                with replacing(path, overwrite=True) as scratch:
                    scratch.write_bytes(data)


class FsspecStore(Store):
    """A prefix behind an fsspec URL."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.where, self._url, self._options = url.rstrip("/"), url, options
        self._connect()

    def _connect(self) -> None:
        with needing("fsspec", self._url):
            import fsspec
        self._process, self._lock = os.getpid(), threading.Lock()
        try:
            self._files, path = fsspec.core.url_to_fs(self._url, **self._options)
        except ImportError as error:
            raise MissingPackageError(
                f"{self._url}: expected the packages that fsspec needs for it, found: {one_line(error)}"
            ) from None
        except Exception as error:  # unknown protocols, missing drivers, bad options
            raise BankIOError(f"{self._url}: expected a URL that fsspec can open, found: {one_line(error)}") from None
        self._prefix = f"{path.rstrip('/')}/" if path else ""
        protocol = self._files.protocol
        self._memory = "memory" in ((protocol,) if isinstance(protocol, str) else protocol)

    def get(self, name: str, start: int, stop: int) -> Fetched:
        """A range request; file systems that are asynchronous have a time limit."""
        if self._process != os.getpid():
            self._connect()
        try:
            if getattr(self._files, "async_impl", False):
                from fsspec.asyn import sync

                work, path = self._files._cat_file, self._prefix + name
                data = bytes(sync(self._files.loop, work, path, start=start, end=stop, timeout=TIMEOUT_SECONDS))
            else:
                data = bytes(self._files.cat_file(self._prefix + name, start=start, end=stop))
        except Exception as error:  # every file system has its own errors
            raise self._fault(name, error) from error
        return Fetched(data, _digest(data))

    def put(self, name: str, path: Path) -> None:
        """An upload of a file."""
        try:
            self._files.makedirs((self._prefix + name).rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), self._prefix + name)
        except NotImplementedError:
            raise BankReadOnlyError(
                f"{self.where}: expected a store that takes objects, found a read-only one"
            ) from None
        except Exception as error:  # every file system has its own errors
            raise self._fault(name, error) from error

    def swap(self, name: str, data: bytes, version: Any) -> None:
        """In memory, under a lock; elsewhere a new object only, which the file system makes if there is none."""
        path = self._prefix + name
        if self._memory:
            with _MEMORY:
                found = _digest(self._files.cat_file(path)) if self._files.exists(path) else None
                if found != version:
                    raise self.conflict(name)
                self._files.pipe_file(path, data)
            return
        if version is not None:
            raise BankIOError(
                f"{self.at(name)}: expected a store that replaces a file only if it is unchanged, found fsspec, which "
                'does not (pip install "maskstore[stores]", for s3://, gs:// and az://)'
            )
        try:
            self._files.pipe_file(path, data, mode="create")
        except FileExistsError:
            raise self.conflict(name) from None
        except NotImplementedError:
            raise BankReadOnlyError(
                f"{self.where}: expected a store that takes objects, found a read-only one"
            ) from None
        except Exception as error:  # every file system has its own errors
            raise self._fault(name, error) from error

    def _fault(self, name: str, error: Exception) -> Exception:
        if isinstance(error, FileNotFoundError):
            return BankNotFoundError(f"{self.at(name)}: expected an object, found none")
        if isinstance(error, _FINAL):
            return BankIOError(f"{self.at(name)}: expected to be let in, found: {one_line(error)}")
        return error if isinstance(error, MaskStoreError) else TransientError(one_line(error))


_MEMORY = threading.Lock()


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
