import io
import json
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from maskstore import MaskBank, MaskSpec
from maskstore.errors import BankNotFoundError, ForeignFileError, ImportOptionError, MaskStoreError
from maskstore.files.npz import read_npz, write_npz
from maskstore.interop import ReadOptions, read_masks
from maskstore.interop.model import read_shapes
from tests.helpers.masks import masks, random_mask, specs


def _write(path, arrays):
    if path.suffix == ".npz":
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)
    else:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(path))
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32, np.int64])
def test_one_array_a_layer_is_one_task(tmp_path, suffix, dtype):
    dense = {"fc1": np.eye(3, 5), "fc2": np.ones((2, 3)), "b": np.zeros(0)}
    path = _write(tmp_path / f"mask{suffix}", {name: array.astype(dtype) for name, array in dense.items()})
    found = read_masks(path)
    assert found.layout == "arrays"
    assert [task.name for task in found.tasks] == ["mask"]
    assert all(np.array_equal(found.tasks[0].mask.layer(name), array == 1) for name, array in dense.items())


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_names_may_start_with_the_task(tmp_path, suffix):
    arrays = {f"{task}/{layer}": np.full(4, task == "b") for task in "ab" for layer in ("x/1", "y")}
    path = _write(tmp_path / f"m{suffix}", arrays)
    found = read_masks(path, ReadOptions(separator="/", name="run-{}"))
    assert {task.name: task.mask.ones for task in found.tasks} == {"run-a": 0, "run-b": 8}
    assert set(found.spec.shapes) == {"x/1", "y"}
    with pytest.raises(ForeignFileError, match="separator"):
        read_masks(path, ReadOptions(separator=":"))
    with pytest.raises(ImportOptionError, match=r"\{\}"):
        read_masks(path, ReadOptions(separator="/", name="one"))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@given(mask=masks(), order=st.sampled_from(["big", "little"]))
