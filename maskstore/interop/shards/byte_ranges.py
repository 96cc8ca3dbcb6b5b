"""Byte ranges of a file that does not change: local, or wherever `fsspec` reaches. A call here is one request."""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from maskstore.errors import (
    BankIOError,
    BankNotFoundError,
    CorruptError,
    IrregularFileError,
    MaskStoreError,
    MissingPackageError,
    NotABankError,
    needing,
    one_line,
)
from maskstore.files import named_os_errors, open_regular, path_of, text_of

T = TypeVar("T")
_FINAL = (FileNotFoundError, ConnectionError, TimeoutError, PermissionError)
"""What no other request would change."""


def is_url(location: str) -> bool:
    """Whether a location is fsspec's business: "s3://bucket/masks.shard", "simplecache::http://..."."""
    return "://" in location or "::" in location


class Ranges(ABC):
    """A file as ranges of bytes. `size` is None where finding it out would cost a request, until it is told."""

    size: int | None

    @abstractmethod
    def tails(self, count: int) -> Iterator[bytes]:
        """The last `count` bytes, or the whole file if it is shorter; then the same, asked for in other ways."""

    @abstractmethod
    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`; CorruptError if the file ends before."""

    @abstractmethod
    def close(self) -> None:
        """Release the file."""


class LocalRanges(Ranges):
    """A local file, kept open."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise BankNotFoundError(f"{path}: expected a shard, found no file")
        self._path = path
        self._lock = threading.Lock()
        with named_os_errors(path):
            try:
                self._file = open_regular(path, what="a shard")
            except IrregularFileError as error:
                hint = " (`MaskBank.open` opens banks)" if path.is_file() else ""
                raise NotABankError(f"{error}{hint}") from None
            self.size = os.fstat(self._file.fileno()).st_size

    def tails(self, count: int) -> Iterator[bytes]:
        """The last bytes."""
        assert self.size is not None
        yield self.read(max(0, self.size - count), self.size)

    def read(self, start: int, stop: int) -> bytes:
        """A range; the size is checked before anything is allocated."""
        assert self.size is not None
        if not 0 <= start <= stop <= self.size:
            raise CorruptError(f"{self._path}: expected bytes {start} to {stop}, found a file of {self.size}")
        chunks, at = [], start
        with named_os_errors(self._path):
            while at < stop:
                chunk = self._read_some(at, stop - at)
                if not chunk:
                    raise CorruptError(f"{self._path}: expected bytes {at} to {stop}, found the end of the file")
                chunks.append(chunk)
                at += len(chunk)
        return b"".join(chunks)

    def _read_some(self, start: int, count: int) -> bytes:
        if hasattr(os, "pread"):  # keeps no position, so threads and forked processes may share the file
            return os.pread(self._file.fileno(), count, start)
        with self._lock:
            self._file.seek(start)
            return self._file.read(count)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RemoteRanges(Ranges):
    """A file behind an fsspec URL, on stores of every kind.

    Not every store takes the same requests. Some refuse a range that counts from the end, some know no ranges and send
    the whole file, some caches cannot read a range of what they hold. What a store refuses is asked for in another way;
    what comes is never trusted to be what was asked for, since every byte of a shard is under a checksum.
    """

    size: int | None = None

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._url, self._options = url, options
        self._whole: bytes | None = None
        self._connect()

    def _connect(self) -> None:
        """Open the file system for this process: its threads and connections do not outlive a fork."""
        with needing("fsspec", self._url):
            import fsspec
        self._process, self._lock = os.getpid(), threading.Lock()
        try:
            self._files, self._path = fsspec.core.url_to_fs(self._url, **self._options)
        except ImportError as error:
            raise MissingPackageError(
                f"{self._url}: expected the packages that fsspec needs for it, found: {one_line(error)}"
            ) from None
        except Exception as error:  # unknown protocols, missing drivers, bad options
            raise BankIOError(f"{self._url}: expected a URL that fsspec can open, found: {one_line(error)}") from None

    def tails(self, count: int) -> Iterator[bytes]:
        """By a range that counts from the end; by one that counts from the start; of the whole file."""
        refused: Exception | None = None
        tail = None
        try:
            tail = self._of_whole(self._range(-count, None), count)
        except MaskStoreError:
            raise
        except Exception as error:  # every file system has its own errors
            if isinstance(error, _FINAL):
                raise self._named(error) from error
            refused = error
        if tail is not None:
            yield tail
        size = self._told_size()
        if size is not None:
            again = self._ask(lambda: self._of_whole(self._range(max(0, size - count), size), count))
            if again is not None:
                if again != tail:
                    yield again
                return
        if refused is not None:
            self._whole = self._ask(lambda: self._range(None, None))
            if self._whole is None:
                raise self._named(refused) from refused
            yield self._whole[-count:]

    def read(self, start: int, stop: int) -> bytes:
        """A range request."""
        if start == stop:
            return b""
        if self._whole is not None:
            return self._whole[start:stop]
        try:
            data = self._range(start, stop)
        except MaskStoreError:
            raise
        except Exception as error:  # every file system has its own errors
            raise self._named(error) from error
        if len(data) == stop - start:
            return data
        if len(data) != self.size:
            raise CorruptError(f"{self._url}: expected bytes {start} to {stop}, found {len(data)} bytes")
        self._whole = data  # a server without ranges: what it sent once is kept
        return data[start:stop]

    def _of_whole(self, data: bytes, count: int) -> bytes:
        """The end of what a store sent; if that was more than asked for, it is the file."""
        if len(data) > count:
            self._whole = data
        return data[-count:]

    def _told_size(self) -> int | None:
        found = self._ask(lambda: self._files.info(self._path)["size"])
        return found if isinstance(found, int) else None

    def _range(self, start: int | None, stop: int | None) -> bytes:
        if self._process != os.getpid():
            self._connect()
        # file systems that are not asynchronous may keep a position, or fill a cache, for one caller at a time
        with nullcontext() if getattr(self._files, "async_impl", False) else self._lock:
            try:
                return bytes(self._files.cat_file(self._path, start=start, end=stop))
            except AttributeError:  # caches that lack a range of what they hold
                return self._through_file(start, stop)

    def _through_file(self, start: int | None, stop: int | None) -> bytes:
        try:
            with self._files.open(self._path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                first = max(0, size + start) if start is not None and start < 0 else start or 0
                file.seek(first)
                return bytes(file.read((size if stop is None else stop) - first))
        except AttributeError:  # a cache of blocks over a store without blocks
            return bytes(self._files.fs.cat_file(self._path, start=start, end=stop))

    def _ask(self, request: Callable[[], T]) -> T | None:
        """What a store answers; None if it refuses."""
        try:
            return request()
        except Exception:  # every file system has its own errors
            return None

    def _named(self, error: Exception) -> MaskStoreError:
        if isinstance(error, FileNotFoundError):
            return BankNotFoundError(f"{self._url}: expected a shard, found no file")
        return BankIOError(f"{self._url}: expected to read bytes, found: {one_line(error)}")

    def close(self) -> None:
        """Nothing is held open between requests."""
        self._whole = None


def open_ranges(location: str | os.PathLike[str], options: dict[str, Any]) -> Ranges:
    """Ranges of a local path or an fsspec URL."""
    text = text_of(location)
    return RemoteRanges(text, options) if is_url(text) else LocalRanges(path_of(text))
