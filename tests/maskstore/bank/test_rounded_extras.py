"""Extra arrays with a bounded error."""

import json
import struct

import numpy as np
import pytest

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


def _forged(**changes):
    data = encode_extras({"a": Rounded(np.arange(6.0).reshape(2, 3), 0.5)})
    length = int.from_bytes(data[:4], "little")
    entry = dict(
        zip(("dtype", "shape", "step", "integers", "size"), json.loads(data[4 : 4 + length])["a"], strict=True)
    )
    text = json.dumps({"a": list((entry | changes).values())}).encode()
    return struct.pack("<I", len(text)) + text + data[4 + length :]


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
        {"size": 3},
    ],
)
def test_entries_that_do_not_fit_are_refused(changes):
    with pytest.raises(CorruptError):
        decode_extras(_forged(**changes), "task")


def test_a_few_bytes_cannot_claim_much_memory():
    with pytest.raises(LimitError, match="'task'"):
        decode_extras(_forged(shape=[1 << 40]), "task")
    with pytest.raises(LimitError):
        decode_extras(_forged(), "task", limit=23)
    assert decode_extras(_forged(), "task", limit=24)["a"].shape == (2, 3)
