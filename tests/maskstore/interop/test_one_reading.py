"""A layout needs something that speaks for it; where two are possible, the error names both and what decides."""

import pickle

import numpy as np
import pytest

from maskstore.errors import ForeignFileError, ImportOptionError
from maskstore.interop import ReadOptions, read_masks
from tests.helpers.commands import maskstore

torch = pytest.importorskip("torch")


def _mask(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape) < 0.4).float()


def _save(path, tree):
    torch.save(tree, path)
    return path


NNI = {"fc1": {"weight": _mask(4, 4, seed=1)}, "fc2": {"weight": _mask(4, 4, seed=2)}, "fc3": {"weight": _mask(4, 4)}}


@pytest.mark.parametrize(
    "tree",
    [
        NNI,
        {"fc1": {"weight": _mask(4, 4), "bias": _mask(4)}, "fc2": {"weight": _mask(4, 4), "bias": _mask(4)}},
        {"only": {"weight": _mask(4, 4)}},
        {"lstm1": {"weight_ih_l0": _mask(8, 2)}, "lstm2": {"weight_ih_l0": _mask(8, 2)}},
        {"Dense_0": {"kernel": _mask(4, 4)}, "Dense_1": {"kernel": _mask(4, 4)}},
        {"encoder": {"fc": _mask(4, 4)}, "decoder": {"fc": _mask(4, 4)}},
        {"encoder": {"fc.weight": _mask(4, 4)}, "decoder": {"fc.weight": _mask(4, 4)}},
    ],
)
def test_equal_layers_are_tasks_or_modules(tmp_path, tree):
    path = _save(tmp_path / "masks.pt", tree)
    with pytest.raises(
        ImportOptionError, match=r'those of piggyback .* and nni .*`layout="piggyback"` or `layout="nni"`'
    ):
        read_masks(path)
    modules = read_masks(path, ReadOptions(layout="nni"))
    assert [task.name for task in modules.tasks] == ["masks"]
    for module, parameters in tree.items():
        for parameter, mask in parameters.items():
            assert np.array_equal(modules.tasks[0].mask.layer(f"{module}.{parameter}"), mask.numpy() == 1)
    tasks = read_masks(path, ReadOptions(layout="piggyback"))
    assert [task.name for task in tasks.tasks] == list(tree)


@pytest.mark.parametrize(
    ("tree", "layout", "tasks"),
    [
        ({"fc1": {"weight": _mask(4, 4)}, "fc2": {"weight": _mask(2, 4)}}, "nni", ["m"]),
        ({"fc1": {"weight": _mask(4, 4), "bias": _mask(4)}, "bn": {"weight": _mask(4, 4)}}, "nni", ["m"]),
        ({"a": {"weight": _mask(3, 3), "_input_0": _mask(9)}, "b": {"weight": _mask(2, 3)}}, "nni", ["m"]),
        ({"task-0": {"weight": _mask(4, 4)}, "task-1": {"weight": _mask(4, 4)}}, "piggyback", ["task-0", "task-1"]),
        ({"task_0": {"a": _mask(4, 4)}, "task_1": {"a": _mask(4, 4)}}, "piggyback", ["task_0", "task_1"]),
        ({"cubs": {4: _mask(4, 4)}, "cars": {4: _mask(4, 4)}}, "piggyback", ["cubs", "cars"]),
        ({"dataset2masks": {"fc1": {"weight": _mask(4, 4)}}}, "piggyback", ["fc1"]),
        ({"a": {"weight": _mask(4, 4), "bias": None}, "b": {"weight": _mask(3, 4), "bias": None}}, "nni", ["m"]),
        ({0: {"fc1": _mask(4, 4)}, 1: {"fc1": _mask(4, 4)}}, "wsn", ["task-0", "task-1"]),
        ({0: {"fc1.weight": _mask(4, 4)}, 1: {"fc1.weight": _mask(4, 4)}}, "wsn", ["task-0", "task-1"]),
    ],
)
def test_what_speaks_for_one_layout_decides(tmp_path, tree, layout, tasks):
    found = read_masks(_save(tmp_path / "m.pt", tree))
    assert (found.layout, [task.name for task in found.tasks]) == (layout, tasks)


@pytest.mark.parametrize(
    ("tree", "first", "second"),
    [
        (
            {"a_orig": _mask(3), "a_mask": _mask(3), "b.scores.0": _mask(2, 2), "b.scores.1": _mask(2, 2)},
            "supsup",
            "prune",
        ),
        ({"a_orig": _mask(3), "a_mask": _mask(3), "b.scores": _mask(2, 2), "b.weight": _mask(2, 2)}, "hidden", "prune"),
        ({"dataset2masks": {"t": {1: _mask(2)}}, "previous_masks": {1: _mask(2)}}, "packnet", "piggyback"),
        ({"previous_masks": {1: _mask(2)}, "state_dict": {"a_orig": _mask(3), "a_mask": _mask(3)}}, "packnet", "prune"),
        ({4: {"weight": _mask(2, 2)}, 7: {"weight": _mask(2, 2)}}, "wsn", "nni"),
        ({"model": {"weight": _mask(2, 2)}, "head": {"weight": _mask(2, 2)}}, "piggyback", "arrays"),
    ],
)
def test_signs_of_two_layouts_are_an_error_that_names_both(tmp_path, tree, first, second, capsys):
    path = _save(tmp_path / "m.pt", tree)
    with pytest.raises(ImportOptionError, match=f"{first}.* and .*{second}.*`layout="):
        read_masks(path)
    assert maskstore("import", str(path), str(tmp_path / "a.bank")) == 2
    assert f"--format {second}" in capsys.readouterr().err


