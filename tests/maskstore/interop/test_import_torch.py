import collections
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskstore.errors import ForeignFileError, MaskStoreError
from maskstore.interop import ReadOptions, read_masks
from maskstore.interop.readers.torch_files import load_torch
from tests.helpers.foreign_files import supsup_checkpoint

torch = pytest.importorskip("torch")


def test_pruned_state_dicts(tmp_path):
    from torch.nn.utils import prune

    module = torch.nn.Sequential(torch.nn.Linear(9, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    prune.random_unstructured(module[0], "weight", amount=0.4)
    prune.random_unstructured(module[0], "bias", amount=0.4)
    prune.l1_unstructured(module[2], "weight", amount=0.5)
    state = module.state_dict()
    for name, tree in (("plain.pt", state), ("nested.pt", {"epoch": 3, "state_dict": state})):
        torch.save(tree, tmp_path / name)
        found = read_masks(tmp_path / name, ReadOptions(name="lottery"))
        assert found.layout == "prune"
        assert set(found.spec.shapes) == {"0.weight", "0.bias", "2.weight"}
        (task,) = found.tasks
        assert task.name == "lottery"
        for layer in found.spec:
            assert np.array_equal(task.mask.layer(layer.name), state[f"{layer.name}_mask"].numpy() == 1)


def test_pruned_masks_must_be_masks(tmp_path):
    torch.save({"a_orig": torch.zeros(3), "a_mask": torch.tensor([0.0, 0.5, 1.0])}, tmp_path / "a.pt")
    with pytest.raises(ForeignFileError, match=r"'a': expected values 0 and 1, found 0\.5"):
        read_masks(tmp_path / "a.pt")
    torch.save({"a_orig": torch.zeros(4), "a_mask": torch.ones(3)}, tmp_path / "a.pt")
    with pytest.raises(ForeignFileError, match=r"expected shape \(4,\)"):
        read_masks(tmp_path / "a.pt")


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.bfloat16, torch.int64])
def test_piggyback_masks(tmp_path, dtype):
    rng = np.random.default_rng(0)
    dense = {task: {4: rng.random((3, 2, 3, 3)) < 0.5, 7: rng.random(6) < 0.5} for task in ("cubs", "cars/full")}
    tree = {
        "dataset2masks": {
            task: {index: torch.from_numpy(mask).to(dtype) for index, mask in layers.items()}
            for task, layers in dense.items()
        }
    }
    torch.save(tree, tmp_path / "packed.pt")
    found = read_masks(tmp_path / "packed.pt", ReadOptions(name="pb-{}"))
    assert found.layout == "piggyback"
    assert [task.name for task in found.tasks] == ["pb-cubs", "pb-cars/full"]
    for task, layers in zip(found.tasks, dense.values(), strict=True):
        assert all(np.array_equal(task.mask.layer(str(index)), mask) for index, mask in layers.items())


def test_ternary_piggyback_masks_and_classifiers_are_refused(tmp_path):
    ternary = torch.tensor([0, 1, -1], dtype=torch.int8).to(torch.uint8)
    torch.save({"dataset2masks": {"cubs": {1: ternary}}}, tmp_path / "a.pt")
    with pytest.raises(ForeignFileError, match="ternary"):
        read_masks(tmp_path / "a.pt")
    tree = {"dataset2masks": {"cubs": {1: torch.zeros(3)}}, "dataset2classifiers": {"cubs": torch.nn.Linear(2, 2)}}
    torch.save(tree, tmp_path / "a.pt")
    with pytest.raises(ForeignFileError, match=r"found torch\.nn\.modules\.linear\.Linear, which only unpickling"):
        read_masks(tmp_path / "a.pt")


