"""Numcodecs' kind of checks, on buffers of 0 and 1."""

import array
import json
import tomllib
import zlib
from importlib.metadata import EntryPoint
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numcodecs.registry import get_codec, register_codec

from maskstore.errors import (
    ArgumentTypeError,
    CodecError,
    CorruptError,
    MaskStoreError,
    MaskValueError,
    UnknownCodecError,
)
from maskstore.interop.numcodecs import _HEAD, MaskstoreCodec

register_codec(MaskstoreCodec)  # what the entry point does where the package is installed
CODECS = [MaskstoreCodec(), *(MaskstoreCodec(codec=codec) for codec in ("raw", "zstd", "ans", "gap", "mix", "max"))]
_rng = np.random.default_rng(0)
ARRAYS = [
    *(_rng.random(n) < 0.5 for n in range(18)),
    np.zeros(1000, dtype=bool),
    np.ones(1000, dtype=np.uint8),
    _rng.random((37, 21)) < 0.1,
    np.asfortranarray(_rng.random((37, 21)) < 0.1),
    (_rng.random((5, 6, 7)) < 0.9).astype(np.int8),
    (_rng.random(50) < 0.5).astype("<i4"),
    (_rng.random(50) < 0.5).astype(">u8"),
    np.array(True),
    np.zeros((0, 3), dtype=bool),
    np.zeros(4, dtype="M8[s]"),
]


def _compare(expected: np.ndarray, found: object) -> None:
    values = np.frombuffer(found, dtype=np.uint8).view(expected.dtype)
    order = "F" if expected.flags.f_contiguous else "C"
    assert np.array_equal(values.reshape(expected.shape, order=order), expected)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("values", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_buffers_of_any_kind_round_trip(codec, values):
    data = values.tobytes(order="A")
    encodings = [codec.encode(buffer) for buffer in (values, data, bytearray(data), array.array("b", data))]
    assert all(encoding == encodings[0] for encoding in encodings)
    encoded = encodings[0]
    for buffer in (encoded, bytearray(encoded), array.array("b", encoded), np.frombuffer(encoded, dtype="u1")):
        _compare(values, codec.decode(buffer))
    out = np.empty_like(values)
    codec.decode(encoded, out=out)
    _compare(values, out.tobytes(order="A"))
    raw = bytearray(values.nbytes)
    codec.decode(encoded, out=raw)
    _compare(values, raw)


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20)), st.sampled_from(CODECS))
def test_any_array_round_trips(values, codec):
    _compare(values, codec.decode(codec.encode(values)))


def test_what_is_not_contiguous_is_taken_in_c_order():
    values = _rng.random((40, 30)) < 0.3
    codec = MaskstoreCodec()
    assert codec.encode(values[::2, 1::3]) == codec.encode(np.ascontiguousarray(values[::2, 1::3]))


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_configuration_and_repr(codec):
    config = json.loads(json.dumps(codec.get_config()))
    assert config["id"] == "maskstore"
    assert get_codec(config) == codec
    assert MaskstoreCodec.from_config(config) == codec
    assert eval(repr(codec)) == codec


def test_a_setting_that_there_is_not_is_named() -> None:
    for config in ({"level": 3}, {"id": "maskstore", "codec": "raw", "Limit": 1}):
        with pytest.raises(
            CodecError, match=r"codec maskstore: expected the settings codec and limit, found '(level|L)"
        ):
            MaskstoreCodec.from_config(config)
    for limit in ("x", [], True):
        with pytest.raises(ArgumentTypeError, match="limit: expected a number of bytes"):
            MaskstoreCodec(limit=limit)  # type: ignore[arg-type]


def test_the_entry_point_leads_here():
    project = tomllib.loads(Path(__file__).parents[3].joinpath("pyproject.toml").read_text(encoding="utf-8"))
    value = project["project"]["entry-points"]["numcodecs.codecs"]["maskstore"]
    assert EntryPoint("maskstore", value, "numcodecs.codecs").load() is MaskstoreCodec


def test_bad_arguments_are_named():
    with pytest.raises(UnknownCodecError, match="magic"):
        MaskstoreCodec(codec="magic")
    codec = MaskstoreCodec()
    for values in (np.array([0, 2], dtype=np.uint8), np.array([258]), np.array([0.5])):
        with pytest.raises(MaskValueError, match="bytes 0 and 1"):
            codec.encode(values)
    with pytest.raises(MaskStoreError, match="objects"):
        codec.encode(np.array([None]))
    encoded = codec.encode(np.ones(9, dtype=bool))
    for out in (np.empty(8, dtype=bool), np.empty(10, dtype=bool)):
        with pytest.raises(CorruptError, match="out"):
            codec.decode(encoded, out=out)


@given(values=st.sampled_from(ARRAYS[:18] + ARRAYS[20:21]), codec=st.sampled_from(CODECS), data=st.data())
def test_damaged_chunks_are_refused_or_right(values, codec, data):
    encoded = bytearray(codec.encode(values))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.sampled_from([len(encoded), at, 0]))
    try:
        found = codec.decode(bytes(encoded[:cut]))
    except CorruptError:
        return
    _compare(values, found)  # such as another level in the description of zstd, which decoding does not read


def test_forged_lengths_are_checked_before_they_are_used():
    config = b'{"id":"raw"}'
    for head in (
        _HEAD.pack(1, len(config), 0, 1 << 62, 0),
        _HEAD.pack(1, len(config), 0, 1 << 33, 0),
        _HEAD.pack(1, len(config), 1 << 31, 8, 0),
        _HEAD.pack(1, 255, 0, 8, 0),
        _HEAD.pack(9, len(config), 0, 8, 0),
    ):
        with pytest.raises(CorruptError):
            MaskstoreCodec().decode(head + config + b"\0")
    for config in (b'{"id":"auto"}', b"{", b'{"id":"magic"}', b'{"id":"raw","x":1}'):
        data = _HEAD.pack(1, len(config), 0, 8, zlib.crc32(b"")) + config + b"\0"
        with pytest.raises(CorruptError):
            MaskstoreCodec().decode(data)


def test_zarr_arrays_of_bool(tmp_path):
    values = _rng.random((300, 200)) < 0.02
    stored = zarr.create_array(
        tmp_path / "masks.zarr", shape=values.shape, chunks=(100, 200), dtype=bool, compressors=MaskstoreCodec(),
        zarr_format=2, fill_value=False,
    )  # fmt: skip
    stored[:] = values
    again = zarr.open_array(tmp_path / "masks.zarr", mode="r")
    assert np.array_equal(again[:], values)
    assert again.metadata.compressor == MaskstoreCodec()
    size = sum(path.stat().st_size for path in (tmp_path / "masks.zarr").iterdir() if path.name[0].isdigit())
    plain = len(numcodecs.Blosc().encode(values))
    entropy = values.size * 0.1414 / 8  # bytes, at a density of 0.02
    assert size < 1.06 * entropy + 3 * 64
    assert size < plain