def test_packed_layers_come_back_given_their_shapes(tmp_path_factory, suffix, mask, order):
    path = tmp_path_factory.mktemp("packed") / f"m{suffix}"
    names = {name: f"layer{i}" for i, name in enumerate(mask.spec.shapes)}  # zip and JSON have their own taste in names
    arrays = {names[name]: np.packbits(array, bitorder=order) for name, array in mask.dense().items()}
    shapes = {names[name]: shape for name, shape in mask.spec.shapes.items()}
    found = read_masks(_write(path, arrays), ReadOptions(shapes=shapes, bit_order=order, layout="arrays"))
    assert list(found.spec.shapes.values()) == list(mask.spec.shapes.values())
    if not all(shape == ((int(np.prod(shape)) + 7) // 8,) for shape in shapes.values()):
        assert np.array_equal(found.tasks[0].mask.flat(), mask.flat())


def test_packed_layers_need_shapes_zero_padding_and_their_length(tmp_path):
    path = _write(tmp_path / "m.npz", {"a": np.packbits(np.ones(12, dtype=bool))})
    with pytest.raises(ForeignFileError, match="need `shapes`"):
        read_masks(path)
    with pytest.raises(ForeignFileError, match="is the bit order really little"):
        read_masks(path, ReadOptions(shapes={"a": (12,)}, bit_order="little"))
    with pytest.raises(ForeignFileError, match="expected 3 packed bytes for 17 bits"):
        read_masks(path, ReadOptions(shapes={"a": (17,)}))
    with pytest.raises(ForeignFileError, match="layer 'a'"):
        read_masks(path, ReadOptions(shapes={"b": (12,)}, layout="arrays"))
    assert read_masks(path, ReadOptions(shapes={"a": (12,)})).tasks[0].mask.ones == 12


@pytest.mark.parametrize("order", ["sorted", "given"])
@given(spec=specs(), count=st.integers(1, 3), bit_order=st.sampled_from(["big", "little"]), packed=st.booleans())
def test_tall_masks_vectors(tmp_path_factory, order, spec, count, bit_order, packed):
    path = tmp_path_factory.mktemp("tall") / "TALL_mask.npy"
    expected = [random_mask(spec, 0.4, seed) for seed in range(count)]
    names = sorted(spec.shapes) if order == "sorted" else list(spec.shapes)
    flat = np.array([np.concatenate([m.layer(name).reshape(-1) for name in names]) for m in expected])
    np.save(path, np.packbits(flat, axis=1, bitorder=bit_order) if packed else flat)
    found = read_masks(path, ReadOptions(shapes=spec.shapes, vector_order=order, bit_order=bit_order))
    assert found.layout == "tall-masks"
    assert [task.mask for task in found.tasks] == expected
    assert [task.name for task in found.tasks] == [f"task-{i}" for i in range(count)]


def test_one_vector_is_one_task_and_needs_shapes(tmp_path):
    np.save(tmp_path / "cars.npy", np.packbits(np.ones(10, dtype=bool)))
    with pytest.raises(ImportOptionError, match="expected `shapes`"):
        read_masks(tmp_path / "cars.npy")
    (task,) = read_masks(tmp_path / "cars.npy", ReadOptions(shapes={"a": (2, 5)})).tasks
    assert (task.name, task.mask.ones) == ("cars", 10)
    with pytest.raises(ForeignFileError, match="expected 3 packed bytes"):
        read_masks(tmp_path / "cars.npy", ReadOptions(shapes={"a": (17,)}))
    with pytest.raises(ImportOptionError, match=r"tall-masks for an \.npy"):
        read_masks(tmp_path / "cars.npy", ReadOptions(layout="prune", shapes={"a": (10,)}))


def test_shapes_files(tmp_path):
    (tmp_path / "s.json").write_text('{"fc1": [300, 784], "b": []}')
    assert read_shapes(tmp_path / "s.json") == {"fc1": (300, 784), "b": ()}
    for text in ("[]", "{}", '{"a": 3}', '{"a": [-1]}', '{"a": [1], "a": [2]}', "{", "[" * 100_000):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(ImportOptionError, match="layer shapes"):
            read_shapes(tmp_path / "s.json")
    with pytest.raises(ImportOptionError):
        read_shapes(tmp_path / "none.json")
    for field, value in (("layout", "pth"), ("bit_order", "middle"), ("vector_order", "random")):
        with pytest.raises(ImportOptionError, match=value):
            ReadOptions(**{field: value})


def _npy(shape: str, dtype: str = "'|u1'", data: bytes = b"", version: int = 1) -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_npy("(1 << 60,)"), "header"),
        (_npy("(1152921504606846976,)"), "found 0 bytes"),
        (_npy("(-1, -1)", data=b"x"), "found 1 bytes"),
        (_npy("(3,)", data=b"xx"), "found 2 bytes"),
        (_npy("(3,)", data=b"xxxx"), "found 4 bytes"),
        (_npy("(1,)", "'|O'", b"\x80\x02."), "only unpickling"),
        (_npy("(1,)", "[('a', '|O')]", b"\x80\x02."), "only unpickling"),
        (_npy("(1,)", "'<U1'", b"aaaa"), "dtype <U1"),
        (_npy("(1,)", "[('a', '|u1')]", b"a"), "expected bools, integers or floats"),
        (_npy("(1,)", "'zzz'"), "header"),
        (_npy("(1,)", data=b"a", version=9), "version"),
        (_npy("__import__('os').getcwd()"), "header"),
        (b"\x93NUMPY", "header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header"),
        (_npy("(" * 5000), "header"),
    ],
)
@pytest.mark.parametrize("inside_zip", [False, True])
def test_hostile_npy_headers(tmp_path, data, message, inside_zip):
    path = tmp_path / ("a.npz" if inside_zip else "a.npy")
    if inside_zip:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", data)
    else:
        path.write_bytes(data)
    with pytest.raises(ForeignFileError, match=message):
        read_masks(path, ReadOptions(shapes={"a": (8,)}))


def test_fortran_order_and_names_that_end_like_files(tmp_path):
    arrays = {
        "a": np.asfortranarray(np.eye(3, 2, dtype=bool)),
        "a.npy": np.zeros((3, 2), dtype=bool),
        "file": np.ones(()),  # names that numpy's writer takes for its own arguments
        "allow_pickle": np.zeros(0),
    }
    write_npz(tmp_path / "m.npz", arrays)
    read = read_npz(tmp_path / "m.npz")
    assert list(read) == list(arrays)
    assert all(np.array_equal(read[name], array) for name, array in arrays.items())
    assert np.array_equal(np.load(tmp_path / "m.npz")["file"], 1.0)


