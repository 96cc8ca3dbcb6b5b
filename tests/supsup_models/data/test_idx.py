"""The IDX reader: reads what was written, plain or gzipped, and refuses everything else with a named error."""

import gzip
import hashlib
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from supsup_models.data.sets.idx import read_idx
from supsup_models.errors import DataFormatError, DataNotFoundError, SupSupError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(values: np.ndarray) -> bytes:
    header = bytes([0, 0, CODES[values.dtype.str[1:]], values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


ARRAYS = st.sampled_from(list(CODES)).flatmap(
    lambda code: hnp.arrays(np.dtype(code), hnp.array_shapes(max_dims=3, min_side=0, max_side=6))
)


@given(values=ARRAYS, zipped=st.booleans())
def test_reads_what_was_written(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, zipped: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "values.idx"
    body = idx_bytes(values)
    path.write_bytes(gzip.compress(body) if zipped else body)
    content = read_idx(path)
    assert content.values.dtype == values.dtype
    assert content.values.dtype.isnative
    assert content.values.flags.writeable
    np.testing.assert_array_equal(content.values, values)
    assert content.sha256 == hashlib.sha256(body).hexdigest()


GOOD = idx_bytes(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))


@given(damage=st.data(), zipped=st.booleans())
def test_any_cut_is_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, damage: st.DataObject, zipped: bool
) -> None:
    body = gzip.compress(GOOD) if zipped else GOOD
    path = tmp_path_factory.getbasetemp() / "cut.idx"
    path.write_bytes(body[: damage.draw(st.integers(0, len(body) - 1))])
    with pytest.raises(DataFormatError) as caught:
        read_idx(path)
    assert "\n" not in str(caught.value)


@given(body=st.binary(max_size=80) | st.binary(max_size=40).map(lambda tail: b"\0\0\x08\x03" + tail))
def test_any_bytes_are_read_or_refused_by_name(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.idx"
    for content in (body, gzip.compress(body), b"\x1f\x8b" + body):
        path.write_bytes(content)
        with suppress(SupSupError):  # any other error fails the test
            read_idx(path)


@given(position=st.integers(0, 200), value=st.integers(1, 255))
def test_a_damaged_gzip_is_never_read_wrong(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    body = bytearray(gzip.compress(GOOD))
    body[position % len(body)] ^= value
    path = tmp_path_factory.getbasetemp() / "damaged.idx.gz"
    path.write_bytes(body)
    try:
        content = read_idx(path)
    except DataFormatError:
        return
    assert content.sha256 == hashlib.sha256(GOOD).hexdigest()  # only gzip's own metadata was hit


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "found an empty file"),
        (b"PK\x03\x04 and more", "found the bytes 50 4b 03 04"),
        (b"\0\0\x07\x01\0\0\0\0", "expected an IDX file"),
        (b"\0\0\x08\x00", "expected an IDX file"),
        (b"\0\0\x08\x09", "1 to 8 dimensions"),
        (b"\0\0\x08\x03\0\0\0\1", "expected 3 sizes of 4 bytes, found 4 bytes"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "expected at most 268435456 bytes"),
        (b"\0\0\x0e\x08" + b"\xff" * 32, "expected at most 268435456 bytes"),
        (GOOD[:-7], r"expected 3 x 4 x 5 values of 1 bytes \(60 bytes\), found 53 bytes"),
        (GOOD + b"x", r"expected 3 x 4 x 5 values of 1 bytes \(60 bytes\), found (61 bytes|more)"),
    ],
)
def test_messages_say_what_was_expected_and_found(tmp_path: Path, body: bytes, message: str, zipped: bool) -> None:
    path = tmp_path / "bad.idx"
    path.write_bytes(gzip.compress(body) if zipped else body)
    with pytest.raises(DataFormatError, match=message):
        read_idx(path)


def test_a_gzip_bomb_is_stopped_at_what_its_header_declares(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x05" + bytes(1 << 24)))
    with pytest.raises(DataFormatError, match=r"\(5 bytes\), found more"):
        read_idx(path)
    with pytest.raises(DataFormatError, match="expected at most 4 bytes"):
        read_idx(path, max_bytes=4)


def test_a_cut_gzip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(GOOD)[:-9])
    with pytest.raises(DataFormatError, match="found one that is cut short"):
        read_idx(path)


def test_what_cannot_be_opened_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(DataNotFoundError, match="cannot be read") as caught:
            read_idx(path)
        assert isinstance(caught.value, FileNotFoundError)