def test_tall_masks_are_numpy_vectors_in_a_torch_file(tmp_path):
    shapes = {"b.weight": (3, 5), "a.bias": (7,)}  # flattened sorted by name: a.bias first
    rng = np.random.default_rng(0)
    flat = {task: rng.random(22) < 0.5 for task in ("Cars", "MNIST")}
    torch.save({k: np.packbits(v) for k, v in flat.items()}, tmp_path / "TALL_mask_2task.npy")
    found = read_masks(tmp_path / "TALL_mask_2task.npy", ReadOptions(shapes=shapes))
    assert found.layout == "tall-masks"
    assert list(found.spec.shapes) == ["b.weight", "a.bias"]
    for task, bits in zip(found.tasks, flat.values(), strict=True):
        assert np.array_equal(task.mask.layer("a.bias"), bits[:7])
        assert np.array_equal(task.mask.layer("b.weight"), bits[7:].reshape(3, 5))


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "namespace", "npy"])
def test_nothing_that_a_file_names_is_run(tmp_path, form):
    import argparse

    path, trap = tmp_path / "evil.pt", tmp_path / "it-ran"
    payload = Malicious(str(trap))
    if form == "zip":
        torch.save({"a_mask": payload}, path)
    elif form == "legacy":
        torch.save({"a_mask": payload}, path, _use_new_zipfile_serialization=False)
    elif form == "pickle":
        path.write_bytes(pickle.dumps({"a_mask": payload}, protocol=4))
    elif form == "namespace":
        torch.save({"state_dict": {"a.scores.0": torch.zeros(2)}, "args": argparse.Namespace(x=payload)}, path)
    else:
        with path.open("wb") as file:
            np.lib.format.write_array(file, np.array([payload], dtype=object), allow_pickle=True)
    with pytest.raises(ForeignFileError):
        read_masks(path)
    assert not trap.exists()
    if form == "namespace":
        pickle.loads(pickle.dumps(payload))  # the trap does work where pickles are trusted
        assert trap.exists()


@pytest.mark.parametrize(
    "name", ["collections.deque", "builtins.eval", "posix.system", "torch.nn.modules.linear.Linear"]
)
def test_the_refusal_names_what_would_have_to_be_loaded(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    pickled = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b")R."
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3\n")
    with pytest.raises(ForeignFileError, match=name.removeprefix("builtins.")) as caught:
        read_masks(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tree",
    [
        [],
        {},
        {"a": 3},
        {"a": torch.zeros(2, dtype=torch.complex64)},
        {"a": torch.zeros(1).expand(1 << 40)},
        {"a": torch.eye(3).to_sparse()},
        {"a": torch.zeros(2, device="meta")},
        {"a": torch.tensor([0.0, float("nan")])},
        {"x" * 600: torch.zeros(2)},
        {1: torch.zeros(2)},
        {"a": np.zeros(3)},
        {"t": {"a": torch.zeros(2)}, "u": {"a": torch.zeros(3)}},
        {"t": {"a": torch.zeros(2)}, "u": {"b": torch.zeros(2)}},
        {"a": torch.zeros(*[1] * 9)},
        collections.OrderedDict(a=None),
    ],
)
def test_other_trees_are_refused_by_name(tmp_path, tree):
    torch.save(tree, tmp_path / "a.pt")
    with pytest.raises(MaskStoreError):
        read_masks(tmp_path / "a.pt")


def test_an_old_torch_is_refused(tmp_path, monkeypatch):
    supsup_checkpoint(tmp_path / "a.pt", layers={"linear.0": (3, 4, 1, 1)})
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ForeignFileError, match=r"torch 2\.10 or newer"):
        load_torch(tmp_path / "a.pt")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch")
    supsup_checkpoint(folder / "a.pt", layers={"linear.0": (6, 5, 1, 1)}, tasks=2)
    return folder


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_torch_files_raise_only_our_errors(checkpoint, data):
    good = (checkpoint / "a.pt").read_bytes()
    cut = data.draw(st.integers(0, len(good)))
    at = data.draw(st.integers(0, len(good) - 1))
    changed = bytearray(good[:cut] if data.draw(st.booleans()) else good)
    if at < len(changed):
        changed[at] ^= data.draw(st.integers(1, 255))
    path = checkpoint / "b.pt"
    path.write_bytes(changed)
    try:
        read_masks(path)
    except MaskStoreError as error:
        assert "\n" not in str(error)  # noqa: PT017 -- a damaged file may still hold the same masks
