"""Arguments of another type than the one that was meant: each is one line that says which type."""

import numpy as np
import pytest

from maskstore import Mask, MaskBank, MaskSpec, Uniform
from maskstore.errors import (
    CodecError,
    LayerNotFoundError,
    MaskValueError,
    SpecError,
    TaskNotFoundError,
    UnknownCodecError,
)

MASKS = {"fc1": np.eye(4, dtype=bool)}


@pytest.fixture
def bank(tmp_path):
    with MaskBank.create(tmp_path / "tasks.bank", MaskSpec.of(MASKS)) as opened:
        yield opened


@pytest.mark.parametrize("wrong", [None, 1, "x", [1, 2], np.eye(4)])
def test_masks_are_a_dict(bank, wrong):
    for call in (lambda: bank.put("t", wrong), lambda: Mask.from_dense(wrong), lambda: MaskSpec.of(wrong)):
        with pytest.raises(SpecError, match=f"expected .*dict of layer name.*found {type(wrong).__name__}"):
            call()


@pytest.mark.parametrize("wrong", [1, "x", [1]])
def test_metadata_and_extras_are_dicts(bank, wrong):
    for name in ("meta", "extras"):
        with pytest.raises(MaskValueError, match=f"expected a dict.*found {type(wrong).__name__}"):
            bank.put("t", MASKS, **{name: wrong})
    assert len(bank) == 0


@pytest.mark.parametrize("meta", [{1: "a", "1": "b"}, {"a": {None: 1, "null": 2}}, {True: 1, "true": 2}])
def test_keys_that_json_writes_alike_are_refused(bank, meta):
    with pytest.raises(MaskValueError, match="keys that differ as text"):
        bank.put("t", MASKS, meta=meta)


@pytest.mark.parametrize("wrong", [1, "uniform", Uniform, {"id": "uniform"}])
def test_a_prior_is_one(bank, wrong):
    with pytest.raises(CodecError, match="prior: expected one such as"):
        bank.put("t", MASKS, prior=wrong)


@pytest.mark.parametrize("wrong", [None, 1, {"id": "raw"}, ["raw"]])
def test_a_codec_is_a_name_or_a_codec(bank, wrong):
    with pytest.raises(UnknownCodecError, match="expected one of"):
        bank.put("t", MASKS, codec=wrong)


@pytest.mark.parametrize("wrong", [None, {"fc1": (4, 4)}, MASKS])
def test_a_bank_is_created_with_a_spec(tmp_path, wrong):
    with pytest.raises(SpecError, match=r"expected a spec such as MaskSpec\.of"):
        MaskBank.create(tmp_path / "new.bank", wrong)
    assert not (tmp_path / "new.bank").exists()


@pytest.mark.parametrize("wrong", [1, [("fc1", (4, 4))], {"fc1": None}, {"fc1": 3}])
def test_shapes_are_a_dict_of_shapes(wrong):
    with pytest.raises(SpecError, match="expected a "):
        MaskSpec(wrong)


def test_what_is_no_array_has_no_shape():
    with pytest.raises(SpecError, match="layer 'fc1': expected an array, found NoneType"):
        MaskSpec.of({"fc1": None})


@pytest.mark.parametrize("wrong", [1, None, MASKS])
def test_a_mask_is_compared_with_a_mask(wrong):
    with pytest.raises(SpecError, match="expected another Mask"):
        Mask.from_dense(MASKS).hamming(wrong)


@pytest.mark.parametrize("wrong", [1, None, [], {}])
def test_what_cannot_be_a_layer_is_in_no_mask(wrong):
    mask = Mask.from_dense(MASKS)
    assert wrong not in mask
    with pytest.raises(LayerNotFoundError, match="expected one of fc1"):
        mask[wrong]


def test_one_name_is_no_list_of_names(bank):
    bank.put("t", MASKS)
    assert list(bank.matrix(["t"]).names) == ["t"]
    with pytest.raises(TaskNotFoundError, match=r"expected a list of names.*give \['t'\]"):
        bank.matrix("t")


def test_arrays_of_which_some_values_do_not_count_are_refused(bank):
    values = np.ma.masked_equal(np.arange(16).reshape(4, 4) % 2, 1)
    for call in (lambda: bank.put("t", {"fc1": values}), lambda: bank.put("t", MASKS, extras={"scale": values})):
        with pytest.raises(MaskValueError, match=r"numpy\.ma, of which some values do not count"):
            call()
    assert len(bank) == 0
