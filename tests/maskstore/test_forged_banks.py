"""Banks from strangers, with checksums that fit: what is under them is refused by name, or is as it should be."""

import json
import struct

import pytest

from forged_banks import Forge, literal
from maskstore import MaskBank, MaskSpec
from maskstore.cli import app
from maskstore.console import run
from maskstore.errors import CorruptError, MaskStoreError, SpecError
from maskstore.interop.merging import merge

NO_JSON = ("{", "5", "[1]", "null", '{"a":NaN}', '{"a":-Infinity}', '{"a":1e400}', '{"a":"\\ud800"}', '{"\\udfff":1}')


def _command(*arguments: object) -> int:
    return run("maskstore", app, (MaskStoreError,), [str(argument) for argument in arguments])


@pytest.fixture
def command(capsys):
    """Run a command line; what it says on standard error must be one line."""

    def one_line(*arguments: object) -> tuple[int, str]:
        code = _command(*arguments)
        said = capsys.readouterr().err
        assert said.count("\n") <= 1
        assert len(said) < 1000
        return code, said

    return one_line


def test_what_is_forged_here_is_a_bank(tmp_path, command):
    path = Forge(tmp_path / "a.bank", meta='{"a":"\\u00e9\\ud83d\\ude00"}').row(meta='{"b":1.5}').done()
    assert command("verify", path) == (0, f"{path}: 1 masks, all as they were written\n")
    with MaskBank.open(path) as bank:
        assert bank.meta == {"a": "\u00e9\U0001f600"}
        assert bank["t"].flat().tolist() == [True, False] * 4


@pytest.mark.parametrize("text", NO_JSON)
def test_metadata_of_the_bank_that_is_no_json_object(tmp_path, command, text):
    path = Forge(tmp_path / "a.bank", meta=text).row().done()
    with pytest.raises(CorruptError, match=r"a\.bank: stored JSON: expected"):
        MaskBank.open(path)
    with pytest.raises(CorruptError):
        merge([str(path)], tmp_path / "b.bank")
    assert command("ls", path, "--json")[0] == 1


@pytest.mark.parametrize("text", NO_JSON)
@pytest.mark.parametrize("column", ["meta", "codec", "prior"])
def test_texts_of_a_mask_that_are_no_json_objects(tmp_path, command, column, text):
    path = Forge(tmp_path / "a.bank").row(**{column: text}).done()
    for arguments in (("ls", path), ("ls", path, "--json"), ("verify", path), ("merge", path, tmp_path / "b.bank")):
        assert command(*arguments)[0] == 1
    assert command("export", path, tmp_path / "a.npz")[0] == 1


def test_templates_with_half_a_surrogate_pair(tmp_path):
    path = Forge(tmp_path / "a.bank", templates=json.dumps(["{}\ud800\n{}\n{}"])).row(about=b"\1").done()
    with MaskBank.open(path) as bank, pytest.raises(CorruptError):
        bank["t"]


@pytest.mark.parametrize("end", ['\\"' * 200_000, '"\\' * 200_000, '"' + "\\" * 200_001, '"' * 200_001])
def test_a_string_that_does_not_end_costs_no_more_than_its_length(tmp_path, end):
    """Were the cost quadratic, this would not come back."""
    path = Forge(tmp_path / "a.bank").row(about=literal('{"a":"' + end)).done()
    with MaskBank.open(path) as bank, pytest.raises(CorruptError):
        bank.infos()


@pytest.mark.parametrize("shape", [[0, 2**70], [1] * 65, [2**63 - 1, 0, 2**63 - 1]])
def test_extra_arrays_of_shapes_that_numpy_does_not_have(tmp_path, command, shape):
    header = json.dumps({"x": ["u1", shape]}).encode()
    extras = struct.pack("<I", len(header)) + header + b"\1" * (0 not in shape)
    path = Forge(tmp_path / "a.bank").row(extras=extras).done()
    with MaskBank.open(path) as bank, pytest.raises(CorruptError, match="expected its extra arrays"):
        bank.extras("t")
    assert command("verify", path)[0] == 1


@pytest.mark.parametrize("shape", [[0, 2**70], [2**40, 0], [int("9" * 4000)], [int("9" * 4000)] * 8])
def test_layers_of_shapes_that_numpy_does_not_have(tmp_path, command, shape):
    with pytest.raises(SpecError, match=r"expected at most 2\*\*33 bits"):
        MaskSpec({"a": shape})
    path = Forge(tmp_path / "a.bank", spec=json.dumps([["a", shape]])).done()
    assert "expected at most 2**33 bits" in command("ls", path)[1]
