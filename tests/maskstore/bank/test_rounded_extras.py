"""Extra arrays with a bounded error."""

import json
import struct

import numpy as np
import pytest
import zstandard

from maskstore import MaskBank, MaskSpec, Rounded
from maskstore.bank import decode_extras, encode_extras
from maskstore.errors import CorruptError, LimitError, MaskValueError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("error", [1e-4, 1e-2, 0.3])
@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (40, 30)])
def test_no_value_changes_by_more_than_the_error(tmp_path, shape, error):
    values = RNG.normal(size=shape).astype("f4")
    with MaskBank.create(tmp_path / "a.bank", MaskSpec({"fc": (2, 2)})) as bank:
        bank.put("task", {"fc": np.eye(2)}, extras={"a": Rounded(values, error), "b": values})
        found = bank.extras("task")
    assert found["a"].dtype == np.float32
    assert found["a"].shape == shape
    assert np.abs(found["a"] - values).max(initial=0.0) <= error * (1 + 1e-6)
    assert (found["a"] == Rounded(values, error).values).all()
    assert (found["b"] == values).all()


def test_rounding_saves_bytes():
    values = RNG.normal(size=10000).astype("f4")
    assert len(encode_extras({"a": Rounded(values, 0.1)})) < 0.2 * len(encode_extras({"a": values}))


def test_integers_are_as_small_as_they_can_be():
    assert [Rounded(np.array([n]), 0.5).integers.dtype.str[1:] for n in (127, 128, 1 << 20)] == ["i1", "i2", "i4"]


@pytest.mark.parametrize(
    ("values", "error"), [([np.nan], 1.0), ([np.inf], 1.0), ([1e30], 1e-3), ([1.0], 0.0), ([1.0], -1.0), (["a"], 1.0)]
)
def test_what_cannot_be_rounded_is_refused(values, error):
    with pytest.raises(MaskValueError, match="rounded array"):
        Rounded(np.array(values), error)


ENTRY = {"dtype": "f4", "shape": [2, 3], "step": 1.0, "integers": "i1"}
INTEGERS = np.arange(6, dtype="i1").tobytes()


def _extras(entry, content):
    text = json.dumps({"a": list(entry.values())}).encode()
    return struct.pack("<I", len(text)) + text + content


def _packed(**changes):
    return b"\xff" * 4 + zstandard.ZstdCompressor().compress(_extras(ENTRY | changes, INTEGERS))


def _framed(**changes):
    """As versions before packed extras wrote them."""
    frame = zstandard.ZstdCompressor().compress(INTEGERS)
    return _extras(ENTRY | {"size": len(frame)} | changes, frame)


def test_packed_extras_are_what_the_format_says():
    data = encode_extras({"a": Rounded(np.arange(6.0).reshape(2, 3), 0.5)})
    plain = zstandard.ZstdDecompressor().decompress(data[4:])
    assert data[:4] == b"\xff" * 4
    assert json.loads(plain[4:-6]) == {"a": list(ENTRY.values())}
    assert (int.from_bytes(plain[:4], "little"), plain[-6:]) == (len(plain) - 10, INTEGERS)


@pytest.mark.parametrize("forge", [_packed, _framed])
def test_both_forms_are_read(forge):
    found = decode_extras(forge(), "task")["a"]
    assert (found == np.arange(6.0).reshape(2, 3)).all()
    assert found.dtype == np.float32


def test_many_small_arrays_take_little_more_than_their_information():
    values = RNG.normal(size=(100, 64)).astype("f4")
    few = len(encode_extras({"all": Rounded(values, 0.1)}))
    many = len(encode_extras({f"layer.{row}.weight": Rounded(each, 0.1) for row, each in enumerate(values)}))
    assert many < 1.25 * few


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: d[:4], lambda d: d[:9] + b"xx" + d[11:]]
)
def test_damaged_frames_are_refused(damage):
    with pytest.raises(CorruptError):
        decode_extras(damage(_packed()), "task")


def test_a_frame_without_its_size_is_refused():
    data = zstandard.ZstdCompressor(write_content_size=False).compress(_extras(ENTRY, INTEGERS))
    with pytest.raises(CorruptError):
        decode_extras(b"\xff" * 4 + data, "task")


def test_a_frame_that_claims_much_memory_is_not_unpacked():
    content = zstandard.ZstdCompressor().compress(bytes(1 << 30))
    with pytest.raises(LimitError, match="'task'"):
        decode_extras(b"\xff" * 4 + content, "task")


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2, 4]},
        {"shape": [2, -3]},
        {"dtype": "f8"},
        {"step": 0.0},
        {"step": float("nan")},
        {"step": 1},
        {"integers": "i8"},
        {"integers": "i2"},
        {"integers": "i4"},
        {"shape": "ab"},
    ],
)
@pytest.mark.parametrize("forge", [_packed, _framed])
def test_entries_that_do_not_fit_are_refused(forge, changes):
    with pytest.raises(CorruptError):
        decode_extras(forge(**changes), "task")


def test_a_frame_of_another_length_is_refused():
    with pytest.raises(CorruptError):
        decode_extras(_framed(size=3), "task")


def test_a_few_bytes_cannot_claim_much_memory():
    with pytest.raises(LimitError, match="'task'"):
        decode_extras(_framed(shape=[1 << 40]), "task")
    for forge in (_framed, _packed):
        with pytest.raises(LimitError):
            decode_extras(forge(), "task", limit=23)
    assert decode_extras(_framed(), "task", limit=24)["a"].shape == (2, 3)
    assert decode_extras(_packed(), "task", limit=200)["a"].shape == (2, 3)