def test_hostile_zips(tmp_path):
    path, buffer = tmp_path / "a.npz", io.BytesIO()
    np.save(buffer, np.ones(4, dtype=bool))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", buffer.getvalue())
    with pytest.raises(ForeignFileError, match="stored or deflated"):
        read_masks(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ForeignFileError, match=r"only \.npy members"):
        read_masks(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", buffer.getvalue())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.npy", buffer.getvalue())
    with pytest.raises(ForeignFileError, match="one name twice"):
        read_masks(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", buffer.getvalue())
    claimed = path.read_bytes().replace(struct.pack("<I", len(buffer.getvalue())), struct.pack("<I", 0xFFFFFFF0))
    path.write_bytes(claimed)
    with pytest.raises(ForeignFileError, match=r"claimed|expected an \.npz"):
        read_masks(path)
    path.write_bytes(claimed[:100])
    with pytest.raises(ForeignFileError):
        read_masks(path)


def _safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


_GOOD = {"a": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}


@pytest.mark.parametrize(
    "data",
    [
        _safetensors(_GOOD, b"\1"),
        _safetensors(_GOOD, b"\1\0\0"),
        _safetensors(_GOOD, b"\1\2"),
        _safetensors(_GOOD, b"\1\0", length=1 << 62),
        _safetensors(_GOOD, b"\1\0", length=101_000_000),
        _safetensors({"a": {"dtype": "F12", "shape": [2], "data_offsets": [0, 2]}}, b"\1\0"),
        _safetensors({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, b"\1\0"),
        _safetensors({"a": {"dtype": "BOOL", "shape": [1 << 40], "data_offsets": [0, 2]}}, b"\1\0"),
        _safetensors({"a": {"dtype": "BOOL", "shape": [1 << 62, 4], "data_offsets": [0, 0]}}),
        _safetensors({"a": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 1 << 40]}}, b"\1\0"),
        _safetensors({"a": {"dtype": "BOOL", "shape": [2], "data_offsets": [2, 0]}}, b"\1\0"),
        _safetensors(b"{" + b'"a":{' * 10_000),
        _safetensors(b'{"a":' + b"[" * 100_000),
        _safetensors({}),
        _safetensors({"__metadata__": {"maskstore": "{"}, **_GOOD}, b"\1\0"),
        _safetensors({"__metadata__": {"maskstore": "[" * 100_000}, **_GOOD}, b"\1\0"),
        _safetensors({"__metadata__": {"maskstore": '{"layout": 9}'}, **_GOOD}, b"\1\0"),
        _safetensors({"__metadata__": {"maskstore": '{"layout": 1}'}, **_GOOD}, b"\1\0"),
    ],
)
def test_hostile_safetensors(tmp_path, data):
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(MaskStoreError) as caught:
        read_masks(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)


def test_other_files_are_named(tmp_path):
    with pytest.raises(BankNotFoundError):
        read_masks(tmp_path / "none.pt")
    with pytest.raises(ForeignFileError, match="folder"):
        read_masks(tmp_path)
    for data in (b"", b"hello", b"SQLite format 3\0" + bytes(100), b"MSKSHARD" + bytes(100), b"PK\3\4broken"):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(ForeignFileError):
            read_masks(tmp_path / "x")
    MaskBank.create(tmp_path / "a.bank", MaskSpec({"fc1": (3, 5)})).close()
    with pytest.raises(ForeignFileError, match="`merge` takes those"):
        read_masks(tmp_path / "a.bank")


@given(data=st.data())
def test_damaged_npz_files_raise_only_our_errors(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "fuzz.npz"
    good = _write(path, {"a": np.eye(5, dtype=bool), "b": np.ones(9, dtype=np.uint8)}).read_bytes()
    changed = bytearray(good[: data.draw(st.integers(0, len(good)))] if data.draw(st.booleans()) else good)
    if changed:
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        found = read_masks(path)
    except MaskStoreError:
        return
    # what the zip's own CRC does not cover are names, dates and flags
    assert {mask for task in found.tasks for mask in [task.mask.ones]} <= {5 + 9}
