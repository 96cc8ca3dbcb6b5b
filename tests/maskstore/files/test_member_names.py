"""Names of arrays in zip files: as they are where that is safe, else escaped, and always the same when read."""

import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstore import MaskBank, MaskSpec
from maskstore.files import read_npz, write_npz
from maskstore.interop import read_masks
from maskstore.interop import write_npz as export_npz
from tests.helpers.commands import maskstore
from tests.helpers.masks import names

UNSAFE = [
    "../../../x",
    "/etc/x",
    "a/../b",
    "..",
    ".",
    "a//b",
    "a/",
    "..\\x",
    "C:x",
    "C:\\x",
    "a\nb",
    "\x7f",
    "%41",
    "a/./b",
]


def _is_inside(member: str) -> bool:
    return all(
        not path.is_absolute() and not path.drive and ".." not in path.parts and str(path) not in (".", "")
        for path in (PurePosixPath(member), PureWindowsPath(member))
    )


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_names_stay_inside_and_come_back(tmp_path, name):
    with MaskBank.create(tmp_path / "a.bank", MaskSpec({name: (3,), "fc": (2,)})) as bank:
        bank.put("t", {name: [1, 0, 1], "fc": [0, 1]}, extras={name: np.arange(2)})
        export_npz(bank, tmp_path / "a.npz")
        found = read_masks(tmp_path / "a.npz")
        assert found.tasks[0].mask == bank["t"]
        assert list(found.tasks[0].extras) == [name]
    assert maskstore("get", str(tmp_path / "a.bank"), "t", "-o", str(tmp_path / "m.npz")) == 0
    assert maskstore("put", str(tmp_path / "b.bank"), "t", str(tmp_path / "m.npz"), "--create") == 0
    with MaskBank.open(tmp_path / "b.bank") as bank:
        assert bank.layer("t", name).tolist() == [True, False, True]
    for file in ("a.npz", "m.npz"):
        with zipfile.ZipFile(tmp_path / file) as archive:
            assert all(map(_is_inside, archive.namelist()))


@given(names=st.lists(names | st.sampled_from(UNSAFE), unique=True, max_size=5))
def test_any_name_comes_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "names.npz"
    write_npz(path, {name: np.arange(i) for i, name in enumerate(names)}, overwrite=True)
    assert {name: array.size for name, array in read_npz(path).items()} == {name: i for i, name in enumerate(names)}
    with zipfile.ZipFile(path) as archive:
        assert all(map(_is_inside, archive.namelist()))


@pytest.mark.parametrize(
    "name", ["fc1", "layer1.0.conv1.weight", "masks/fc1", "a b", "é", "..a", "a..b", "50%", "a.npy"]
)
def test_usual_names_are_written_as_they_are(tmp_path: Path, name: str) -> None:
    write_npz(tmp_path / "a.npz", {name: np.zeros(1)})
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.namelist() == [f"{name}.npy"]


@pytest.mark.parametrize("member", ["%41.npy", "%zz.npy", "%.npy", "../x.npy", "%2e%2e.npy"])
def test_names_that_others_wrote_are_taken_as_they_are(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open(member, "w") as file:
        np.save(file, np.zeros(1))
    assert list(read_npz(tmp_path / "a.npz")) == [member.removesuffix(".npy")]
