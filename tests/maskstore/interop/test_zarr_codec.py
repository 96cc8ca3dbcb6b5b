"""The Zarr 3 codec in real arrays: in memory, on the disk, with damaged chunks."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.registry import register_codec

from maskstore.errors import CodecError, CorruptError, MaskValueError, UnknownCodecError
from maskstore.interop.numcodecs import MaskstoreCodec
from maskstore.interop.zarr import MaskstoreZarrCodec

ROOT = Path(__file__).parents[3]
MASKS = np.random.default_rng(0).random((5, 40, 60)) < 0.05


@pytest.fixture(autouse=True)
def registered() -> None:
    """As the entry point does in an environment into which the package was installed."""
    register_codec("maskstore", MaskstoreZarrCodec)


def create(store, masks=MASKS, **settings):
    how = {"chunks": (2, 40, 60), "dtype": masks.dtype, "compressors": None, "zarr_format": 3}
    array = zarr.create_array(store, shape=masks.shape, serializer=MaskstoreZarrCodec(**settings), **how)
    array[:] = masks
    return array


def test_the_entry_point_names_the_codec():
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["zarr.codecs"]
    assert points == {"maskstore": f"{MaskstoreZarrCodec.__module__}:{MaskstoreZarrCodec.__qualname__}"}


@pytest.mark.parametrize("codec", ["auto", "ans", "max"])
def test_an_array_comes_back_from_the_disk(tmp_path, codec):
    create(tmp_path / "masks.zarr", codec=codec)
    found = zarr.open_array(tmp_path / "masks.zarr", mode="r")
    assert np.array_equal(found[:], MASKS)
    assert np.array_equal(found[3, 5:9, ::7], MASKS[3, 5:9, ::7])
    told = json.loads((tmp_path / "masks.zarr" / "zarr.json").read_text())["codecs"]
    assert told == [{"name": "maskstore", "configuration": {"codec": codec}}]
    assert found.nbytes_stored() < MASKS.size / 8


def test_a_chunk_has_the_bytes_of_the_numcodecs_codec(tmp_path):
    create(tmp_path / "m.zarr")
    chunk = (tmp_path / "m.zarr" / "c" / "0" / "0" / "0").read_bytes()
    assert chunk == MaskstoreCodec().encode(np.ascontiguousarray(MASKS[:2]))


def test_fortran_order_parts_and_shards(tmp_path):
    masks = np.asfortranarray(MASKS)
    assert np.array_equal(create({}, masks)[:], MASKS)
    array = zarr.create_array(
        tmp_path / "s.zarr", shape=(4, 8, 8), shards=(2, 8, 8), chunks=(1, 8, 8), dtype=bool, compressors=None,
        serializer=MaskstoreZarrCodec(), zarr_format=3,
    )  # fmt: skip
    array[1:3] = MASKS[:2, :8, :8]
    found = zarr.open_array(tmp_path / "s.zarr", mode="r")[:]
    assert np.array_equal(found[1:3], MASKS[:2, :8, :8])
    assert not found[[0, 3]].any()


def test_numbers_are_refused():
    with pytest.raises(MaskValueError, match="expected an array of bool, found float32"):
        create({}, np.zeros((5, 40, 60), dtype=np.float32))


def test_wrong_settings_are_named():
    with pytest.raises(UnknownCodecError):
        MaskstoreZarrCodec("zip")
    with pytest.raises(CodecError, match="found 'level'"):
        MaskstoreZarrCodec.from_dict({"name": "maskstore", "configuration": {"level": 3}})


def test_a_damaged_chunk_is_an_error_and_one_that_claims_much_takes_no_memory(tmp_path):
    create(tmp_path / "m.zarr")
    chunk = tmp_path / "m.zarr" / "c" / "0" / "0" / "0"
    good = chunk.read_bytes()
    for bad in (good[:10], good[:-3] + b"abc", MaskstoreCodec("ans").encode(np.zeros(1 << 20, dtype=bool))):
        chunk.write_bytes(bad)
        with pytest.raises(CorruptError):
            zarr.open_array(tmp_path / "m.zarr", mode="r")[:]
