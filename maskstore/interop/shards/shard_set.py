"""`ShardSet`: the masks of many shards in a store, read through their manifest.

Opening is one request, for the manifest. A mask is one request, for its range of a shard. Many masks are fetched side
by side, neighbours in one request.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from maskstore import errors
from maskstore.bank import MaskInfo, MaskSource, Record, decode_extras
from maskstore.files import byte_limit, nearest, parse_object, path_of, text_of
from maskstore.interop.shards import format as shard_format
from maskstore.interop.shards import manifest as manifest_format
from maskstore.interop.shards.byte_ranges import is_url
from maskstore.interop.shards.engines import open_store
from maskstore.interop.shards.format import FOOTER_BYTES, MAGIC
from maskstore.interop.shards.manifest import HEADER_BYTES, Manifest
from maskstore.interop.shards.range_cache import DiskCache, open_cache
from maskstore.interop.shards.retries import Retries
from maskstore.interop.shards.stores import Store, TransientError
from maskstore.priors import Backbone, checked_backbone

FIRST_BYTES = 16 << 20  # of a manifest, by the first request: more than that of a million masks without metadata
CACHE_BYTES = 256 << 20
_BATCH_BYTES, _BATCH_ROWS = 32 << 20, 4096  # fetched side by side
_GAP, _REQUEST_BYTES = 16 << 10, 4 << 20  # neighbours share a request
_ONCE = Retries()


def read_manifest(store: Store, retries: Retries, limit: int | None) -> tuple[Manifest, Any]:
    """The manifest of a set, and the version that `Store.swap` wants: one request, two for more than 16 MiB.

    Raises:
        BankNotFoundError: There is no manifest.
    """
    name = manifest_format.NAME

    def read() -> tuple[Manifest, Any]:
        first = store.get(name, 0, FIRST_BYTES)
        header = manifest_format.decode_header(first.data, store.at(name), limit)
        size, data, version = HEADER_BYTES + header.stored, first.data, first.version
        if len(data) == FIRST_BYTES < size:
            rest = store.get(name, FIRST_BYTES, size)
            data += rest.data[: size - FIRST_BYTES]
            version = shard_format.digest(data) if isinstance(version, bytes) else version
            if not isinstance(version, bytes) and version != rest.version:
                raise errors.CorruptError(f"{store.at(name)}: expected one manifest, found it replaced meanwhile")
        return manifest_format.decode_manifest(data[HEADER_BYTES:], header, store.at(name)), version

    return retries.call(store.at(name), read)


@dataclass(frozen=True)
class _State:
    """A manifest, and where its masks are."""

    manifest: Manifest
    rows: dict[str, int]
    shard_of: Sequence[int]
    starts: Sequence[int]

    @classmethod
    def of(cls, manifest: Manifest) -> "_State":
        shard_of, starts = manifest.places()
        names = manifest.names
        return cls(manifest, dict(zip(names, range(len(names)), strict=True)), shard_of.tolist(), starts.tolist())


class ShardSet(MaskSource):
    """The masks of a shard set: a mapping from task name to `Mask`, as an open `MaskBank` is.

    It shows the set as it was when it was opened, since shards never change; `refresh` looks for what was appended. Any
    thread may use it. A copy, and a set that is sent to another process, opens the same manifest again.

    Args:
        location: A folder, or a URL prefix such as `s3://bucket/tasks`, that holds `manifest` and `shards/`.
        options: Options of the client: obstore's configuration of the store, or fsspec's of the file system.
        engine: "obstore", "fsspec", or "auto": obstore for S3, Google, Azure and HTTP where it is installed.
        limit: The most bytes that one call may decode, as in `MaskBank.open`; the manifest counts as well.
        cache: A folder in which fetched masks are kept, for any number of processes. None keeps in memory what
            `prefetch` fetched.
        cache_bytes: The most bytes that are kept.
        retries: How often a request is repeated.
        backbone: The weights that masks were coded against, if some have the prior `KeptWeights`.

    Raises:
        BankNotFoundError: There is no manifest.
        NotABankError: The file of that name is none.
        CorruptError: The manifest is damaged.
        BankIOError: The store cannot be read.
        StoreOptionError: An option is out of range or unknown.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec
        >>> from maskstore.interop import ShardSet, write_shards
        >>> masks = {"fc1": np.arange(800).reshape(20, 40) % 10 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec.of(masks)) as bank:
        ...         for number in range(4):
        ...             bank.put(f"task-{number}", masks)
        ...         write_shards(bank, f"{folder}/tasks", shards=2).shards
        ...     with ShardSet(f"{folder}/tasks") as tasks:
        ...         print(len(tasks), tasks["task-3"].ones, tasks.verify())
        2
        4 80 4
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        *,
        options: dict[str, Any] | None = None,
        engine: str = "auto",
        limit: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int = CACHE_BYTES,
        retries: Retries = _ONCE,
        backbone: Backbone | None = None,
    ) -> None:
        self.location, self._closed = text_of(location), False
        self.limit, self.backbone = byte_limit(limit), checked_backbone(backbone)
        place = self.location if is_url(self.location) else os.path.abspath(self.location)
        folder = None if cache is None else Path(os.path.abspath(path_of(cache)))
        self._arguments = (place, options, engine, limit, folder, cache_bytes, retries, backbone)
        self._retries = retries
        self._cache = open_cache(folder, cache_bytes)
        self._store = open_store(place, options, engine)
        self._take(read_manifest(self._store, retries, self.limit)[0])

    def _take(self, manifest: Manifest) -> None:
        self.spec, self.meta = manifest.spec, manifest.meta
        self._state = _State.of(manifest)

    @property
    def generation(self) -> int:
        """How often the set had been written to when this manifest was made; 1 for a new one."""
        return self._state.manifest.generation

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return len(self._state.manifest.shards)

    def refresh(self) -> bool:
        """Look for a newer manifest: one request.

        Returns:
            Whether there was one.

        Raises:
            CorruptError: The store gave an older one, or one of other layers or other metadata of the set: masks of
                another network, as far as anybody can tell.
        """
        self._check_open()
        found, before = read_manifest(self._store, self._retries, self.limit)[0], self._state.manifest
        if found.own == before.own:
            return False
        if found.generation <= before.generation or found.spec != before.spec or found.meta != before.meta:
            raise errors.CorruptError(
                f"{self.location}: expected generation {before.generation} or a later one of the same layers and "
                f"metadata, found generation {found.generation} (open the set again)"
            )
        self._take(found)
        return True

    def close(self) -> None:
        """Nothing is held open between requests. Closing twice is fine."""
        self._closed = True

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_open()
        return _reopened, (*self._arguments, self._state.manifest.own)

    def __len__(self) -> int:
        return len(self._state.rows)

    def __iter__(self) -> Iterator[str]:
        """Task names in the order in which they were stored."""
        return iter(self._state.rows)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._state.rows

    def info(self, name: str) -> MaskInfo:
        """Metadata, codec, prior and sizes of a mask, from the manifest."""
        state, row = self._find(name)
        entry = state.manifest.entry(row, 0)
        meta, codec, prior = (parse_object(text) for text in (entry.row.meta, entry.row.codec, entry.row.prior))
        return MaskInfo(name, meta, codec, prior, entry.data_bytes, entry.extras_bytes)

    def checksum(self, name: str) -> bytes:
        """What differs once a mask was replaced, in a set that was written anew; from the manifest, so no request."""
        state, row = self._find(name)
        return bytes(state.manifest.columns["checksum"][row].tobytes())

    def checksums(self) -> dict[str, bytes]:
        """`checksum` of each name; no request."""
        self._check_open()
        rows, column = self._state.rows, self._state.manifest.columns["checksum"]
        return {name: column[row].tobytes() for name, row in rows.items()}

    def task_meta(self, name: str) -> dict[str, Any]:
        """The metadata stored beside a mask; it is in the manifest, so this is no request."""
        return self.info(name).meta

    def extras(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays stored beside a mask; no request if there are none."""
        return decode_extras(self.record(name).extras, name) if self.info(name).extras_bytes else {}

    def record(self, name: str) -> Record:
        """The stored row of a mask, its checksum checked: one request, or none if it is in the cache."""
        state, row = self._find(name)
        return self._batch(state, [row], keep=isinstance(self._cache, DiskCache))[row]

    def records(self) -> Iterator[Record]:
        """All rows in order, 32 MiB at a time."""
        self._check_open()
        return self._fetched(self._state, range(len(self)), keep=False)

    def prefetch(self, names: Iterable[str]) -> int:
        """Fetch masks side by side into the cache, so that their use costs no request.

        Args:
            names: Tasks. If they are more than the cache holds, the first leave it again.

        Returns:
            How many masks were fetched or were there.

        Raises:
            TaskNotFoundError: There is no mask of one of the names.
        """
        found = [self._find(name) for name in ([names] if isinstance(names, str) else names)]
        return sum(1 for _ in self._fetched(self._state, [row for _, row in found], keep=True))

    def _named_records(self, names: Sequence[str]) -> Iterator[Record]:
        found = [self._find(name) for name in names]
        return self._fetched(self._state, [row for _, row in found], keep=isinstance(self._cache, DiskCache))

    def _fetched(self, state: _State, rows: Sequence[int], *, keep: bool) -> Iterator[Record]:
        """The records of rows, in this order; a batch at a time is in memory."""
        batch: list[int] = []
        size = 0
        for row in rows:
            length = self._length(state, row)
            if batch and (size + length > _BATCH_BYTES or len(batch) == _BATCH_ROWS):
                found = self._batch(state, batch, keep=keep)
                yield from (found[one] for one in batch)
                batch, size = [], 0
            batch.append(row)
            size += length
        found = self._batch(state, batch, keep=keep)
        yield from (found[one] for one in batch)

    def _batch(self, state: _State, rows: Sequence[int], *, keep: bool) -> dict[int, Record]:
        """The records of some rows: from the cache, and the others by requests side by side."""
        found: dict[int, Record] = {}
        for row in rows:
            kept = self._cache.get(_key(state, row))
            if kept is not None:
                with suppress(errors.CorruptError):  # as if it were not there
                    found[row] = self._record(state, row, kept)
        missing = sorted(set(rows) - set(found))
        if not missing:
            return found
        groups = list(self._groups(state, missing))
        if len(groups) == 1:
            answers = [self._request(state, groups[0])]
        else:
            with ThreadPoolExecutor(min(self._store.threads, len(groups))) as pool:
                futures = [pool.submit(self._request, state, group) for group in groups]
                try:
                    answers = [future.result() for future in futures]
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        for group, records in zip(groups, answers, strict=True):
            found.update(zip(group, records, strict=True))
        if keep:
            self._cache.put({_key(state, row): found[row].extras + found[row].data[:] for row in missing})
        return found

    def _groups(self, state: _State, rows: Sequence[int]) -> Iterator[list[int]]:
        """Rows in ascending order, cut into those that one request reads."""
        group: list[int] = []
        first = last = 0
        for row in rows:
            start = state.starts[row]
            stop = start + self._length(state, row)
            together = group and state.shard_of[row] == state.shard_of[group[0]]
            if not together or start - last > _GAP or stop - first > _REQUEST_BYTES:
                if group:
                    yield group
                group, first = [], start
            group.append(row)
            last = stop
        yield group

    def _request(self, state: _State, rows: Sequence[int]) -> list[Record]:
        """The records of neighbours, by one request, their checksums checked."""
        shard = state.manifest.shards[state.shard_of[rows[0]]]
        first, stop = state.starts[rows[0]], state.starts[rows[-1]] + self._length(state, rows[-1])

        def read() -> list[Record]:
            data = self._read(shard, first, stop)
            places = [state.starts[row] - first for row in rows]
            return [
                self._record(state, row, data[at : at + self._length(state, row)])
                for row, at in zip(rows, places, strict=True)
            ]

        return self._retries.call(self._store.at(shard.name), read)

    def _read(self, shard: manifest_format.Shard, start: int, stop: int) -> bytes:
        """A range of a shard. The manifest says that it is there, so anything else is damage."""
        self._check_open()
        if start == stop:
            return b""
        try:
            data = self._store.get(shard.name, start, stop).data
        except errors.BankNotFoundError:
            where = f"{self.location}, shard {shard.name}"
            raise errors.CorruptError(f"{where}: expected what the manifest lists, found nothing") from None
        if len(data) == shard.size and stop - start < shard.size:  # a store without ranges
            data = data[start:stop]
        if len(data) != stop - start:
            raise TransientError(f"{len(data)} bytes instead of {stop - start}")
        return data

    def _record(self, state: _State, row: int, blobs: bytes) -> Record:
        return replace(state.manifest.entry(row, 0).record(blobs), limit=self.limit, backbone=self.backbone)

    def _length(self, state: _State, row: int) -> int:
        columns = state.manifest.columns
        return int(columns["extras"][row]) + int(columns["data"][row])

    def _check_file(self) -> None:
        for shard in self._state.manifest.shards:
            where = self._store.at(shard.name)

            def check(shard: manifest_format.Shard = shard, where: str = where) -> None:
                footer = shard_format.decode_footer(self._read(shard, shard.size - FOOTER_BYTES, shard.size), where)
                index = self._read(shard, footer.index_start, footer.index_stop)
                if footer.file_size != shard.size or footer.index_digest != shard.digest:
                    raise errors.CorruptError(f"{where}: expected the shard of the manifest, found another")
                if len(shard_format.decode_index(index, footer, where).entries) != shard.masks:
                    raise errors.CorruptError(f"{where}: expected {shard.masks} masks, found another number")
                if self._read(shard, 0, len(MAGIC)) != MAGIC:
                    raise errors.CorruptError(f"{where}: expected to start with {MAGIC!r}, found other bytes")

            self._retries.call(where, check)

    def _find(self, name: str) -> tuple[_State, int]:
        self._check_open()
        state = self._state
        row = state.rows.get(name) if isinstance(name, str) else None
        if row is None:
            found = f"expected one of {len(self)} tasks in {self.location}{nearest(str(name), self)}"
            raise errors.TaskNotFoundError(f"task {name!r:.80}: {found}")
        return state, row

    def _check_open(self) -> None:
        if self._closed:
            raise errors.BankClosedError(f"{self.location}: expected an open shard set, found it closed")

    def __repr__(self) -> str:
        return f"ShardSet({self.location!r}, {len(self)} masks x {self.spec.bits} bits, {self.shards} shards)"


def _key(state: _State, row: int) -> str:
    """A record's name in the cache: the content of its shard and its place there."""
    shard = state.manifest.shards[state.shard_of[row]]
    return f"{shard.digest.hex()}-{state.starts[row]}"


def _reopened(
    location: str,
    options: dict[str, Any] | None,
    engine: str,
    limit: int | None,
    cache: Path | None,
    cache_bytes: int,
    retries: Retries,
    backbone: Backbone | None,
    own: bytes,
) -> ShardSet:
    result = ShardSet(location, options=options, engine=engine, limit=limit, cache=cache, cache_bytes=cache_bytes,
                      retries=retries, backbone=backbone)  # fmt: skip
    if result._state.manifest.own != own:
        raise errors.CorruptError(f"{location}: expected the manifest that was open when the set was copied, found "
                                  "another")  # fmt: skip
    return result
