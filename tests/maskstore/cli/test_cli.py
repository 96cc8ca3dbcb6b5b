"""The maskstore command: what it prints, its exit codes, and that bad input never harms a bank."""

import json

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec, open_index
from maskstore.cli import console
from maskstore.errors import MaskStoreError
from tests.helpers.commands import output_of
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"fc1": (13, 11), "fc2": (5, 13)})


@pytest.fixture
def bank(tmp_path):
    with MaskBank.create(tmp_path / "b.bank", SPEC, meta={"seed": 0}) as opened:
        for i in range(3):
            opened.put(f"task-{i}", random_mask(SPEC, 0.5, i), meta={"accuracy": 0.5})
    return opened.path


def test_stats_counts_every_byte(bank, command):
    code, out, _ = command("stats", bank, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["tasks"] == 3
    assert found["parameters"] == SPEC.bits
    assert found["file_bytes"] == bank.stat().st_size
    parts = ("payload_bytes", "side_bytes", "index_bytes", "slack_bytes", "log_bytes")
    assert sum(found[part] for part in parts) == found["file_bytes"]
    assert found["bits_per_parameter"] == 8 * found["file_bytes"] / (3 * SPEC.bits)
    assert found["payload_bits_per_parameter"] == 8 * found["payload_bytes"] / (3 * SPEC.bits)
    assert 0 < found["entropy_bits_per_parameter"] <= 1
    assert sum(found["codecs"].values()) == 3


def test_stats_of_an_empty_bank(tmp_path, command):
    MaskBank.create(tmp_path / "e.bank", SPEC).close()
    code, out, _ = command("stats", tmp_path / "e.bank", "--json")
    assert code == 0
    assert json.loads(out)["bits_per_parameter"] is None
    assert command("stats", tmp_path / "e.bank")[0] == 0
    assert command("ls", tmp_path / "e.bank")[0] == 0


def test_stats_beside_a_working_writer(bank, command):
    with MaskBank.open(bank, "a") as writer:
        writer.put("new", random_mask(SPEC, 0.5, 9))
        found = json.loads(command("stats", bank, "--json")[1])
        assert found["tasks"] == 4
        assert found["log_bytes"] > 0
        parts = ("payload_bytes", "side_bytes", "index_bytes", "slack_bytes", "log_bytes")
        assert sum(found[part] for part in parts) == found["file_bytes"]


def test_tables_name_tasks_and_layers(bank, command):
    _, out, _ = command("ls", bank)
    assert "task-2" in out
    _, out, _ = command("stats", bank)
    assert "fc1" in out
    assert "payload" in out
    listed = json.loads(command("ls", bank, "--json")[1])
    assert [row["name"] for row in listed["masks"]] == ["task-0", "task-1", "task-2"]
    assert listed["meta"] == {"seed": 0}


def test_put_and_get_round_trip(bank, tmp_path, command):
    assert command("get", bank, "task-1", "-o", tmp_path / "m.npz")[0] == 0
    arrays = dict(np.load(tmp_path / "m.npz"))
    assert np.array_equal(arrays["fc1"], random_mask(SPEC, 0.5, 1).layer("fc1"))
    np.savez(tmp_path / "swapped.npz", fc2=arrays["fc2"], fc1=arrays["fc1"])
    code, _, err = command("put", bank, "copy", tmp_path / "swapped.npz", "--meta", '{"a": 1}', "--codec", "raw")
    assert code == 0
    assert "bits a parameter" in err
    with MaskBank.open(bank) as opened:
        assert opened["copy"] == opened["task-1"]
        assert opened.task_meta("copy") == {"a": 1}
    assert command("get", bank, "copy", "--layer", "fc2", "-o", tmp_path / "m.npz")[0] == 1  # not without --overwrite
    assert command("get", bank, "copy", "--layer", "fc2", "-o", tmp_path / "m.npz", "--overwrite")[0] == 0
    assert list(np.load(tmp_path / "m.npz")) == ["fc2"]
    assert command("put", tmp_path / "new.bank", "t", tmp_path / "m.npz", "--create")[0] == 0
    assert command("verify", tmp_path / "new.bank")[0] == 0
    assert command("rm", bank, "copy", "task-0")[0] == 0
    with MaskBank.open(bank) as opened:
        assert list(opened) == ["task-1", "task-2"]


def test_bad_input_is_one_line_and_harms_nothing(bank, tmp_path, command):
    np.savez(tmp_path / "ok.npz", **random_mask(SPEC, 0.5, 7).dense())
    np.savez(tmp_path / "shape.npz", fc1=np.zeros((2, 2)), fc2=np.zeros((5, 13)))
    np.savez(tmp_path / "value.npz", fc1=np.full((13, 11), 2), fc2=np.zeros((5, 13)))
    np.savez(tmp_path / "object.npz", fc1=np.array([object()]))
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    before = bank.read_bytes()
    ok = tmp_path / "ok.npz"
    cases = [
        (1, ["put", bank, "t", tmp_path / "shape.npz"], "fc1"),
        (1, ["put", bank, "t", tmp_path / "value.npz"], "0 and 1"),
        (1, ["put", bank, "t", tmp_path / "object.npz"], "plain arrays"),
        (1, ["put", bank, "t", tmp_path / "single.npy"], "single array"),
        (1, ["put", bank, "t", tmp_path / "text.npz"], "plain arrays"),
        (1, ["put", bank, "t", tmp_path / "none.npz"], "found none"),
        (1, ["put", bank, "task-1", ok], "overwrite"),
        (2, ["put", bank, "t", ok, "--codec", "zst"], "did you mean 'zstd'"),
        (2, ["put", bank, "t", ok, "--prior", '{"id": "psychic"}'], "seeded-scores"),
        (2, ["put", bank, "t", ok, "--meta", "[1]"], "JSON object"),
        (2, ["put", bank, "t", ok, "--meta", '{"a": 1, "a": 2}'], "each key once"),
        (2, ["put", tmp_path / "none.bank", "t", ok], "--create"),
        (1, ["get", bank, "task-1", "--layer", "", "-o", tmp_path / "x.npz"], "fc1, fc2"),
        (2, ["rm", bank, "task-0", "task-0"], "'task-0' twice"),
        (2, ["merge", bank, tmp_path / "x.bank", "--rename", "a=b", "--rename", "a=c"], "one new name for 'a'"),
        (1, ["export", bank, bank, "--format", "npz", "--overwrite"], "found a bank"),
        (1, ["get", bank, "task1", "-o", tmp_path / "x.npz"], "did you mean 'task-1'"),
        (1, ["get", bank, "task-1", "--layer", "fc3", "-o", tmp_path / "x.npz"], "fc1, fc2"),
        (1, ["rm", bank, "task-0", "task-9"], "task-9"),
        (1, ["stats", tmp_path / "none.bank"], "found no file"),
        (1, ["verify", tmp_path / "text.npz"], "another kind"),
        (2, ["stats"], "BANK"),
        (2, ["stat", bank], "stat"),
        (2, ["stats", bank, "--jsn"], "--jsn"),
    ]
    for code, arguments, part in cases:
        found, out, err = command(*arguments)
        assert found == code, arguments
        assert out == ""
        assert part in err
        assert len(err.strip().splitlines()) == 1
        assert "Traceback" not in err
    assert bank.read_bytes() == before
    assert not (tmp_path / "none.bank").exists()
    assert not (tmp_path / "x.npz").exists()


def test_verify_finds_a_changed_byte(bank, command):
    data = bytearray(bank.read_bytes())
    with MaskBank.open(bank) as opened:
        place = data.index(opened.record("task-2").data[-8:])
    assert command("verify", bank, "--json")[1].strip().startswith("{")
    data[place] ^= 1
    bank.write_bytes(data)
    code, _, err = command("verify", bank)
    assert code == 1
    assert "expected" in err


def test_debug_shows_the_traceback(tmp_path, command):
    with pytest.raises(MaskStoreError):
        command("stats", tmp_path / "none.bank", "--debug")


@pytest.mark.slow
def test_the_installed_command_works():
    assert "verify" in output_of("from maskstore.cli.app import main; main()", "--help")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "loaded"),
    [("import maskstore, maskstore.cli.app", False), ("import maskstore, torch, numba", True)],
)
def test_importing_maskstore_loads_neither_torch_nor_numba(statement, loaded):
    """In a fresh process; the second case proves that the first could fail."""
    script = f"import sys; {statement}; print('torch' in sys.modules, 'numba' in sys.modules)"
    assert output_of(script).split() == [str(loaded)] * 2


def test_ctrl_c_inside_a_compiled_kernel_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    """What Numba makes of it: a SystemError whose cause is the KeyboardInterrupt."""

    def interrupted(**_: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    def broken(**_: object) -> None:
        raise SystemError("something else")

    assert console.run("maskstore", interrupted, (), []) == 130
    assert capsys.readouterr().err == "maskstore: interrupted\n"
    with pytest.raises(SystemError, match="something else"):
        console.run("maskstore", broken, (), [])


def test_index_writes_a_file_that_is_the_banks_matrix(bank, tmp_path, command):
    code, _, err = command("index", bank)
    assert code == 0
    assert f"{bank}.index: 3 masks in" in err
    with MaskBank.open(bank) as opened:
        assert open_index(f"{bank}.index", bank=opened)["task-1"] == opened["task-1"]
    code, _, err = command("index", bank)
    assert code == 1
    assert "--overwrite replaces it" in err
    assert command("index", bank, "--overwrite", "-o", tmp_path / "other")[0] == 0
