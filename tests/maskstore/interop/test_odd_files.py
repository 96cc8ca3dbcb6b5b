"""Files with names twice, gaps in their numbers, odd orders and odd arguments."""

import argparse
import json
import struct

import numpy as np
import pytest
import torch

from maskstore.errors import ForeignFileError, ImportOptionError
from maskstore.interop import ReadOptions, read_masks

EYE = torch.eye(4)


def _saved(tmp_path, tree):
    torch.save(tree, tmp_path / "masks.pt")
    return tmp_path / "masks.pt"


@pytest.mark.parametrize(
    ("tree", "layout", "message"),
    [
        ({0: {"weight": EYE}, "0": {"weight": 1 - EYE}}, "nni", "expected distinct names, found '0.weight' twice"),
        ({"a.b": {"c": EYE}, "a": {"b.c": 1 - EYE}}, "nni", "expected distinct names, found 'a.b.c' twice"),
        ({"previous_masks": {0: EYE.long(), "0": EYE.long()}}, "packnet", "expected distinct names"),
        (
            {"previous_masks": {0: torch.tensor([1, 2, 3])}, "dataset2idx": {"a": 1, "c": 3}},
            "packnet",
            "expected a name for each data set up to 3",
        ),
    ],
)
def test_what_would_be_lost_is_refused(tmp_path, tree, layout, message):
    with pytest.raises(ForeignFileError, match=message):
        read_masks(_saved(tmp_path, tree), ReadOptions(layout=layout))


def test_a_parameter_whose_name_begins_with_an_underscore_is_read(tmp_path):
    tree = {"fc": {"weight": EYE, "_proj": 1 - EYE, "_input_": EYE, "_output_0": EYE}}
    (task,) = read_masks(_saved(tmp_path, tree), ReadOptions(layout="nni")).tasks
    assert list(task.mask) == ["fc.weight", "fc._proj"]
    assert task.mask["fc._proj"].sum() == 12


@pytest.mark.parametrize("names", [["empty", "a"], ["a", "empty"]])
def test_tensors_without_elements_may_stand_anywhere_in_a_table(tmp_path, names):
    entries = {
        "a": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]},
        "empty": {"dtype": "BOOL", "shape": [0], "data_offsets": [0, 0]},
    }
    head = json.dumps({name: entries[name] for name in names}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"\0\1")
    (task,) = read_masks(tmp_path / "a.safetensors").tasks
    assert task.mask["a"].tolist() == [False, True]
    assert task.mask["empty"].shape == (0,)


@pytest.mark.parametrize("name", ["individual_heads", "task_eval", "er_sparsity", "train_weight_tasks", "conv_type"])
def test_an_argument_that_is_an_array_is_named(tmp_path, name):
    state = {"fc.scores.0": torch.randn(4, 4), "fc.weight": torch.ones(4, 4)}
    arguments = {"conv_type": "FastMultitaskMaskConv", "conv_init": "signed_constant", name: torch.ones(3)}
    with pytest.raises(ForeignFileError, match=f"args.{name}: expected a plain value, found an array"):
        read_masks(_saved(tmp_path, {"state_dict": state, "args": argparse.Namespace(**arguments)}))


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf")])
def test_an_accuracy_that_is_no_fraction_is_left_out(tmp_path, value):
    state = {"fc.scores.0": torch.randn(4, 4), "fc.weight": torch.ones(4, 4)}
    args = argparse.Namespace(conv_type="FastMultitaskMaskConv")
    (task,) = read_masks(_saved(tmp_path, {"state_dict": state, "args": args, "curr_acc1": value})).tasks
    assert task.meta == {"source_task": 0}


def test_braces_stand_for_the_stem_of_a_file_that_names_no_task(tmp_path):
    np.savez(tmp_path / "pruned.npz", fc1=np.eye(4, dtype=bool))
    (task,) = read_masks(tmp_path / "pruned.npz", ReadOptions(name="run-1/{}")).tasks
    assert task.name == "run-1/pruned"


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_state_dict_alone_under_its_key_is_read(tmp_path, key):
    (task,) = read_masks(_saved(tmp_path, {key: {"fc1": EYE, "fc2": 1 - EYE}})).tasks
    assert list(task.mask) == ["fc1", "fc2"]


def test_a_density_that_nothing_uses_is_refused(tmp_path):
    np.savez(tmp_path / "pruned.npz", fc1=np.eye(4))
    for options in ({}, {"nonzero": True}):
        with pytest.raises(ImportOptionError, match="for `density`, or `ternarise` beside it, found masks of layout"):
            read_masks(tmp_path / "pruned.npz", ReadOptions(density=0.5, **options))


def test_bools_in_one_run_may_be_a_layer_or_several(tmp_path):
    np.save(tmp_path / "run.npy", np.arange(23) % 2 == 0)
    with pytest.raises(
        ImportOptionError, match=r"found shape \(23,\) \(`shapes` cuts it.*`layout=\"arrays\"` takes it"
    ):
        read_masks(tmp_path / "run.npy")
    assert read_masks(tmp_path / "run.npy", ReadOptions(layout="arrays")).spec.shapes == {"run": (23,)}
    cut = read_masks(tmp_path / "run.npy", ReadOptions(shapes={"a": (4, 5), "b": (3,)}))
    assert cut.spec.shapes == {"a": (4, 5), "b": (3,)}


@pytest.mark.parametrize("shapes", [{}, {"a": 3}, {"a": "x"}, {"a": (-1,)}, {"": (2,)}, {3: (2,)}, {"a": (1 << 40,)}])
def test_shapes_are_looked_at_before_a_file_is(shapes):
    with pytest.raises(ImportOptionError, match=r"shapes: .*expected"):
        ReadOptions(shapes=shapes)
