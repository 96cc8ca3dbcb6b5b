"""Data sets: the embedded one, where files are looked for, and that the wrong files are refused."""

import dataclasses
import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from supsup_models.data import DataSet, load_data_set
from supsup_models.data.sets import find as lookup_module
from supsup_models.data.sets import load as sources_module
from supsup_models.data.sets import mnist as known_module
from supsup_models.data.sets.mnist import FASHION_MNIST, IDX_FILES, MNIST, IdxDataSet
from supsup_models.errors import DataFormatError, DataNotFoundError, DownloadError, UnknownDataSetError


def small_files(seed: int) -> dict[str, bytes]:
    """Four IDX files as of a data set of 6 and 4 images of 2 x 3 pixels."""
    random = np.random.default_rng(seed)
    files = {}
    for name, count in zip(IDX_FILES, (6, 6, 4, 4), strict=True):
        if "images" in name:
            header = b"\0\0\x08\x03" + bytes([0, 0, 0, count, 0, 0, 0, 2, 0, 0, 0, 3])
            files[name] = header + random.integers(0, 256, count * 6, dtype=np.uint8).tobytes()
        else:
            header = b"\0\0\x08\x01" + bytes([0, 0, 0, count])
            files[name] = header + random.integers(0, 10, count, dtype=np.uint8).tobytes()
    return files


FILES = {"mnist": small_files(1), "fashion-mnist": small_files(2)}


@pytest.fixture(autouse=True)
def small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both data sets are the small ones; the user's cache and the system folder are below `tmp_path`."""
    known = {}
    for data_set in (MNIST, FASHION_MNIST):
        hashes = {name: hashlib.sha256(FILES[data_set.name][name]).hexdigest() for name in IDX_FILES}
        packaged = data_set.packaged and tmp_path / "system"
        urls = ((tmp_path / "nowhere").as_uri() + "/", (tmp_path / "server" / data_set.name).as_uri() + "/")
        known[data_set.name] = dataclasses.replace(data_set, sha256=hashes, packaged=packaged, urls=urls)
    for module in (known_module, lookup_module, sources_module):
        monkeypatch.setattr(module, "IDX_DATA_SETS", known)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MASKSTORE_DATA", raising=False)


def put(folder: Path, name: str, *, zipped: bool = True, only: tuple[str, ...] = IDX_FILES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file in only:
        body = FILES[name][file]
        (folder / (f"{file}.gz" if zipped else file)).write_bytes(gzip.compress(body) if zipped else body)
    return folder


def is_data_set(loaded: DataSet, name: str) -> bool:
    return loaded.name == name and loaded.train.images.tobytes() == FILES[name][IDX_FILES[0]][16:]


def test_digits_are_split_the_same_way_for_ever() -> None:
    digits = load_data_set("digits")
    assert digits.train.images.shape == (1437, 64)
    assert digits.test.images.shape == (360, 64)
    assert digits.train.images.dtype == np.uint8
    assert digits.train.labels.dtype == np.int64
    np.testing.assert_array_equal(np.bincount(digits.test.labels), [36] * 10)
    split = hashlib.sha256(digits.test.images.tobytes() + digits.test.labels.astype("<i8").tobytes()).hexdigest()
    assert split[:16] == "f98595a830359592"
    assert digits.sha256["digits"][:16] == "65e5b4619795efb4"
    scaled = digits.train.images / digits.levels
    assert (round(scaled.mean(), 4), round(scaled.std(), 4)) == (digits.mean, digits.std)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
def test_the_given_folder_or_one_below_it(tmp_path: Path, zipped: bool, below: str) -> None:
    put(tmp_path / "data" / below, "mnist", zipped=zipped)
    loaded = load_data_set("mnist", data=tmp_path / "data")
    assert is_data_set(loaded, "mnist")
    assert (loaded.image_shape, loaded.inputs, loaded.levels) == ((1, 2, 3), 6, 255)
    assert loaded.train.labels.dtype == np.int64


def test_a_parent_of_both_gives_the_one_asked_for(tmp_path: Path) -> None:
    for name in FILES:
        put(tmp_path / name, name)
    for name in FILES:
        assert is_data_set(load_data_set(name, data=tmp_path), name)


def test_places_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = sources_module.IDX_DATA_SETS["fashion-mnist"]
    assert wanted.packaged is not None
    put(wanted.packaged, "fashion-mnist")
    assert lookup_module.find_folder(wanted) == wanted.packaged
    cache = put(tmp_path / "cache" / "maskstore" / "fashion-mnist", "fashion-mnist")
    assert lookup_module.find_folder(wanted) == cache
    named = put(tmp_path / "named", "fashion-mnist")
    monkeypatch.setenv("MASKSTORE_DATA", str(named))
    assert lookup_module.find_folder(wanted) == named
    given = put(tmp_path / "given", "fashion-mnist")
    assert lookup_module.find_folder(wanted, given) == given
    with pytest.raises(DataNotFoundError, match=r"the given folder .*absent \(no such folder\);"):
        lookup_module.find_folder(wanted, tmp_path / "absent")  # never silently another place


def test_nothing_found_says_what_where_and_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKSTORE_DATA", str(tmp_path / "named"))
    with pytest.raises(DataNotFoundError) as caught:
        load_data_set("fashion-mnist")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "Fashion-MNIST",
        IDX_FILES[0],
        "$MASKSTORE_DATA",
        "cache",
        "system",
        "give it as `data`",
        "apt install dataset",
    ):
        assert part in message


