"""What `put` is given may fail while it is read: the caller's error comes as it is, and the bank stays as it was."""

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec, SignedMask
from maskstore.errors import BankBusyError, MaskValueError, SpecError

LARGE = MaskSpec({"a": (2100, 2001), "b": (7,)})  # large enough to be coded as it is written
SMALL = MaskSpec({"a": (30, 40), "b": (7,)})


@pytest.fixture(params=[LARGE, SMALL], ids=["large", "small"])
def bank(request, tmp_path):
    with MaskBank.create(tmp_path / "tasks.bank", request.param) as bank:
        bank.put("old", {layer.name: np.ones(layer.shape, dtype=bool) for layer in bank.spec})
        yield bank


def layers(bank):
    return {layer.name: np.zeros(layer.shape, dtype=bool) for layer in bank.spec}


class Rows:
    """An array that is read when it is sliced."""

    def __init__(self, array, change):
        self.shape, self.array, self.change = array.shape, array, change

    def __getitem__(self, where):
        return self.change(self.array[where])

    def __array__(self, dtype=None, copy=None):
        return self.change(self.array)


def failing(error):
    def change(rows):
        raise error

    return change


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file", "b.npy"),
        OSError("the disk is gone"),
        PermissionError(13, "no"),
        KeyError("b"),
    ],
)
def test_an_error_of_the_callers_own_comes_as_it_is(bank, error):
    def one_by_one():
        yield "a", layers(bank)["a"]
        raise error

    with pytest.raises(type(error)) as found:
        bank.put("new", one_by_one())
    assert found.value is error
    assert list(bank) == ["old"]
    assert bank.verify() == 1


def test_an_error_of_an_array_that_is_read_in_parts_comes_as_it_is(tmp_path):
    error = OSError("the server is gone")
    with MaskBank.create(tmp_path / "tasks.bank", LARGE) as bank:
        with pytest.raises(OSError, match="the server is gone") as found:
            bank.put("new", layers(bank) | {"a": Rows(layers(bank)["a"], failing(error))})
        assert found.value is error
        assert len(bank) == 0


@pytest.mark.parametrize("change", [lambda rows: rows[:1], lambda rows: np.concatenate([rows, rows])])
def test_an_array_with_other_rows_than_its_shape_says_is_refused(bank, change):
    with pytest.raises(SpecError, match=r"layer 'a': expected .*shape"):
        bank.put("new", layers(bank) | {"a": Rows(layers(bank)["a"], change)})
    assert bank.verify() == 1


def test_the_bank_is_not_changed_while_a_mask_is_written(tmp_path):
    with MaskBank.create(tmp_path / "tasks.bank", LARGE) as bank:
        bank.put("old", layers(bank))

        def meddling():
            yield "a", layers(bank)["a"]
            bank.put("other", layers(bank))
            yield "b", layers(bank)["b"]

        with pytest.raises(BankBusyError, match="one change at a time"):
            bank.put("new", meddling())
        bank.put("later", layers(bank))
        assert list(bank) == ["old", "later"]
        assert bank.verify() == 2


def test_a_signed_mask_is_told_how_it_is_stored(bank):
    signed = SignedMask.from_dense({name: array.astype(np.int8) for name, array in layers(bank).items()})
    with pytest.raises(SpecError, match=r"found a SignedMask \(`put_signed` stores one\)"):
        bank.put("new", signed)


@pytest.mark.parametrize("rows", [slice("a"), slice(1.5), slice(None, None, 0), 3, range(2)])
def test_rows_are_a_slice_of_whole_numbers(bank, rows):
    with pytest.raises(SpecError, match="rows: expected a slice such as"):
        bank.layer("old", "a", rows=rows)


def test_signs_of_another_mask_are_refused(bank):
    rng = np.random.default_rng(0)
    drawn = {layer.name: rng.integers(-1, 2, layer.shape) for layer in bank.spec}
    signed = SignedMask.from_dense(drawn, scales=dict.fromkeys(drawn, 0.5))
    bank.put_signed("signed", signed)
    extras = bank.extras("signed")
    with pytest.raises(MaskValueError, match="expected the signs of this mask"):
        bank.put("new", ~signed.mask, extras=extras)
    with pytest.raises(MaskValueError, match="expected the signs of this mask"):
        bank.put("new", signed.mask, extras=extras | {"signed:scales": np.ones(5, dtype=np.float32)})
    bank.put("copy", signed.mask, extras=extras)
    assert bank.signed("copy") == signed
    assert bank.verify() == 3
