"""Changes of weights in, as signed masks, and out again as numbers."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from maskstore import MaskBank, MaskSpec, SignedMask
from maskstore.cli.app import run_command
from maskstore.errors import BankExistsError, ForeignFileError, ImportOptionError, TaskNotFoundError
from maskstore.interop import ReadOptions, read_masks, store, write_deltas, write_npz, write_safetensors

RNG = np.random.default_rng(0)
SHAPES = {"fc1.bias": (30,), "fc1.weight": (30, 41)}  # safetensors sorts by name
DENSE = {name: RNG.standard_normal(shape, dtype=np.float32) for name, shape in SHAPES.items()}
SPARSE = {name: np.where(np.abs(array) > 1.5, array, 0) for name, array in DENSE.items()}
SIGNED = SignedMask.from_deltas(SPARSE)


def written(folder, kind, arrays):
    path = folder / f"delta.{kind}"
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "pt":
        torch.save({name: torch.tensor(array) for name, array in arrays.items()}, path)
    else:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "npz", "pt"])
def test_sparse_deltas_come_in_and_go_out(tmp_path, kind):
    noise = {"bn.running_mean": np.ones(3), "step": np.arange(5)}
    found = read_masks(written(tmp_path, kind, {**SPARSE, **noise}), ReadOptions(ternarise="layer"))
    assert (found.layout, [task.name for task in found.tasks]) == ("arrays", ["delta"])
    assert found.tasks[0].signed == SIGNED
    assert found.tasks[0].mask == SIGNED.mask
    store(found, tmp_path / "a.bank")
    with MaskBank.open(tmp_path / "a.bank") as bank:
        assert bank.signed("delta") == SIGNED
        assert bank.meta["imported"] == {"layout": "arrays", "ternarised": "layer"}
        write_deltas(bank, "delta", tmp_path / "out.safetensors")
        with pytest.raises(BankExistsError):
            write_deltas(bank, "delta", tmp_path / "out.safetensors")
        write_deltas(bank, "delta", tmp_path / "out.safetensors", dtype="float16", overwrite=True)
        half = load_file(tmp_path / "out.safetensors")
        write_deltas(bank, "delta", tmp_path / "out.safetensors", overwrite=True)
    whole = load_file(tmp_path / "out.safetensors")
    for name, values in SIGNED.deltas().items():
        assert whole[name].dtype == np.float32
        assert half[name].dtype == np.float16
        assert np.array_equal(whole[name], values)
        assert np.array_equal(half[name], values.astype(np.float16))
    again = read_masks(tmp_path / "out.safetensors", ReadOptions(ternarise="layer"))
    assert again.tasks[0].signed == SIGNED


@pytest.mark.parametrize("scale", ["layer", "row", "none"])
def test_dense_deltas_keep_the_largest(tmp_path, scale):
    path = written(tmp_path, "safetensors", DENSE)
    (task,) = read_masks(path, ReadOptions(ternarise=scale, density=0.1, layers=["*.weight"])).tasks
    assert task.signed == SignedMask.from_deltas({"fc1.weight": DENSE["fc1.weight"]}, density=0.1, scale=scale)
    assert task.mask.ones == 123


def test_several_tasks_and_values_that_are_ternary_already(tmp_path):
    values = {name: np.sign(array).astype(np.int8) for name, array in SPARSE.items()}
    both = {f"{task}/{name}": array * sign for task, sign in (("a", 1), ("b", -1)) for name, array in values.items()}
    path = written(tmp_path, "safetensors", both)
    found = read_masks(path, ReadOptions(ternarise="none", separator="/", name="run/{}"))
    assert {task.name: task.signed.layer("fc1.bias").tolist() for task in found.tasks} == {
        "run/a": values["fc1.bias"].tolist(),
        "run/b": (-values["fc1.bias"]).tolist(),
    }


def test_one_npy_array_is_one_layer(tmp_path):
    np.save(tmp_path / "fc1.npy", SPARSE["fc1.weight"])
    (task,) = read_masks(tmp_path / "fc1.npy", ReadOptions(ternarise="layer")).tasks
    assert np.array_equal(task.signed["fc1"], np.sign(SPARSE["fc1.weight"]))


def test_layers_in_another_order_fit_a_bank(tmp_path):
    with MaskBank.create(tmp_path / "a.bank", SIGNED.spec) as bank:
        bank.put_signed("first", SIGNED)
    path = written(tmp_path, "npz", dict(reversed(SPARSE.items())))
    assert run_command(["import", str(path), str(tmp_path / "a.bank"), "--ternarise", "layer"]) == 0
    with MaskBank.open(tmp_path / "a.bank") as bank:
        assert bank.signed("delta") == SIGNED


def test_what_cannot_be_ternarised(tmp_path):
    def option(**options):
        return lambda: ReadOptions(**options)

    def reading(arrays, **options):
        return lambda: read_masks(written(tmp_path, "npz", arrays), ReadOptions(ternarise="layer", **options))

    with MaskBank.create(tmp_path / "a.bank", SIGNED.spec) as bank:
        bank.put("plain", SIGNED.mask)
        write_npz(bank, tmp_path / "exported.npz")
        write_safetensors(bank, tmp_path / "exported.safetensors")
        for kind in ("npz", "safetensors"):
            with pytest.raises(ImportOptionError, match="an exported bank"):
                read_masks(tmp_path / f"exported.{kind}", ReadOptions(ternarise="layer"))
        with pytest.raises(TaskNotFoundError, match="one without signs"):
            write_deltas(bank, "plain", tmp_path / "x.safetensors")
        with pytest.raises(ImportOptionError, match="dtype"):
            write_deltas(bank, "plain", tmp_path / "x.safetensors", dtype="int4")
    for call, error, match in [
        (option(ternarise="column"), ImportOptionError, "'column'"),
        (option(ternarise="row", nonzero=True), ImportOptionError, "found `nonzero` beside it"),
        (option(ternarise="row", layout="prune"), ImportOptionError, "found layout prune"),
        (reading({"a": np.array([np.nan])}), ForeignFileError, "finite numbers"),
        (reading({"a": np.arange(3)}), ForeignFileError, "found none among 1"),
        (reading({"a": np.ones(3)}, layers=["b"]), ImportOptionError, "none that matches"),
        (reading({"t/a": np.ones(3), "u/a": np.ones(4)}, separator="/"), ForeignFileError, "expected the layers of"),
    ]:
        with pytest.raises(error, match=match):
            call()


def test_the_commands(tmp_path, capsys):
    bank, out = str(tmp_path / "a.bank"), str(tmp_path / "out.safetensors")
    path = str(written(tmp_path, "safetensors", DENSE))
    assert run_command(["import", path, bank, "--ternarise", "row", "--density", "0.05", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 1260
    assert run_command(["export", bank, out, "--deltas", "delta"]) == 0
    kept = SignedMask.from_deltas(DENSE, density=0.05, scale="row")
    assert np.array_equal(load_file(out)["fc1.weight"], kept.delta("fc1.weight"))
    npz = str(tmp_path / "got.npz")
    assert run_command(["get", bank, "delta", "-o", npz, "--signed"]) == 0
    with np.load(npz) as got:
        assert {name: got[name].dtype for name in got} == dict.fromkeys(SHAPES, np.int8)
        assert all(np.array_equal(got[name], kept[name]) for name in got)
    assert run_command(["get", bank, "delta", "-o", npz, "--signed", "--layer", "fc1.bias", "--overwrite"]) == 0
    with np.load(npz) as got:
        assert list(got) == ["fc1.bias"]
    assert run_command(["stats", bank]) == 0
    assert "- signs" in capsys.readouterr().out
    assert run_command(["stats", bank, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sign_bytes"] > 8
    assert run_command(["import", path, bank, "--ternarise", "column"]) == 2
    assert run_command(["import", path, bank, "--ternarise", "row", "--nonzero"]) == 2
    assert "found `--nonzero` beside it" in capsys.readouterr().err
    assert run_command(["export", bank, out, "--deltas", "delta", "--format", "npz"]) == 2


@pytest.mark.parametrize("name", ["out.npz", "out.shard"])
def test_numbers_go_to_safetensors_alone(tmp_path, name):
    bank, out = str(tmp_path / "tasks.bank"), str(tmp_path / name)
    with MaskBank.create(bank, MaskSpec({"fc1": (2, 2)})) as opened:
        opened.put_signed("t", SignedMask.from_dense({"fc1": [[1, 0], [0, -1]]}))
    assert run_command(["export", bank, out, "--deltas", "t"]) == 2
    assert not (tmp_path / name).exists()
    assert run_command(["export", bank, out, "--deltas", "t", "--format", "safetensors"]) == 0
