"""Array files and checkpoints that were written by hand, with what no program would write in them."""

import os
import zipfile

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec
from maskstore.errors import ForeignFileError
from maskstore.files.npz import read_npy_file, read_npz
from maskstore.interop import read_masks
from maskstore.interop.diff import diff_banks
from tests.helpers.commands import in_fresh_process, maskstore


def _npy(shape: str, data: bytes, descr: str = "|u1") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        _npy("(0, 99999999999999999999)", b""),
        _npy("(" + "1," * 65 + ")", b"\1"),
        _npy("(True, 8)", b"\1" * 8),
        _npy("(-1, -8)", b"\1" * 8),
        _npy("(8,)", b"\0\1\2\0\0\0\0\0", "|b1"),
    ],
)
def test_headers_and_bools_that_numpy_would_not_write(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(ForeignFileError):
        read_npy_file(tmp_path / "a.npy")
    with pytest.raises(ForeignFileError):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "state",
    [
        {"l.scores.0": 1.0},
        {"l.scores.0": [1.0, -1.0], "l.scores.00": [-1.0, 1.0]},
    ],
)
def test_scores_that_are_of_no_layer_or_twice(tmp_path, state):
    import torch

    tensors = {name: torch.tensor(value) for name, value in state.items()}
    arguments = {"conv_type": "MultitaskMaskConv", "sparsity": 0.5, "er_sparsity": True, "bn_type": "FastHopMaskBN"}
    torch.save({"state_dict": tensors, "args": arguments}, tmp_path / "a.pt")
    with pytest.raises(ForeignFileError, match="expected scores of a layer, once a task"):
        read_masks(tmp_path / "a.pt")


def test_weights_beside_the_scores_of_units_have_no_constant_to_be_checked_against(tmp_path):
    import torch

    tensors = {"l.scores.0": torch.tensor([1.0, -1.0]), "l.weight": torch.tensor([0.1, 0.2])}
    arguments = {"bn_type": "FastHopMaskBN", "conv_init": "signed_constant"}
    torch.save({"state_dict": tensors, "args": arguments}, tmp_path / "a.pt")
    found = read_masks(tmp_path / "a.pt")
    assert found.tasks[0].mask.flat().tolist() == [True, False]
    assert found.meta["weights"]["l"]["checked"] is False


@pytest.mark.parametrize("options", [["--meta", '{"a": NaN}'], ["--prior", '{"id": "reference", "task": "none"}']])
def test_a_put_that_fails_leaves_no_new_bank(tmp_path, options):
    np.savez(tmp_path / "m.npz", a=np.ones(8))
    arguments = ["put", str(tmp_path / "a.bank"), "t", str(tmp_path / "m.npz"), "--create", *options]
    assert maskstore(*arguments) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.npz"]


def test_a_shard_is_called_one(tmp_path, capsys):
    with MaskBank.create(tmp_path / "a.bank", MaskSpec({"a": (8,)})) as bank:
        bank.put("t", {"a": np.ones(8)})
        assert diff_banks(bank, bank).same
    arguments = [str(tmp_path / "a.bank"), str(tmp_path / "a.shard")]
    assert maskstore("export", *arguments) == 0
    assert maskstore("ls", arguments[1]) == 1
    assert "found a shard (maskstore merge makes a bank of it)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs limits of a process of its own")
@pytest.mark.parametrize("ending", ["safetensors", "npz", "shard"])
def test_an_export_to_a_full_disk_is_named_and_leaves_nothing(tmp_path, ending):
    path = tmp_path / "a.bank"
    with MaskBank.create(path, MaskSpec({"a": (1000, 1000)})) as bank:
        bank.put("t", {"a": np.random.default_rng(0).random((1000, 1000)) < 0.5})
    code = (
        "import resource, signal, sys; from maskstore.cli.app import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); main()"
    )
    out = tmp_path / "out" / f"a.{ending}"
    out.parent.mkdir()
    done = in_fresh_process(code, "export", path, out)
    assert done.returncode == 1
    assert "expected room to write" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(out.parent.iterdir()) == []
