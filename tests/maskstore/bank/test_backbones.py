"""Masks coded against the weights of a network: fewer bytes with them, a named error without them or with others."""

import pickle
import threading

import numpy as np
import pytest
import torch

from maskstore import Backbone, KeptWeights, Mask, MaskBank, MaskSpec, Reference, RunningMean, compact
from maskstore.errors import ArgumentTypeError, BackboneError, CodecError, SpecError
from maskstore.priors import prior_from_config, prior_to_json

SPEC = MaskSpec({"conv": (12, 8, 3, 3), "fc": (40, 70), "none": (0, 3)})
_RNG = np.random.default_rng(5)
WEIGHTS = {layer.name: _RNG.normal(size=layer.shape).astype("f4") for layer in SPEC}
BACKBONE = Backbone(WEIGHTS)

OTHER = Backbone({name: 2 * values for name, values in WEIGHTS.items()})
KEPT = Mask.from_dense({name: abs(values) + 0.05 * _RNG.random(values.shape) > 0.2 for name, values in WEIGHTS.items()})


def test_levels_are_those_of_the_definition():
    for index, layer in enumerate(SPEC):
        magnitudes = np.abs(WEIGHTS[layer.name]).reshape(-1).tolist()
        edges = [sorted(magnitudes)[j * len(magnitudes) // 64] for j in range(1, 64)] if magnitudes else []
        assert BACKBONE.levels(index).tolist() == [sum(edge <= one for edge in edges) for one in magnitudes]


def test_a_fingerprint_is_the_same_for_ever():
    assert Backbone({"fc": np.arange(-3, 3, dtype="f4").reshape(2, 3)}).fingerprint == GOLDEN
    assert Backbone({"fc": np.arange(-3, 3, dtype="f2").reshape(2, 3)}).fingerprint == GOLDEN
    assert Backbone({"fc": np.arange(-3, 3, dtype="f4").reshape(3, 2)}).fingerprint != GOLDEN


GOLDEN = "d43e894983ad9368641abf2ffbf280fe"


@pytest.mark.parametrize("codec", ["auto", "max", "ans", "mix"])
def test_a_bank_gives_masks_back_with_the_weights_and_in_fewer_bytes(tmp_path, codec):
    with MaskBank.create(tmp_path / "a.bank", SPEC) as bank:
        bank.put("with", KEPT, prior=KeptWeights(BACKBONE), codec=codec)
        bank.put("without", KEPT, codec=codec)
        assert bank["with"] == KEPT  # a bank knows the weights of what was put into it
        assert bank.info("with").coded_bytes < 0.6 * bank.info("without").coded_bytes
    with MaskBank.open(tmp_path / "a.bank", backbone=BACKBONE) as bank:
        assert bank["with"] == KEPT
        assert (bank.layer("with", "fc") == KEPT.layer("fc")).all()
        bank.verify()
        assert pickle.loads(pickle.dumps(bank))["with"] == KEPT


def test_other_weights_and_none_are_named(tmp_path):
    with MaskBank.create(tmp_path / "a.bank", SPEC) as bank:
        bank.put("task", KEPT, prior=KeptWeights(BACKBONE))
        bank.put("plain", KEPT)
        with pytest.raises(BackboneError, match=f"'other'.*{BACKBONE.fingerprint}, found {OTHER.fingerprint}"):
            bank.put("other", KEPT, prior=KeptWeights(OTHER))
    with MaskBank.open(tmp_path / "a.bank") as bank:
        assert bank.info("task").prior == {"id": "kept-weights", "backbone": BACKBONE.fingerprint}
        assert bank["plain"] == KEPT
        for read in (lambda: bank["task"], lambda: bank.layer("task", "fc"), bank.verify):
            with pytest.raises(BackboneError, match=f"'task'.*{BACKBONE.fingerprint}, found none"):
                read()
    with (
        MaskBank.open(tmp_path / "a.bank", backbone=OTHER) as bank,
        pytest.raises(BackboneError, match=f"'task'.*{BACKBONE.fingerprint}, found {OTHER.fingerprint}"),
    ):
        _ = bank["task"]


def test_related_masks_know_the_weights_too(tmp_path):
    flipped = [Mask.from_flat(KEPT.flat() ^ (_RNG.random(SPEC.bits) < 0.01), SPEC) for _ in range(3)]
    given = KeptWeights(BACKBONE)
    with MaskBank.create(tmp_path / "a.bank", SPEC) as bank:
        for row, mask in enumerate(flipped):
            bank.put(f"task-{row}", mask, prior=given)
        bank.put("reference", KEPT, prior=Reference("task-0", given=given))
        bank.put("mean", KEPT, prior=RunningMean(("task-0", "task-1", "task-2"), given=given))
    with pytest.raises(BackboneError):
        compact(tmp_path / "a.bank")
    compact(tmp_path / "a.bank", backbone=BACKBONE)
    with MaskBank.open(tmp_path / "a.bank", backbone=BACKBONE) as bank:
        assert bank["reference"] == bank["mean"] == KEPT
        assert [bank[f"task-{row}"] for row in range(3)] == flipped


def test_a_prior_with_a_fingerprint_alone_takes_the_weights_of_the_bank(tmp_path):
    named = prior_from_config({"id": "kept-weights", "backbone": BACKBONE.fingerprint})
    assert prior_to_json(named) == prior_to_json(KeptWeights(BACKBONE))
    with MaskBank.create(tmp_path / "a.bank", SPEC, backbone=BACKBONE) as bank:
        bank.put("task", KEPT, prior=named)
        assert bank["task"] == KEPT
    with MaskBank.create(tmp_path / "b.bank", SPEC) as bank, pytest.raises(BackboneError, match="found none"):
        bank.put("task", KEPT, prior=named)


def test_wrong_weights_are_named():
    with pytest.raises(BackboneError, match=r"'fc'.*found float64"):
        Backbone({"fc": np.zeros((2, 3))})
    with pytest.raises(BackboneError, match=r"'fc'.*NaN"):
        Backbone({"fc": np.full((2, 3), np.nan, "f4")})
    with pytest.raises(SpecError, match=r"'fc'.*found none"):
        Backbone({"conv": np.zeros((2, 3), "f4")}, MaskSpec({"fc": (2, 3)}))
    with pytest.raises(SpecError, match="expected weights of"):
        Backbone({"fc": np.zeros((3, 2), "f4")}, MaskSpec({"fc": (2, 3)}))
    for wrong in ("kept", "g" * 32, 7):
        with pytest.raises(CodecError, match="fingerprint of 32 digits"):
            KeptWeights(wrong)
    with pytest.raises(BackboneError, match="found MaskSpec"):
        KeptWeights(BACKBONE).contexts(MaskSpec({"fc": (2, 3)}), 0)
    with pytest.raises(BackboneError, match="give a Backbone"):
        KeptWeights(BACKBONE.fingerprint).contexts(SPEC, 0)


def test_what_is_no_backbone_is_named(tmp_path):
    with pytest.raises(ArgumentTypeError, match="backbone: expected a Backbone"):
        MaskBank.create(tmp_path / "a.bank", SPEC, backbone=WEIGHTS)


def test_a_backbone_stays_what_it_was_when_the_weights_are_trained_on(tmp_path):
    rng = np.random.default_rng(0)
    weights = {"fc": rng.normal(size=(60, 70)).astype("f4")}
    was = {"fc": weights["fc"].copy()}
    for share in ("an array", "a tensor"):
        given = {"fc": torch.from_numpy(was["fc"].copy())} if share == "a tensor" else {"fc": was["fc"].copy()}
        backbone = Backbone(given)
        given["fc"] += 1.0
        mask = {"fc": abs(was["fc"]) > 0.1}
        with MaskBank.create(tmp_path / share, backbone.spec) as bank:
            for codec in ("auto", "ans", "context-gap"):
                bank.put(codec, mask, prior=KeptWeights(backbone), codec=codec)
        with MaskBank.open(tmp_path / share, backbone=Backbone(was)) as bank:
            assert all(bank[codec] == Mask.from_dense(mask) for codec in bank)
        again = pickle.loads(pickle.dumps(backbone))
        assert again.fingerprint == Backbone(was).fingerprint == backbone.fingerprint
        with MaskBank.open(tmp_path / share, backbone=again) as bank:
            assert all(bank[codec] == Mask.from_dense(mask) for codec in bank)


def test_threads_may_ask_a_backbone_for_the_same_bins():
    weights = {f"fc{n}": np.random.default_rng(n).normal(size=(100, 100)).astype("f4") for n in range(4)}
    backbone, found = Backbone(weights), []
    threads = [
        threading.Thread(target=lambda: found.append([backbone.levels(n).tobytes() for n in range(4)]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[Backbone(weights).levels(n).tobytes() for n in range(4)]] * 8


@pytest.mark.parametrize("given", [None, 3, [np.ones(3, dtype="f4")]])
def test_what_is_no_dict_of_weights_is_named(given):
    with pytest.raises(ArgumentTypeError, match="backbone: expected arrays by layer name"):
        Backbone(given)
    with pytest.raises(ArgumentTypeError, match="spec of a backbone: expected a MaskSpec"):
        Backbone({"a": np.ones(3, dtype="f4")}, {"a": (3,)})


@pytest.mark.parametrize("related", [False, True])
def test_masks_of_two_networks_never_share_a_bank(tmp_path, related):
    rng = np.random.default_rng(0)
    first, second = (Backbone({"fc": rng.normal(size=(60, 70)).astype("f4")}) for _ in range(2))
    mask, path = {"fc": rng.random((60, 70)) < 0.9}, tmp_path / "a.bank"
    with MaskBank.create(path, first.spec) as bank:
        bank.put("plain", mask)
        bank.put("old", mask, prior=KeptWeights(first))
        if related:
            bank.put("near", mask, prior=Reference("plain", given=KeptWeights(first)))
            bank.delete("old")
    for session in ({}, {"backbone": second}):
        with MaskBank.open(path, "a", **session) as bank:
            with pytest.raises(BackboneError, match=f"of fingerprint {first.fingerprint}, found {second.fingerprint}"):
                bank.put("new", mask, prior=KeptWeights(second))
            assert "new" not in bank
            bank.put("other", mask, overwrite=True)  # what knows no weights
    with MaskBank.open(path, "a", backbone=first) as bank:
        bank.put("new", mask, prior=KeptWeights(first))
        bank.verify()
        for name in list(bank):
            if name not in ("plain", "other"):
                bank.delete(name)
    with MaskBank.open(path, "a") as bank:  # nothing is coded against the first any more
        bank.put("new", mask, prior=KeptWeights(second))
        bank.put("new", mask, prior=KeptWeights(second), overwrite=True)
    with MaskBank.open(path, "a") as bank:  # the only one is replaced
        bank.put("new", mask, prior=KeptWeights(first), overwrite=True)
