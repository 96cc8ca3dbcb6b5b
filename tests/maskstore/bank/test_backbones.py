"""Masks coded against the weights of a network: fewer bytes with them, a named error without them or with others."""

import pickle

import numpy as np
import pytest

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
