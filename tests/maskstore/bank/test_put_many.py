"""`put_many`: all or none, and nearly equal masks against each other where that takes fewer bytes."""

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec, Reference, SeededScores, Uniform
from maskstore.bank.putting import NearMasks, near, new_mask
from maskstore.errors import BankReadOnlyError, MaskValueError, SpecError, TaskExistsError
from tests.helpers.masks import random_mask
from tests.helpers.small_blocks import put_in_blocks

SPEC = MaskSpec({"fc1": (100, 200), "fc2": (10, 30)})


def relatives(count, density=0.2, flips=0.002, spec=SPEC):
    """Masks that each differ from the first one in a few bits."""
    first = random_mask(spec, density, 0)
    return {"t0": first} | {f"t{i}": first ^ random_mask(spec, flips, i) for i in range(1, count)}


def priors(bank):
    return [info.prior["id"] for info in bank.infos()]


def sizes(bank):
    return np.array([info.coded_bytes for info in bank.infos()])


@pytest.fixture
def bank(tmp_path):
    with MaskBank.create(tmp_path / "a.bank", SPEC) as bank:
        yield bank


@pytest.fixture
def one_by_one(tmp_path):
    with MaskBank.create(tmp_path / "b.bank", SPEC) as bank:
        yield bank


@pytest.mark.parametrize("prior", [None, Uniform(), SeededScores(3, 0)])
def test_nearly_equal_masks_are_coded_against_the_first(bank, one_by_one, prior):
    masks = relatives(5)
    bank.put_many(masks, prior=prior)
    for name, mask in masks.items():
        one_by_one.put(name, mask, prior=prior)
    assert priors(bank)[1:] == ["reference"] * 4
    assert sizes(bank)[0] == sizes(one_by_one)[0]
    assert (sizes(bank)[1:] < 0.2 * sizes(one_by_one)[1:]).all()
    assert dict(bank.items()) == masks
    bank.delete("t0")
    assert dict(bank.items()) == {name: masks[name] for name in list(masks)[1:]}
    assert bank.verify() == 4


def test_masks_that_are_no_relatives_are_stored_as_by_put(bank, one_by_one):
    masks = {f"t{i}": random_mask(SPEC, density, i) for i, density in enumerate([0.5, 0.5, 0.1, 0.1, 0.01, 0.0, 1.0])}
    bank.put_many(masks)
    for name, mask in masks.items():
        one_by_one.put(name, mask)
    for ours, theirs in zip(bank.records(), one_by_one.records(), strict=True):
        assert (ours.data, ours.codec, ours.prior, ours.bases) == (theirs.data, theirs.codec, theirs.prior, ())


def test_a_relative_that_saves_nothing_is_not_used(bank):
    """Each of these is in one run of set bits, which is stored in fewer bytes than a pointer and a table."""
    runs = {
        f"t{i}": {"fc1": np.arange(20_000).reshape(100, 200) < 9000 + i, "fc2": np.zeros((10, 30))} for i in range(3)
    }
    bank.put_many(runs, codec="zstd")
    assert priors(bank) == ["uniform"] * 3


def test_equal_masks_and_masks_of_earlier_calls(bank):
    masks = relatives(3)
    bank.put_many(list(masks.items())[:1])
    bank.put("other", random_mask(SPEC, 0.3, 77))
    bank.put_many({"again": masks["t0"], "t1": masks["t1"]})
    assert priors(bank) == ["uniform", "uniform", "reference", "reference"]
    assert sizes(bank)[2] < 40
    assert bank["again"] == masks["t0"]
    bank.put_many({"t2": masks["t2"]})  # t1 and again, which need others, are no references
    assert bank.record("t2").bases[0].record.name == "t0"


def test_a_mask_that_is_replaced_is_no_reference_of_its_own(bank):
    masks = relatives(2)
    bank.put_many({"t0": masks["t0"]})
    bank.put_many({"t0": masks["t1"]}, overwrite=True)
    assert priors(bank) == ["uniform"]
    bank.put_many(relatives(4), overwrite=True)  # every name is there, or becomes a reference
    assert dict(bank.items()) == relatives(4)
    assert bank.verify() == 4


def test_one_prior_for_each_and_what_lies_beside(bank):
    masks = relatives(3)
    given = {"t0": SeededScores(1, 0), "t2": Reference("t1")}
    bank.put_many(masks, meta={"t1": {"a": 1}}, extras={"t2": {"k": np.float32([2])}}, prior=given)
    assert priors(bank) == ["seeded-scores", "uniform", "reference"]
    assert bank.task_meta("t1") == {"a": 1}
    assert bank.task_meta("t0") == {}
    assert bank.extras("t2")["k"].tolist() == [2.0]
    assert dict(bank.items()) == masks


@pytest.mark.parametrize("beside", [{"meta": {"x": {}}}, {"extras": {"x": {}}}, {"prior": {"x": Uniform()}}])
def test_names_that_no_mask_has(bank, beside):
    with pytest.raises(SpecError, match="expected names of the masks that are put, found 'x'"):
        bank.put_many(relatives(2), **beside)
    assert list(bank) == []


def test_all_or_none(bank, tmp_path):
    masks = relatives(3)
    bank.put("t2", masks["t2"])
    with pytest.raises(TaskExistsError):
        bank.put_many(masks)
    with pytest.raises(MaskValueError):
        bank.put_many([("a", masks["t0"]), ("b", {"fc1": np.full((100, 200), 2), "fc2": np.zeros((10, 30))})])
    with pytest.raises(SpecError):
        bank.put_many({"a": masks["t0"], "b": random_mask(MaskSpec({"a": (3,)}), 0.5, 0)})
    assert list(bank) == ["t2"]
    bank.put_many({})
    bank.close()
    with MaskBank.open(bank.path) as reader, pytest.raises(BankReadOnlyError):
        reader.put_many(masks)


def test_large_masks_in_blocks(bank, monkeypatch):
    put_in_blocks(monkeypatch)
    masks = relatives(3)
    bank.put_many(masks)
    assert priors(bank) == ["uniform", "reference", "reference"]
    assert dict(bank.items()) == masks
    monkeypatch.setattr(new_mask, "_LIKE_BITS", SPEC.bits - 1)  # those that are larger are not compared
    bank.put_many({f"{name} again": iter(mask.dense().items()) for name, mask in masks.items()})
    assert priors(bank)[3:] == ["uniform"] * 3


def test_masks_that_share_what_chance_gives_are_not_tried():
    spec = MaskSpec({"a": (1000, 1000)})
    found = NearMasks(spec)
    for i in range(near._MOST + 10):
        found.add(f"t{i}", random_mask(spec, 0.3, i))
    assert [found.like(random_mask(spec, 0.3, 100 + i)) for i in range(50)] == [""] * 50
    last = random_mask(spec, 0.3, near._MOST + 9)
    assert found.like(last ^ random_mask(spec, 0.2, 999)) == f"t{near._MOST + 9}"
    assert found.like(last, name=f"t{near._MOST + 9}") == ""
    assert found.like(random_mask(spec, 0.3, 0)) == ""  # only the last are remembered
    empty = NearMasks(MaskSpec({"a": (0,)}))
    empty.add("t", random_mask(MaskSpec({"a": (0,)}), 0.5, 0))
    assert empty.like(random_mask(MaskSpec({"a": (0,)}), 0.5, 0)) == ""
