"""Shard sets written: shards first, then the manifest in one step, so that a reader sees all of a change or nothing."""

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from maskstore import errors
from maskstore.bank import MaskSource, Record, check_source, standalone
from maskstore.files import encode_meta, named_os_errors, text_of
from maskstore.interop.shards import format as shard_format
from maskstore.interop.shards import manifest as manifest_format
from maskstore.interop.shards.engines import open_store
from maskstore.interop.shards.format import FOOTER_BYTES, Entry
from maskstore.interop.shards.manifest import Manifest, Shard
from maskstore.interop.shards.retries import Retries
from maskstore.interop.shards.shard_file import write_file
from maskstore.interop.shards.shard_set import read_manifest
from maskstore.interop.shards.stores import Store, TransientError

MAX_SHARDS = 1_000_000
_UPLOADS = 4
_ONCE = Retries()


class Written(NamedTuple):
    """What `write_shards` stored.

    Attributes:
        masks: New masks.
        shards: New shards.
        bytes: The size of these shards.
        generation: The set's generation after it.
    """

    masks: int
    shards: int
    bytes: int
    generation: int


def write_shards(
    source: MaskSource,
    location: str | os.PathLike[str],
    *,
    shards: int = 1,
    append: bool = False,
    overwrite: bool = False,
    options: dict[str, Any] | None = None,
    engine: str = "auto",
    retries: Retries = _ONCE,
) -> Written:
    """Write the masks of a bank to a shard set: a folder, or a prefix in an object store.

    The shards are stored first. Then the manifest is replaced in one step, and only if it is still the one that was
    there in the beginning. So readers see all of the change or nothing, and of two writers at once one is told. The
    shards that a writer left who was told, or interrupted, belong to no set and may be deleted.

    Args:
        source: An open bank, shard or shard set.
        location: A path, or a URL prefix such as `s3://bucket/tasks`.
        shards: Into how many shards the masks are cut.
        append: Add the masks that are not there to a set that is there. A mask that is there must be the same. The
            set's metadata stays.
        overwrite: Replace a set that is there; its old shards stay in the store for those who read them.
        options: Options of the client, as in `ShardSet`.
        engine: The client, as in `ShardSet`.
        retries: How often a request is repeated.

    Returns:
        How much was written.

    Raises:
        BankExistsError: There is a set, and neither `append` nor `overwrite` is set.
        TaskExistsError: With `append`, the set has another mask of the same name.
        SpecError: With `append`, the set has other layers.
        WriteConflictError: Another writer changed the set meanwhile.
        BankReadOnlyError: The store takes no objects, such as plain HTTP.
        BankIOError: The store failed, or cannot replace a manifest on condition.
        StoreOptionError: An option is out of range.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec
        >>> from maskstore.interop import ShardSet, write_shards
        >>> masks = {"fc1": np.arange(800).reshape(20, 40) % 10 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec.of(masks)) as bank:
        ...         bank.put("task-0", masks)
        ...         generation = write_shards(bank, f"{folder}/tasks").generation
        ...         with ShardSet(f"{folder}/tasks") as tasks:
        ...             bank.put("task-1", masks)
        ...             print(generation, write_shards(bank, f"{folder}/tasks", append=True).masks, list(tasks))
        ...             print(tasks.refresh(), list(tasks))
        1 1 ['task-0']
        True ['task-0', 'task-1']
    """
    check_source(source)
    if not isinstance(shards, int) or not 1 <= shards <= MAX_SHARDS:
        raise errors.StoreOptionError(f"shards: expected 1 to {MAX_SHARDS}, found {shards!r:.40}")
    if append and overwrite:
        raise errors.StoreOptionError("expected `append=True` or `overwrite=True`, found both")
    store = open_store(text_of(location), options, engine)
    before, version = _before(store, retries, source.limit)
    if before is not None and not (append or overwrite):
        raise errors.BankExistsError(
            f"{store.where}: expected no shard set there, found one (`append=True` adds to it, `overwrite=True` "
            "replaces it)"
        )
    kept = before if append else None
    if kept is not None and kept.spec != source.spec:
        raise errors.SpecError(f"{store.where}: expected masks of its layers {kept.spec!r}, found {source.spec!r}")
    known = _checksums(kept)
    count = sum(1 for name in source if name not in known)
    new = _new_records(source, known, store)
    meta = encode_meta(source.meta if kept is None else kept.meta)
    written = _upload(store, new, -(-count // shards) or 1, source, meta, retries)
    if kept is not None and not written:
        return Written(0, 0, 0, kept.generation)
    generation = 1 if before is None else before.generation + 1
    manifest = manifest_format.gather(
        generation, source.spec, source.meta if kept is None else kept.meta, written, kept
    )
    _swap(store, manifest_format.encode_manifest(manifest, meta), version, retries)
    return Written(
        sum(shard.masks for shard, _ in written), len(written), sum(shard.size for shard, _ in written), generation
    )


def _before(store: Store, retries: Retries, limit: int | None) -> tuple[Manifest | None, Any]:
    try:
        return read_manifest(store, retries, limit)
    except errors.BankNotFoundError:
        return None, None


def _checksums(manifest: Manifest | None) -> dict[str, bytes]:
    """The checksum of each mask that is there."""
    if manifest is None:
        return {}
    return dict(zip(manifest.names, map(bytes, manifest.columns["checksum"]), strict=True))


def _new_records(source: MaskSource, known: dict[str, bytes], store: Store) -> Iterator[Record]:
    """The records that a set lacks; TaskExistsError for one that it has with other content."""
    for record in source.records():
        there = known.get(record.name)
        if there is None:
            yield record
        elif standalone(record, source.spec).checksum != there:
            raise errors.TaskExistsError(
                f"task {record.name!r:.80}: expected a new name or the mask that {store.where} has, found another mask"
            )


def _upload(
    store: Store, records: Iterator[Record], masks: int, source: MaskSource, meta: str, retries: Retries
) -> list[tuple[Shard, list[Entry]]]:
    """Store shards of so many masks each: written here, and sent a few at a time."""
    written: list[tuple[Shard, list[Entry]]] = []
    pending: list[Future[None]] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(_UPLOADS) as pool:
        while chunk := list(islice(records, 1)):
            scratch = Path(folder) / f"{len(written)}.shard"
            with named_os_errors(scratch):
                entries = write_file(_chained(chunk[0], islice(records, masks - 1)), source.spec, meta, scratch)
            shard = Shard(_digest_of(scratch), scratch.stat().st_size, len(entries))
            written.append((shard, entries))
            pending.append(pool.submit(_put, store, shard, scratch, retries))
            if len(pending) >= 2 * _UPLOADS:
                pending.pop(0).result()
        for future in pending:
            future.result()
    return written


def _chained(first: Record, rest: Iterator[Record]) -> Iterator[Record]:
    yield first
    yield from rest


def _put(store: Store, shard: Shard, path: Path, retries: Retries) -> None:
    retries.call(store.at(shard.name), lambda: store.put(shard.name, path))
    path.unlink()


def _digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-FOOTER_BYTES, os.SEEK_END)
        return shard_format.decode_footer(file.read(), str(path)).index_digest


def _swap(store: Store, data: bytes, version: Any, retries: Retries) -> None:
    """Replace the manifest. A request without an answer may have been heard, so the manifest is read before another."""
    name = manifest_format.NAME
    unknown = False
    for wait in [*retries.waits(), None]:
        try:
            return store.swap(name, data, version)
        except errors.WriteConflictError:
            if unknown and _is_there(store, data, retries):
                return None
            raise
        except TransientError as fault:
            unknown = True
            if wait is None:
                if _is_there(store, data, retries):
                    return None
                raise errors.BankIOError(
                    f"{store.at(name)}: expected an answer in {retries.attempts} attempts, found: {fault}"
                ) from fault
            time.sleep(wait)
    return None


def _is_there(store: Store, data: bytes, retries: Retries) -> bool:
    """Whether the manifest in the store is this one."""
    before, _ = _before(store, retries, None)
    return before is not None and before.own == manifest_format.decode_header(data, "manifest", None).own
