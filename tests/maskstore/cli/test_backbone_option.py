"""`--backbone FILE` on banks whose masks were coded against a network's weights."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from maskstore import Backbone, KeptWeights, MaskBank, MaskSpec, errors
from maskstore.interop import read_backbone
from tests.helpers.commands import maskstore

RNG = np.random.default_rng(0)
STATE = {"fc.weight": RNG.normal(size=(64, 48)).astype("f4"), "fc.bias": np.zeros(64, "f4")}
SPEC = MaskSpec({"fc.weight": (64, 48)})


@pytest.fixture
def folder(tmp_path):
    save_file(STATE, tmp_path / "net.safetensors")
    save_file({"fc.weight": STATE["fc.weight"] + 1}, tmp_path / "other.safetensors")
    with MaskBank.create(tmp_path / "a.bank", SPEC) as bank:
        for name in ("x", "y"):
            mask = {"fc.weight": np.abs(STATE["fc.weight"]) > 0.05 + 0.1 * RNG.random((64, 48))}
            bank.put(name, mask, prior=KeptWeights(Backbone(STATE, SPEC)))
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("stats", "a.bank", "--json"),
        ("verify", "a.bank"),
        ("get", "a.bank", "x", "-o", "x.npz"),
        ("compact", "a.bank"),
        ("index", "a.bank"),
        ("export", "a.bank", "a.safetensors"),
        ("export", "a.bank", "a.npz"),
        ("diff", "a.bank", "--tasks", "x", "y"),
    ],
    ids=lambda words: "-".join(words[:1] + words[2:3]),
)
def test_commands_that_decode_take_the_weights(folder, monkeypatch, capsys, words):
    monkeypatch.chdir(folder)
    for refused, says in (((), "(--backbone weights gives them)"), (("--backbone", "other.safetensors"), "found ")):
        assert maskstore(*words, *refused) == 1
        told = capsys.readouterr().err
        assert "fingerprint" in told
        assert says in told
    assert maskstore(*words, "--backbone", "net.safetensors") == (1 if words[0] == "diff" else 0)
    assert "fingerprint" not in capsys.readouterr().err


def test_stats_count_what_is_there(folder, capsys):
    assert maskstore("stats", folder / "a.bank", "--json", "--backbone", folder / "net.safetensors") == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == 2


def test_a_network_without_the_layers_is_refused(folder, capsys):
    save_file({"other": STATE["fc.bias"]}, folder / "small.safetensors")
    with pytest.raises(errors.SpecError, match=r"expected weights of layer 'fc.weight', found none"):
        read_backbone(folder / "small.safetensors", SPEC)
    assert maskstore("verify", folder / "a.bank", "--backbone", folder / "small.safetensors") == 1
    assert "fc.weight" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["text", "missing"])
def test_other_files_are_refused(folder, capsys, name):
    (folder / "text").write_text("weights")
    assert maskstore("verify", folder / "a.bank", "--backbone", folder / name) in (1, 2)
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_all_tensors_are_taken_without_a_spec(folder):
    assert read_backbone(folder / "net.safetensors").spec.bits == 64 * 48 + 64
    assert read_backbone(folder / "net.safetensors", SPEC).fingerprint == Backbone(STATE, SPEC).fingerprint
