"""The bytes of a manifest: pinned, whole or refused, and no more memory than is said."""

import dataclasses
import hashlib
import json
import struct
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstore import errors, open_source
from maskstore.interop import ShardSet, write_shards
from maskstore.interop.shards import manifest as format
from maskstore.interop.shards import shard_set, stores
from tests.helpers.foreign_files import example_bank

GOLDEN = "74bebe28a6fa3b9b28df514e6ecf1668"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifest")
    with example_bank(folder / "a.bank") as bank:
        write_shards(bank, folder / "tasks", shards=2)
        masks = dict(bank.masks())
        for mask in masks.values():
            mask.flat()
    return folder / "tasks", (folder / "tasks" / "manifest").read_bytes(), masks


def _body(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data[format.HEADER_BYTES :])


def _with(
    body: bytes, *, generation: int = 1, plain: int | None = None, version: int = 1, compression: int = 0
) -> bytes:
    """A manifest whose digests fit a body."""
    size = len(body) if plain is None else plain
    header = struct.pack(
        "<8sIIQQQ16s", b"MSKSHSET", version, compression, generation, len(body), size, format.digest(body)
    )
    return header + format.digest(header) + body


def _open(folder, data: bytes, **options):
    (folder / "manifest").write_bytes(data)
    return ShardSet(folder, **options)


def test_the_bytes_are_pinned(good):
    """All but the digests and sizes of the shards, in which the version of Zstandard shows."""
    with _open(good[0], good[1]) as tasks:
        manifest = tasks._state.manifest
    shards = tuple(format.Shard(bytes([i] * 16), 10_000 + i, shard.masks) for i, shard in enumerate(manifest.shards))
    data = format.encode_manifest(dataclasses.replace(manifest, shards=shards), json.dumps(manifest.meta))
    assert hashlib.blake2b(_body(data), digest_size=16).hexdigest() == GOLDEN
    assert data.startswith(b"MSKSHSET\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00")


def test_a_manifest_that_is_not_compressed(good):
    with _open(good[0], _with(_body(good[1]))) as tasks:
        assert dict(tasks.masks()) == good[2]


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (lambda body: b"", errors.NotABankError),
        (lambda body: b"hello" * 50, errors.NotABankError),
        (lambda body: _with(body)[:-1], errors.CorruptError),
        (lambda body: _with(body)[:71], errors.NotABankError),
        (lambda body: _with(body, version=2), errors.FormatVersionError),
        (lambda body: _with(body, generation=0), errors.CorruptError),
        (lambda body: _with(body, compression=7), errors.CorruptError),
        (lambda body: _with(body, plain=len(body) + 1), errors.CorruptError),
        (lambda body: _with(body, plain=1 << 40, compression=1), errors.CorruptError),
        (lambda body: _with(body, compression=1), errors.CorruptError),
        (lambda body: _with(body + b"x"), errors.CorruptError),
        (lambda body: _with(b""), errors.CorruptError),
        (lambda body: _with(body.replace(b"task-1", b"task-2")), errors.CorruptError),
        (lambda body: _with(body.replace(b"task-1\0", b"task-1-")), errors.CorruptError),
        (lambda body: _with(body.replace(b"task-1", b"\0ask-1")), errors.CorruptError),
        (lambda body: _with(body.replace(b"task-1", b"task-\xff")), errors.CorruptError),
    ],
)
def test_what_does_not_fit_is_refused_by_name(good, made, error):
    with pytest.raises(error) as found:
        _open(good[0], made(_body(good[1])))
    assert "\n" not in str(found.value)


def test_every_changed_number_is_refused_or_harmless(good):
    """Checksums fit, as a forger makes them; masks are then those that were written, or errors."""
    folder, data, masks = good
    body = _body(data)
    for at in range(0, len(body), 3):
        forged = bytearray(body)
        forged[at] ^= 0x81
        try:
            with _open(folder, _with(bytes(forged))) as tasks:
                for name in tasks:
                    if name in masks:
                        assert tasks[name] == masks[name]
        except errors.MaskStoreError as error:
            assert "\n" not in str(error)  # noqa: PT017 -- a change may be harmless


@settings(max_examples=60, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=9)), min_size=1, max_size=3))
def test_damage_is_told_and_costs_little(good, edits):
    folder, data, masks = good
    changed = data
    for at, piece in edits:
        changed = changed[: at % len(data)] + piece + changed[at % len(data) + len(piece) :]
    tracemalloc.start()
    try:
        with _open(folder, changed) as tasks:
            assert dict(tasks.masks()) == masks
    except errors.MaskStoreError:
        assert changed != data
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64 << 20


def test_counts_that_no_body_holds_allocate_nothing(good):
    body = _body(good[1])
    at = body.index(struct.pack("<II", 2, 4))
    forged = body[:at] + struct.pack("<IIQIQ", 2**32 - 1, 2**32 - 1, 2**60, 2**32 - 1, 2**60) + body[at + 28 :]
    tracemalloc.start()
    with pytest.raises(errors.CorruptError):
        _open(good[0], _with(forged))
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_a_bomb_meets_the_limit(good):
    body = zstandard.ZstdCompressor().compress(bytes(100 << 20))
    with pytest.raises(errors.CorruptError):
        _open(good[0], _with(body, plain=100 << 20, compression=1))
    with pytest.raises(errors.LimitError, match="a larger `limit=`"):
        _open(good[0], _with(_body(good[1])), limit=100)
    with pytest.raises(errors.LimitError):
        open_source(good[0], limit=100)


def test_a_large_manifest_takes_two_requests(good, monkeypatch):
    monkeypatch.setattr(shard_set, "FIRST_BYTES", 100)
    asked = []
    get = stores.LocalStore.get
    monkeypatch.setattr(stores.LocalStore, "get", lambda store, *args: asked.append(args) or get(store, *args))
    with _open(good[0], good[1]) as tasks:
        assert [args[1:] for args in asked] == [(0, 100), (100, len(good[1]))]
        assert dict(tasks.masks()) == good[2]
