"""Layouts that this field writes: every bit comes in as the writer meant it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstore.errors import ForeignFileError, ImportOptionError
from maskstore.interop import LAYOUTS, ReadOptions, read_masks
from tests.helpers.commands import maskstore
from tests.helpers.foreign_layouts import (
    bfloat16,
    bitmask_arrays,
    dense_masks,
    hidden_state,
    packnet_tree,
    safetensors_bytes,
    sharded_folder,
    stored,
    wsn_tree,
)

torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file
SHAPES = {"conv1.weight": (4, 3, 3, 3), "layer1.0.fc.weight": (7, 13), "fc2.weight": (5, 9)}
shapes = st.dictionaries(
    st.sampled_from(["conv1.weight", "fc1.weight", "block.0.fc.weight", "b"]),
    st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple),
    min_size=1,
)


def _same(task, masks):
    assert set(task.mask.spec.shapes) == set(masks)
    return all(np.array_equal(task.mask.layer(name), mask) for name, mask in masks.items())


@given(shapes=shapes, tasks=st.integers(1, 12), seed=st.integers(0, 99))
def test_wsn_has_numbered_tasks_layers_without_bias_and_a_head_a_task(tmp_path_factory, shapes, tasks, seed):
    path = tmp_path_factory.getbasetemp() / "run.pertask"
    tree, masks = wsn_tree(tasks, {f"x.{name}": shape for name, shape in shapes.items()}, seed)
    torch.save(tree, path)
    found = read_masks(path)
    assert (found.layout, [task.name for task in found.tasks]) == ("wsn", [f"task-{i}" for i in range(tasks)])
    for task, own in zip(found.tasks, masks, strict=True):
        assert all(np.array_equal(task.mask.layer(name), mask) for name, mask in own.items())
        assert all(not task.mask.layer(name).any() for name in set(found.spec.shapes) - set(own))


def test_wsn_in_a_checkpoint_and_layers_that_one_task_lacks(tmp_path):
    tree, masks = wsn_tree(3, SHAPES)
    torch.save({"per_task_masks": tree, "consolidated_masks": tree[0], "acc_matrix": torch.zeros(3, 3)}, tmp_path / "a")
    found = read_masks(tmp_path / "a", ReadOptions(layers=["*fc*"]))
    assert _same(found.tasks[1], {name: masks[1][name] for name in ("layer1.0.fc.weight", "fc2.weight")})
    del tree[1]["fc2.weight"]
    torch.save(tree, tmp_path / "a")
    with pytest.raises(ForeignFileError, match=r"task 1: expected the layers of task 0, found no 'fc2\.weight'"):
        read_masks(tmp_path / "a")


@given(names=st.lists(st.text("abc", min_size=1), min_size=1, max_size=5, unique=True), seed=st.integers(0, 99))
def test_packnet_data_sets_use_their_own_weights_and_earlier_ones(tmp_path_factory, names, seed):
    path = tmp_path_factory.getbasetemp() / "packnet.pt"
    tree, masks = packnet_tree(names, {2: (4, 3, 3, 3), 5: (7, 13)}, seed)
    torch.save(tree, path)
    found = read_masks(path)
    assert (found.layout, [task.name for task in found.tasks]) == ("packnet", names)
    assert all(_same(task, own) for task, own in zip(found.tasks, masks, strict=True))


def test_packnet_without_names_and_with_numbers_that_lack_one(tmp_path):
    tree, masks = packnet_tree(["a", "b"], {2: (8, 9)})
    del tree["dataset2idx"]
    torch.save(tree, tmp_path / "p.pt")
    found = read_masks(tmp_path / "p.pt")
    assert [task.name for task in found.tasks] == ["task-1", "task-2"]
    assert all(_same(task, own) for task, own in zip(found.tasks, masks, strict=True))
    torch.save(tree | {"dataset2idx": {"a": 1}}, tmp_path / "p.pt")
    with pytest.raises(ForeignFileError, match="a name for each data set up to 2"):
        read_masks(tmp_path / "p.pt")


@pytest.mark.parametrize("density", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("container", ["torch", "safetensors", "npz"])
def test_hidden_networks_keep_the_largest_scores(tmp_path, density, container):
    layers = {"conv1": (6, 3, 3, 3), "fc": (7, 13)}
    state, masks = hidden_state(layers, density)
    state["bn.running_mean"] = torch.zeros(4)
    path = _written(tmp_path / "h", {f"module.{name}": value for name, value in state.items()}, container)
    found = read_masks(path, ReadOptions(density=density))
    assert found.layout == "hidden-networks"
    assert _same(found.tasks[0], masks)
    with pytest.raises(ImportOptionError, match="expected `density`"):
        read_masks(path)


def test_hidden_networks_with_a_fixed_mask_hold_the_mask_itself(tmp_path):
    state, masks = hidden_state({"fc": (7, 13)}, 0.3)
    state["fc.scores"] = torch.from_numpy(masks["fc"]).float()
    torch.save({"state_dict": state, "arch": "resnet18", "epoch": 5}, tmp_path / "h.pth")
    assert _same(read_masks(tmp_path / "h.pth").tasks[0], masks)


@given(shapes=shapes, seed=st.integers(0, 99), two_of_four=st.booleans())
def test_bitmasks_are_packed_row_by_row(tmp_path_factory, shapes, seed, two_of_four):
    path = tmp_path_factory.getbasetemp() / "bitmask.safetensors"
    masks = dense_masks(shapes, seed)
    arrays = {name: stored(array) for name, array in bitmask_arrays(masks, two_of_four=two_of_four).items()}
    path.write_bytes(safetensors_bytes(arrays | {"model.norm.weight": bfloat16(np.ones(3))}))
    found = read_masks(path)
    assert found.layout == "compressed-tensors"
    assert _same(found.tasks[0], masks)


def test_bitmasks_need_their_shape_and_zero_padding(tmp_path):
    arrays = bitmask_arrays({"fc": np.ones((2, 5), dtype=bool)})
    for name, change in (("fc.bitmask", np.full((2, 1), 255, dtype=np.uint8)), ("fc.shape", np.array([3, 5]))):
        path = _written(tmp_path / "b", arrays | {name: change}, "npz")
        with pytest.raises(ForeignFileError, match=r"zero padding after column 5|3 rows of 1 packed bytes"):
            read_masks(path)


@pytest.mark.parametrize("bit_order", ["big", "little"])
def test_rows_packed_alone_come_in_given_their_shape(tmp_path, bit_order):
    masks = dense_masks({"fc1": (7, 13), "conv": (2, 3, 3, 5)}, 0)
    arrays = {name: np.packbits(mask, axis=-1, bitorder=bit_order) for name, mask in masks.items()}
    found = read_masks(
        _written(tmp_path / "rows", arrays, "npz"),
        ReadOptions(shapes={name: mask.shape for name, mask in masks.items()}, bit_order=bit_order),
    )
    assert _same(found.tasks[0], masks)


@pytest.mark.parametrize("container", ["torch", "safetensors", "npz"])
def test_weights_that_pruning_left_not_zero(tmp_path, container):
    from torch.nn.utils import prune

    module = torch.nn.Sequential(torch.nn.Linear(9, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3))
    for layer in (module[0], module[2]):
        prune.l1_unstructured(layer, "weight", amount=0.5)
        prune.remove(layer, "weight")
    state = module.state_dict()
    path = _written(tmp_path / "removed", state, container)
    found = read_masks(path, ReadOptions(nonzero=True, layers=["0.weight", "2.*"]))
    expected = {name: state[name].numpy() != 0 for name in ("0.weight", "2.weight", "2.bias")}
    assert _same(found.tasks[0], expected)
    assert set(read_masks(path, ReadOptions(nonzero=True)).spec.shapes) == {
        "0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias",
    }  # fmt: skip
    assert maskstore("import", str(path), str(tmp_path / "a.bank"), "--nonzero", "--layers", "*.weight") == 0
    with pytest.raises(ForeignFileError, match="expected values 0 and 1"):
        read_masks(path)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_weights_that_are_not_zero(tmp_path, half):
    weights = torch.randn(6, 7).to(half) * (torch.rand(6, 7) < 0.5)
    (tmp_path / "w.safetensors").write_bytes(
        safetensors_bytes({"w": bfloat16(weights.float().numpy()), "q": ("F4", (4,), b"ab")})
    )
    found = read_masks(tmp_path / "w.safetensors", ReadOptions(nonzero=True, layers=["w"]))
    assert np.array_equal(found.tasks[0].mask.layer("w"), weights.bfloat16().float().numpy() != 0)
    with pytest.raises(ForeignFileError, match=r"'q'.*found F4"):
        read_masks(tmp_path / "w.safetensors", ReadOptions(nonzero=True))


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
@pytest.mark.parametrize("container", ["torch", "safetensors", "npz", "sharded"])
def test_prefixes_of_wrappers_come_off_in_every_container(tmp_path, prefix, container):
    masks = dense_masks(SHAPES, 0)
    state = {f"{prefix}{name}_mask": mask.astype(np.float32) for name, mask in masks.items()}
    state |= {f"{prefix}{name}_orig": np.ones(mask.shape, dtype=np.float32) for name, mask in masks.items()}
    state[f"{prefix}layer1.0.attn_mask"] = np.full((3, 3), -100.0, dtype=np.float32)
    path = (
        sharded_folder(tmp_path / "s", state) if container == "sharded" else _written(tmp_path / "a", state, container)
    )
    assert _same(read_masks(path).tasks[0], masks)


def test_a_compiled_part_of_a_network_has_the_prefix_inside_its_names(tmp_path):
    masks = dense_masks({"body.fc": (3, 4), "head": (2, 3)}, 0)
    torch.save(
        {"body._orig_mod.fc": torch.from_numpy(masks["body.fc"]), "head": torch.from_numpy(masks["head"])},
        tmp_path / "a",
    )
    assert _same(read_masks(tmp_path / "a").tasks[0], masks)
    torch.save({"a.x": torch.ones(2, 2), "a._orig_mod.x": torch.zeros(2, 2)}, tmp_path / "a")
    with pytest.raises(ForeignFileError, match="expected distinct names without their _orig_mod"):
        read_masks(tmp_path / "a")


def test_a_sharded_folder_its_index_and_what_they_must_not_say(tmp_path):
    masks = dense_masks(SHAPES, 0)
    index = sharded_folder(tmp_path / "model", masks, parts=2)
    for path in (index, index.parent):
        found = read_masks(path, ReadOptions(name="x"))
        assert list(found.spec.shapes) == list(masks)
        assert _same(found.tasks[0], masks)
    text = index.read_text()
    for old, new, message in (
        ("model-00001", "../model-00001", "names of files beside it"),
        ("model-00002", "model-00003", "expected the file 'model-00003-of-00002.safetensors' beside it, found none"),
        ('"fc2.weight": ', '"fc3.weight": ', r"expected 'fc3\.weight' in model-00002"),
        ('"weight_map"', '"map"', "an index with a weight_map"),
    ):
        index.write_text(text.replace(old, new))
        with pytest.raises(ForeignFileError, match=message):
            read_masks(index)
    index.write_text(text)
    (tmp_path / "model" / "other.safetensors.index.json").write_text(text)
    with pytest.raises(ForeignFileError, match="a folder with 2"):
        read_masks(tmp_path / "model")


def test_torch_files_with_an_index(tmp_path):
    import json

    masks = dense_masks(SHAPES, 0)
    for name, mask in masks.items():
        torch.save({name: torch.from_numpy(mask)}, tmp_path / f"{name}.bin")
    index = {"weight_map": {name: f"{name}.bin" for name in masks}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert _same(read_masks(tmp_path).tasks[0], masks)


@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 3, 3)])
def test_one_bool_array_in_an_npy_is_one_layer(tmp_path, shape):
    mask = dense_masks({"m": shape}, 0)["m"]
    np.save(tmp_path / "fc1.npy", mask)
    found = read_masks(tmp_path / "fc1.npy", ReadOptions(name="task-0"))
    assert (found.layout, found.tasks[0].name) == ("arrays", "task-0")
    assert _same(found.tasks[0], {"fc1": mask})
    np.save(tmp_path / "fc1.npy", mask.astype(np.uint8))
    with pytest.raises((ImportOptionError, ForeignFileError), match=r"expected `shapes`|\(tasks, n\)"):
        read_masks(tmp_path / "fc1.npy", ReadOptions(layout="tall-masks"))
    found = read_masks(tmp_path / "fc1.npy", ReadOptions(shapes={"fc": shape}))
    assert _same(found.tasks[0], {"fc": mask})


def _written(path, state, container):
    arrays = {name: np.asarray(value) for name, value in state.items()}
    if container == "torch":
        torch.save({name: torch.as_tensor(value) for name, value in state.items()}, path)
    elif container == "npz":
        with path.open("wb") as file:
            np.savez(file, **arrays)
    else:
        path.write_bytes(safetensors_bytes({name: stored(array) for name, array in arrays.items()}))
    return path


def test_the_docs_have_a_line_for_each_layout() -> None:
    text = (Path(__file__).parents[3] / "docs" / "interop.md").read_text()
    first, second = text.split("### What each layout requires")
    for layout in LAYOUTS:
        assert layout == "auto" or f"| `{layout}` |" in first
        assert layout in ("auto", "maskstore") or f"| `{layout}` |" in second
