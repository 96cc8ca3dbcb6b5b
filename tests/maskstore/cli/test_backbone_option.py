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


@pytest.mark.parametrize("out", ["out.safetensors", "out.npz"])
def test_what_was_exported_is_imported_with_the_weights(folder, out, capsys):
    net = folder / "net.safetensors"
    assert maskstore("export", folder / "a.bank", folder / out, "--backbone", net) == 0
    assert maskstore("import", folder / out, folder / "b.bank") == 1
    assert "--backbone weights gives them" in capsys.readouterr().err
    assert not (folder / "b.bank").exists()
    assert maskstore("import", folder / out, folder / "b.bank", "--backbone", net) == 0
    known = read_backbone(net, SPEC)
    with MaskBank.open(folder / "a.bank", backbone=known) as a, MaskBank.open(folder / "b.bank", backbone=known) as b:
        assert [b[name] for name in b] == [a[name] for name in a]
        assert b.info("x").prior == a.info("x").prior


@pytest.mark.parametrize("bank", ["a.bank", "new.bank"])
def test_put_codes_against_the_weights_of_a_file(folder, bank, capsys):
    kept = np.abs(STATE["fc.weight"]) > 0.1
    np.savez(folder / "mask.npz", **{"fc.weight": kept})
    known = read_backbone(folder / "net.safetensors", SPEC)
    prior = json.dumps({"id": "kept-weights", "backbone": known.fingerprint})
    words = ("put", folder / bank, "z", folder / "mask.npz", "--prior", prior, "--create")
    assert maskstore(*words) == 1
    assert "--backbone weights gives them" in capsys.readouterr().err
    assert maskstore(*words, "--backbone", folder / "other.safetensors") == 1
    assert maskstore(*words, "--backbone", folder / "net.safetensors") == 0
    with MaskBank.open(folder / bank, backbone=known) as opened:
        assert (opened["z"]["fc.weight"] == kept).all()


def test_a_file_of_another_kind_is_named(folder, capsys):
    np.savez(folder / "s.npz", **STATE)
    assert maskstore("verify", folder / "a.bank", "--backbone", folder / "s.npz") == 1
    assert "expected a safetensors file, found one of another kind" in capsys.readouterr().err
