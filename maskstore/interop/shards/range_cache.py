"""Records that were read from a store, kept: on the disk for many processes, or in memory for one.

A record is kept under the digest of its shard and its place there. A shard never changes under its digest, so what is
kept is never out of date. Each file begins with the digest of the rest, and a record has its own checksum besides.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from filelock import FileLock

from maskstore.errors import StoreOptionError
from maskstore.files import named_os_errors

_DIGEST = 16
_LEFT_AFTER = 7 / 8  # of the room, when the oldest were removed
_SUFFIX = ".range"


class RangeCache(ABC):
    """Bytes by key, up to a number of bytes; the least recently used leave first."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """What is kept under a key; None for nothing."""

    @abstractmethod
    def put(self, found: Mapping[str, bytes]) -> None:
        """Keep what fits."""


class MemoryCache(RangeCache):
    """In this process."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes, self._lock = limit, 0, Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        """A value, which is then the last to leave."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, found: Mapping[str, bytes]) -> None:
        """Keep values."""
        with self._lock:
            for key, data in found.items():
                if len(data) <= self._limit and key not in self._kept:
                    self._kept[key] = data
                    self._bytes += len(data)
            while self._bytes > self._limit:
                self._bytes -= len(self._kept.popitem(last=False)[1])


class DiskCache(RangeCache):
    """A folder that any number of processes share.

    A file appears whole under its name, so a reader needs no lock. Writers take one: the file `bytes` counts what is
    there, before it is there, so the folder never holds more than the limit.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        with named_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(str(folder / "lock"))

    def get(self, key: str) -> bytes | None:
        """A value whose digest is right; a file that is not as it was written is removed."""
        path = self._path(key)
        try:
            stored = path.read_bytes()
            if stored[:_DIGEST] == _digest(key, stored[_DIGEST:]):
                os.utime(path)
                return stored[_DIGEST:]
            path.unlink()
        except OSError:  # not there, or a folder that cannot be read: the store has it
            pass
        return None

    def put(self, found: Mapping[str, bytes]) -> None:
        """Keep values. A full or read-only disk keeps none, which is no error: the store has them."""
        new = {key: data for key, data in found.items() if len(data) + _DIGEST <= self._limit // 4}
        with suppress(OSError), self._lock:
            for key, data in new.items():
                path = self._path(key)
                if path.exists():
                    continue
                size = _DIGEST + len(data)
                used = self._counted()
                if used + size > self._limit:
                    used = self._evict(int(self._limit * _LEFT_AFTER) - size)
                self._count(used + size)
                path.parent.mkdir(exist_ok=True)
                scratch = path.with_suffix(".new")  # one writer at a time
                scratch.write_bytes(_digest(key, data) + data)
                os.replace(scratch, path)

    def _path(self, key: str) -> Path:
        name = hashlib.blake2b(key.encode(), digest_size=_DIGEST).hexdigest()
        return self._folder / name[:2] / f"{name}{_SUFFIX}"

    def _counted(self) -> int:
        try:
            return int((self._folder / "bytes").read_text())
        except (OSError, ValueError):  # new, or damaged: counted anew
            return self._evict(self._limit)

    def _count(self, total: int) -> None:
        scratch = self._folder / "bytes.new"
        scratch.write_text(str(total))
        os.replace(scratch, self._folder / "bytes")

    def _evict(self, room: int) -> int:
        """Remove the files that were used least recently until the rest fits; returns the bytes of the rest."""
        files = []
        for path in self._folder.glob("??/*"):
            if path.suffix == _SUFFIX:
                about = path.stat()
                files.append((about.st_mtime_ns, about.st_size, path))
            else:  # a writer was killed
                path.unlink()
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= room:
                break
            path.unlink(missing_ok=True)
            total -= size
        return total


def _digest(key: str, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST, key=key.encode()[:64]).digest()


def open_cache(folder: Path | None, limit: int) -> RangeCache:
    """A cache in a folder, or in memory without one."""
    if not isinstance(limit, int) or limit < 0:
        raise StoreOptionError(f"cache_bytes: expected 0 or more, found {limit!r:.40}")
    return MemoryCache(limit) if folder is None else DiskCache(folder, limit)
