"""Mutated shards: only `MaskStoreError`, never a crash, a hang, an unbounded allocation or silently wrong bits."""

import dataclasses
import struct
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstore import Mask
from maskstore.bank.coding import checksum_of
from maskstore.errors import MaskStoreError
from maskstore.interop import ShardReader, write_shard
from maskstore.interop.shards import format as shard_format
from tests.helpers.foreign_files import example_bank

LIMIT_BYTES = 32 << 20


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz-shards")
    with example_bank(folder / "a.bank", tasks=4) as bank:
        write_shard(bank, folder / "a.shard")
        masks = dict(bank.masks())
        for mask in masks.values():
            mask.flat()  # compiles the kernels, so that allocations below are the reader's
    return folder / "a.shard", (folder / "a.shard").read_bytes(), masks


@st.composite
def _mutations(draw, size: int):
    """Edits as (kind, place, bytes)."""
    kind = st.sampled_from(["set", "set", "insert", "delete", "cut", "repeat"])
    return draw(
        st.lists(st.tuples(kind, st.integers(0, size), st.binary(min_size=1, max_size=9)), min_size=1, max_size=4)
    )


def _mutate(data: bytes, edits) -> bytes:
    for kind, at, piece in edits:
        at = min(at, len(data))
        match kind:
            case "set":
                data = data[:at] + piece + data[at + len(piece) :]
            case "insert":
                data = data[:at] + piece + data[at:]
            case "delete":
                data = data[:at] + data[at + len(piece) :]
            case "cut":
                data = data[:at]
            case "repeat":
                data = data[:at] + data[max(0, at - 50) : at] + data[at:]
    return data


def _read(path, data: bytes) -> dict[str, Mask] | None:
    """All masks through every way of reading; None if the file was refused."""
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with ShardReader(path) as reader:
            reader.infos()
            for name in reader:
                reader.extras(name)
            found = {name: reader[name] for name in reader}
            assert reader.matrix().names == tuple(found)
            reader.verify()
            return found
    except MaskStoreError as error:
        assert "\n" not in str(error)  # noqa: PT017 -- a mutation may be harmless
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < LIMIT_BYTES


@settings(max_examples=300)
@given(data=st.data())
def test_mutated_files_are_refused(good, data):
    path, content, _ = good
    mutated = _mutate(content, data.draw(_mutations(len(content))))
    assert mutated == content or _read(path.with_suffix(".fuzz"), mutated) is None


@settings(max_examples=200)
@given(data=st.data())
def test_mutated_indexes_under_right_checksums_never_give_other_bits_under_a_name(good, data):
    """Index and footer are made to fit again; what is left to stop wrong bits are the rows' own checksums."""
    path, content, masks = good
    footer = shard_format.decode_footer(content, "good")
    plain = zstandard.ZstdDecompressor().decompress(content[footer.index_start : footer.index_stop])
    plain = _mutate(plain, data.draw(_mutations(len(plain))))
    stored = zstandard.ZstdCompressor().compress(plain)
    size = footer.index_start + len(stored) + shard_format.FOOTER_BYTES
    numbers = (1, 1, size, footer.index_start, len(stored), len(plain))
    end = struct.pack("<8sII4Q16s", b"MSKSHARD", *numbers, shard_format.digest(stored))
    found = _read(path.with_suffix(".fuzz"), content[: footer.index_start] + stored + end + shard_format.digest(end))
    for name, mask in (found or {}).items():
        if mask.spec == masks["task-0"].spec:
            assert np.array_equal(mask.words, masks[name].words)


@settings(max_examples=150)
@given(data=st.data())
def test_rows_forged_with_their_checksums_decode_or_are_refused(good, data):
    """Everything is made to fit, so any bits may come out; but only bits, or one of our errors."""
    path, content, masks = good
    path.with_suffix(".fuzz").write_bytes(content)
    with ShardReader(path.with_suffix(".fuzz")) as reader:
        rows, spec = list(reader.records()), reader.spec
    at, column = data.draw(st.integers(0, 3)), data.draw(st.sampled_from(["data", "extras", "codec", "prior", "meta"]))
    value = getattr(rows[at], column)
    raw = value.encode() if isinstance(value, str) else value
    raw = _mutate(raw, data.draw(_mutations(len(raw))))
    row = dataclasses.replace(rows[at], **{column: raw.decode(errors="replace") if isinstance(value, str) else raw})
    forged = [*rows[:at], dataclasses.replace(row, checksum=checksum_of(row)), *rows[at + 1 :]]
    body = shard_format.MAGIC + b"".join(row.extras + row.data for row in forged)
    end = shard_format.encode_end(spec, "{}", [shard_format.encode_row(row) for row in forged], len(body))
    found = _read(path.with_suffix(".fuzz"), body + end)
    for name, mask in (found or {}).items():
        assert mask.spec == spec
        assert name == rows[at].name or mask == masks[name]