def test_two_state_dicts_in_one_file_are_not_chosen_from(tmp_path):
    tree = {"state_dict": {"a": _mask(2, 2)}, "model": {"a": _mask(2, 2, seed=1)}, "epoch": 3}
    with pytest.raises(ImportOptionError, match="expected one state dict, found state_dict and model"):
        read_masks(_save(tmp_path / "m.pt", tree))


@pytest.mark.parametrize("buffer", [torch.tril(torch.ones(4, 4)), torch.full((4, 4), -100.0), torch.ones(3).bool()])
def test_a_networks_own_masks_are_no_layers(tmp_path, buffer):
    from torch.nn.utils import prune

    module = torch.nn.Sequential(torch.nn.Linear(9, 5), torch.nn.Linear(5, 3))
    prune.random_unstructured(module[0], "weight", amount=0.4)
    module.register_buffer("causal_mask", buffer)
    module[1].register_buffer("padding_mask", buffer)
    torch.nn.utils.spectral_norm(module[1], "weight")  # leaves a weight_orig without a mask
    for layout in ("auto", "prune"):
        found = read_masks(_save(tmp_path / "m.pt", module.state_dict()), ReadOptions(layout=layout))
        assert list(found.spec.shapes) == ["0.weight"]
        assert np.array_equal(found.tasks[0].mask.layer("0.weight"), module[0].weight_mask.numpy() == 1)


def test_masks_of_parametrizations(tmp_path):
    mask = _mask(3, 4)
    state = {"0.parametrizations.weight.original": torch.randn(3, 4), "0.parametrizations.weight.0.mask": mask,
             "parametrizations.bias.original": torch.randn(3), "parametrizations.bias.0.mask": _mask(3),
             "1.weight": torch.randn(2, 2), "1.attn.mask": torch.full((2, 2), -100.0)}  # fmt: skip
    found = read_masks(_save(tmp_path / "m.pt", state))
    assert (found.layout, list(found.spec.shapes)) == ("prune", ["0.weight", "bias"])
    assert np.array_equal(found.tasks[0].mask.layer("0.weight"), mask.numpy() == 1)


def test_masks_alone_and_a_choice_of_layers(tmp_path):
    state = {"fc1.weight_mask": _mask(3, 3), "attn_mask": torch.full((2, 2), -100.0)}
    path = _save(tmp_path / "m.pt", state)
    with pytest.raises(ForeignFileError, match=r"found -100\.0 \(`layers` picks some of them\)"):
        read_masks(path)
    found = read_masks(path, ReadOptions(layout="prune", layers=["*.weight"]))
    assert list(found.spec.shapes) == ["fc1.weight"]
    with pytest.raises(ImportOptionError, match=r"found none that matches 'fc2\.\*'"):
        read_masks(path, ReadOptions(layout="prune", layers=["fc1.*", "fc2.*"]))
    with pytest.raises(ImportOptionError, match="expected a sequence of patterns"):
        ReadOptions(layers="*.weight")


def test_bytes_in_one_run_may_be_packed(tmp_path):
    np.savez(tmp_path / "m.npz", fc1=np.packbits(np.zeros(64, dtype=bool)), fc2=np.packbits(np.zeros(16, dtype=bool)))
    with pytest.raises(ForeignFileError, match=r"may be packed bits .packed bytes need `shapes`"):
        read_masks(tmp_path / "m.npz")
    packed = read_masks(tmp_path / "m.npz", ReadOptions(shapes={"fc1": (8, 8), "fc2": (2, 8)}))
    values = read_masks(tmp_path / "m.npz", ReadOptions(shapes={"fc1": (8,), "fc2": (2,)}))
    assert (packed.spec.bits, values.spec.bits) == (80, 10)


def test_a_mistyped_layer_is_not_a_task(tmp_path):
    np.savez(tmp_path / "m.npz", fc=np.packbits(np.ones(12, dtype=bool)))
    with pytest.raises(ImportOptionError, match=r"""named 'fc1', found 'fc' .`layout="tall-masks"`"""):
        read_masks(tmp_path / "m.npz", ReadOptions(shapes={"fc1": (3, 4)}))
    found = read_masks(tmp_path / "m.npz", ReadOptions(shapes={"fc1": (3, 4)}, layout="tall-masks"))
    assert found.tasks[0].name == "fc"


def test_weights_and_their_masks_are_not_both_read_as_weights(tmp_path):
    path = _save(tmp_path / "m.pt", {"a_orig": torch.rand(3, 3), "a_mask": _mask(3, 3)})
    with pytest.raises(ImportOptionError, match="leave `nonzero` out"):
        read_masks(path, ReadOptions(nonzero=True))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_plain_pickle_is_refused_in_our_own_words(tmp_path, protocol):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"fc1": np.ones(3)}, protocol=protocol))
    with pytest.raises(ForeignFileError, match="found a plain pickle, which only running its code could read"):
        read_masks(tmp_path / "m.pkl")


def test_torch_files_of_the_old_form_are_still_read(tmp_path):
    torch.save({"fc": _mask(3, 4)}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    assert np.array_equal(read_masks(tmp_path / "m.pt").tasks[0].mask.layer("fc"), _mask(3, 4).numpy() == 1)
