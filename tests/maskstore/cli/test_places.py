"""Where commands and functions write: no advice that does not apply, and no file that nobody meant."""

import os

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec
from maskstore.errors import BankExistsError, BankNotFoundError, ImportOptionError
from maskstore.interop import ReadOptions, merge, write_npz, write_safetensors, write_shard
from supsup_models.cli.app import run_command as supsup

SPEC = MaskSpec({"fc1": (4, 4)})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with MaskBank.create("a.bank", SPEC) as bank:
        bank.put("t", {"fc1": np.eye(4, dtype=bool)})
    np.savez("mask.npz", fc1=np.eye(4, dtype=bool))
    os.symlink("nowhere", "link.bank")
    os.symlink("loop", "loop")
    return tmp_path


@pytest.mark.parametrize("link", ["link.bank", "loop"])
def test_a_link_that_leads_nowhere_is_named(folder, link, command):
    for call in (lambda: MaskBank.create(link, SPEC), lambda: merge(["a.bank"], link, overwrite=True)):
        with pytest.raises(BankExistsError, match=r"expected no file at this path, found a link that leads nowhere$"):
            call()
    for call in (lambda: MaskBank.open(link), lambda: MaskBank.create(link, SPEC, exist_ok=True)):
        with pytest.raises(BankNotFoundError, match=r"expected a mask bank, found a link that leads nowhere$"):
            call()
    for line in (["put", link, "t", "mask.npz", "--create"], ["import", "mask.npz", link], ["merge", "a.bank", link]):
        code, _, error = command(*line)
        assert code == 1
        assert error.rstrip().endswith("found a link that leads nowhere")
    assert not (folder / "nowhere").exists()


@pytest.mark.parametrize("write", [write_npz, write_safetensors, write_shard])
def test_what_can_replace_a_link_says_so(folder, write):
    with MaskBank.open("a.bank") as bank:
        with pytest.raises(BankExistsError, match=r"a link that leads nowhere \(`overwrite=True` replaces it\)"):
            write(bank, "link.bank")
        write(bank, "link.bank", overwrite=True)
    assert (folder / "nowhere").is_file()
    assert os.readlink("link.bank") == "nowhere"


def test_only_a_bank_can_be_opened_instead(folder):
    with pytest.raises(BankExistsError, match=r"found one \(`exist_ok=True` opens it\)"):
        MaskBank.create("a.bank", SPEC)
    (folder / "text").write_text("hello")
    with pytest.raises(BankExistsError, match=r"found one$"):
        MaskBank.create("text", SPEC)


@pytest.mark.parametrize(
    "line",
    [
        ["get", "a.bank", "t", "-o", "-"],
        ["export", "a.bank", "-", "--format", "npz"],
        ["put", "-", "t", "mask.npz", "--create"],
        ["import", "mask.npz", "-"],
        ["merge", "a.bank", "-"],
        ["ls", "-"],
    ],
)
def test_no_file_is_called_like_a_stream(folder, line, command):
    before = sorted(os.listdir())
    code, out, error = command(*line)
    assert (code, out) == (2, "")
    assert "-: expected the name of a file, found the sign for a stream" in error
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    "line",
    [
        ["report", "run", "-o", "-"],
        ["train", "--stream", "permuted-digits", "--out", "-"],
        ["demo", "--out", "-"],
        ["reproduce", "--list", "--out", "-"],
    ],
)
def test_nor_is_a_folder_or_a_page(folder, line, capsys):
    before = sorted(os.listdir())
    assert supsup(line) == 2
    assert "-: expected the name of a file, found the sign for a stream" in capsys.readouterr().err
    assert sorted(os.listdir()) == before


def test_an_empty_name_is_none(folder, command):
    code, _, error = command("import", "mask.npz", "new.bank", "--name", "")
    assert code == 2
    assert "name: expected 1 to 512 characters, found ''" in error
    with pytest.raises(ImportOptionError, match="name: expected 1 to 512 characters"):
        ReadOptions(name="a\0")
    code, out, error = command("diff", "a.bank", "")  # no name is not the first bank again
    assert (code, out) == (1, "")
    assert "expected text that a file can be called, found ''" in error
    assert not (folder / "new.bank").exists()