def test_the_wrong_data_set_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "fashion-mnist")
    with pytest.raises(DataFormatError, match=f"^expected MNIST, found Fashion-MNIST in {tmp_path}$"):
        load_data_set("mnist", data=tmp_path)


def test_another_data_set_under_the_variable_hides_no_later_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKSTORE_DATA", str(put(tmp_path / "named", "mnist")))
    with pytest.raises(DataFormatError, match="expected Fashion-MNIST, found MNIST in"):
        load_data_set("fashion-mnist")
    put(tmp_path / "system", "fashion-mnist")
    assert is_data_set(load_data_set("fashion-mnist"), "fashion-mnist")


def test_one_foreign_file_among_the_right_ones_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "mnist")
    put(tmp_path, "fashion-mnist", only=IDX_FILES[:1])
    with pytest.raises(DataFormatError, match=r"expected MNIST, found Fashion-MNIST in .*train-images"):
        load_data_set("mnist", data=tmp_path)
    (tmp_path / IDX_FILES[0]).write_bytes(FILES["mnist"][IDX_FILES[0]][:-1] + b"!")
    with pytest.raises(DataFormatError, match=r"expected MNIST, found a file with SHA-256 .*train-images"):
        load_data_set("mnist", data=tmp_path)


def test_a_folder_that_lacks_a_file_is_named(tmp_path: Path) -> None:
    put(tmp_path, "mnist", only=IDX_FILES[1:])
    with pytest.raises(DataNotFoundError, match=f"{tmp_path} lacks {IDX_FILES[0]};"):
        load_data_set("mnist", data=tmp_path)


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(UnknownDataSetError, match="did you mean 'digits'"):
        load_data_set("digit")


def test_a_download_is_kept_and_found_again(tmp_path: Path) -> None:
    put(tmp_path / "server" / "mnist", "mnist")
    assert is_data_set(load_data_set("mnist", download=True), "mnist")
    cache = tmp_path / "cache" / "maskstore" / "mnist"
    assert sorted(path.name for path in cache.iterdir()) == sorted(f"{name}.gz" for name in IDX_FILES)
    assert is_data_set(load_data_set("mnist"), "mnist")


def test_a_wrong_download_leaves_nothing_behind(tmp_path: Path) -> None:
    server = tmp_path / "server" / "mnist"
    put(server, "fashion-mnist")
    with pytest.raises(DownloadError, match="expected MNIST, found Fashion-MNIST in what came") as caught:
        load_data_set("mnist", download=True)
    assert "nowhere" in str(caught.value)  # the first address is accounted for too
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache" / "maskstore" / "mnist").iterdir()) == []


def test_a_damaged_cache_is_healed_by_a_download(tmp_path: Path) -> None:
    put(tmp_path / "server" / "mnist", "mnist")
    cache = put(tmp_path / "cache" / "maskstore" / "mnist", "mnist")
    damaged = cache / f"{IDX_FILES[3]}.gz"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    with pytest.raises(DataFormatError, match="cut short"):
        load_data_set("mnist")
    assert is_data_set(load_data_set("mnist", download=True), "mnist")
    assert is_data_set(load_data_set("mnist"), "mnist")


def test_a_download_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    put(tmp_path / "server" / "mnist", "mnist")
    (tmp_path / "cache").write_bytes(b"a file where a folder should be")
    with pytest.raises(DownloadError, match="cannot be written"):
        load_data_set("mnist", download=True)


def test_each_known_file_has_a_hash_of_its_own() -> None:
    hashes = [sha256 for data_set in (MNIST, FASHION_MNIST) for sha256 in data_set.sha256.values()]
    assert len(set(hashes)) == 8
    assert all(len(sha256) == 64 for sha256 in hashes)
    assert isinstance(MNIST, IdxDataSet)
