"""Byte ranges of a file that does not change: local, or wherever `fsspec` reaches. A call here is one request."""

import os
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from maskstore.errors import BankIOError, BankNotFoundError, CorruptError, MaskStoreError, one_line
from maskstore.files import named_os_errors


def is_url(location: str) -> bool:
    """Whether a location is fsspec's business: "s3://bucket/masks.shard", "simplecache::http://..."."""
    return "://" in location or "::" in location


class Ranges(ABC):
    """A file as ranges of bytes. `size` is None where finding it out would cost a request."""

    size: int | None

    @abstractmethod
    def tail(self, count: int) -> bytes:
        """The last `count` bytes, or the whole file if it is shorter."""

    @abstractmethod
    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`; CorruptError if the file ends before."""

    @abstractmethod
    def close(self) -> None:
        """Release the file."""


class LocalRanges(Ranges):
    """A local file, kept open."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise BankNotFoundError(f"{path}: expected a shard, found no file")
        self._path = path
        self._lock = threading.Lock()
        with named_os_errors(path):
            self._file = path.open("rb", buffering=0)
            self.size = os.fstat(self._file.fileno()).st_size

    def tail(self, count: int) -> bytes:
        """The last bytes."""
        assert self.size is not None
        return self.read(max(0, self.size - count), self.size)

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
    """A file behind an fsspec URL. Servers that ignore ranges and send everything are noticed, not trusted."""

    size = None

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        try:
            import fsspec
        except ImportError:
            raise BankIOError(
                f"{url}: expected the package fsspec for URLs, found it not installed (pip install fsspec)"
            ) from None
        self._url = url
        try:
            self._files, self._path = fsspec.core.url_to_fs(url, **options)
        except Exception as error:  # unknown protocols, missing drivers, bad options
            raise BankIOError(f"{url}: expected a URL that fsspec can open, found: {one_line(error)}") from None

    def tail(self, count: int) -> bytes:
        """A suffix request."""
        return self._request(-count, None)[-count:]

    def read(self, start: int, stop: int) -> bytes:
        """A range request."""
        if start == stop:
            return b""
        data = self._request(start, stop)
        if len(data) != stop - start:
            raise CorruptError(f"{self._url}: expected bytes {start} to {stop}, found {len(data)} bytes")
        return data

    def _request(self, start: int, stop: int | None) -> bytes:
        try:
            return bytes(self._files.cat_file(self._path, start=start, end=stop))
        except FileNotFoundError:
            raise BankNotFoundError(f"{self._url}: expected a shard, found no file") from None
        except MaskStoreError:
            raise
        except Exception as error:  # every file system has its own errors
            raise BankIOError(f"{self._url}: expected to read bytes, found: {one_line(error)}") from error

    def close(self) -> None:
        """Nothing is held open between requests."""


def open_ranges(location: str | os.PathLike[str], options: dict[str, Any]) -> Ranges:
    """Ranges of a local path or an fsspec URL."""
    text = os.fspath(location)
    return RemoteRanges(text, options) if is_url(text) else LocalRanges(Path(text))
