import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from maskstore import MaskBank
from maskstore.errors import BankExistsError, ForeignFileError
from maskstore.interop import ReadOptions, ShardReader, exchange, read_masks, write_npz, write_safetensors, write_shard
from maskstore.interop.merging import store
from maskstore.priors import SeededScores
from tests.helpers.foreign_files import example_bank
from tests.helpers.masks import masks, names, specs

WRITERS = {".safetensors": write_safetensors, ".npz": write_npz}


def _same_bank(a: MaskBank, b: MaskBank) -> None:
    assert list(a) == list(b)
    assert (a.spec, a.meta) == (b.spec, b.meta)
    for name in a:
        assert a[name] == b[name]
        assert a.info(name)._replace(coded_bytes=0) == b.info(name)._replace(coded_bytes=0)
        left, right = a.extras(name), b.extras(name)
        assert list(left) == list(right)
        for key, value in left.items():
            assert value.dtype == right[key].dtype
            assert np.array_equal(value, right[key])


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_bank_goes_out_and_comes_back_the_same(tmp_path, suffix):
    out = tmp_path / f"bank{suffix}"
    with example_bank(tmp_path / "a.bank") as bank:
        WRITERS[suffix](bank, out)
        found = read_masks(out)
        assert found.layout == "maskstore"
        assert found.tasks[1].prior == SeededScores(7, 1)
        assert store(found, tmp_path / "b.bank", codec=None, overwrite=False) == 4
        with MaskBank.open(tmp_path / "b.bank") as back:
            _same_bank(bank, back)
    named = read_masks(out, ReadOptions(name="old/{}"))
    assert [task.name for task in named.tasks] == [f"old/task-{i}" for i in range(4)]
    assert [task.meta for task in named.tasks] == [task.meta for task in found.tasks]


@pytest.mark.parametrize("suffix", WRITERS)
@given(data=st.data(), spec=specs(), task_names=st.lists(names, unique=True, max_size=3))
def test_any_names_shapes_and_masks_round_trip(tmp_path_factory, suffix, data, spec, task_names):
    folder = tmp_path_factory.mktemp("exchange")
    with MaskBank.create(folder / "a.bank", spec) as bank:
        for name in task_names:
            bank.put(name, data.draw(masks(spec)), meta={name: name}, codec="raw")
        WRITERS[suffix](bank, folder / f"a{suffix}")
        found = read_masks(folder / f"a{suffix}")
        assert found.spec == spec
        assert [(task.name, task.mask, task.meta) for task in found.tasks] == [
            (name, bank[name], {name: name}) for name in task_names
        ]


def test_other_programs_find_plain_packed_arrays(tmp_path):
    with example_bank(tmp_path / "a.bank") as bank:
        write_safetensors(bank, tmp_path / "a.safetensors")
        with safe_open(str(tmp_path / "a.safetensors"), framework="numpy") as file:
            header = json.loads(file.metadata()["maskstore"])
            packed = file.get_tensor("masks/fc1")  # (tasks, bytes), least significant bit first
        assert [task["name"] for task in header["tasks"]] == list(bank)
        dense = np.unpackbits(packed, axis=1, count=13 * 7, bitorder="little").reshape(4, 13, 7)
        assert all(np.array_equal(dense[i], bank[name].layer("fc1")) for i, name in enumerate(bank))


def test_a_shard_can_be_exported_too(tmp_path):
    with example_bank(tmp_path / "a.bank") as bank:
        write_shard(bank, tmp_path / "a.shard")
        write_npz(bank, tmp_path / "a.npz")
        with ShardReader(tmp_path / "a.shard") as shard:
            write_npz(shard, tmp_path / "b.npz")
    a, b = read_masks(tmp_path / "a.npz"), read_masks(tmp_path / "b.npz")
    assert [task.mask for task in a.tasks] == [task.mask for task in b.tasks]


@pytest.mark.parametrize("suffix", WRITERS)
def test_files_are_not_replaced_unasked_nor_left_half_written(tmp_path, suffix, monkeypatch):
    out = tmp_path / f"out{suffix}"
    with example_bank(tmp_path / "a.bank") as bank:
        WRITERS[suffix](bank, out)
        before = out.read_bytes()
        with pytest.raises(BankExistsError, match="overwrite"):
            WRITERS[suffix](bank, out)
        files = set(tmp_path.iterdir())
        monkeypatch.setattr(exchange, "_LAYOUT_VERSION", object())  # fails while the header is written
        with pytest.raises(TypeError):
            WRITERS[suffix](bank, out, overwrite=True)
        assert set(tmp_path.iterdir()) == files
        assert out.read_bytes() == before
    assert out.stat().st_mode & 0o444  # like any other file, not only its owner's


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays, header: arrays.pop("masks/fc1"), "masks/fc1: expected uint8"),
        (lambda arrays, header: arrays.update({"masks/fc1": arrays["masks/fc1"][:2]}), r"\(4, 12\)"),
        (lambda arrays, header: arrays.update({"masks/fc1": arrays["masks/fc1"] | 255}), "zero padding"),
        (lambda arrays, header: arrays.update({"masks/zz": arrays["masks/fc1"]}), "masks/zz"),
        (lambda arrays, header: arrays.pop("extras/1/mean"), "extra arrays of row 1"),
        (lambda arrays, header: header["tasks"].pop(), r"\(3, 12\)"),
        (lambda arrays, header: header["tasks"][0].pop("meta"), "row 0"),
        (lambda arrays, header: header["tasks"][1].update(extras=[3]), "row 1"),
        (lambda arrays, header: header.update(layout=2), "layout 1 to 1, found 2"),
        (lambda arrays, header: header.update(bit_order="big"), "header"),
        (lambda arrays, header: header.update(spec=[["a"]]), "spec"),
        (lambda arrays, header: header.update(spec=[["a", [-1]]]), ">= 0"),
    ],
)
def test_files_that_contradict_their_header_are_refused(tmp_path, change, message):
    with example_bank(tmp_path / "a.bank") as bank:
        arrays, text = exchange.to_arrays(bank)
    header = json.loads(text)
    change(arrays, header)
    arrays["maskstore"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with (tmp_path / "a.npz").open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(ForeignFileError, match=message):
        read_masks(tmp_path / "a.npz")


def test_a_codec_or_prior_from_a_newer_version_does_not_matter(tmp_path):
    with example_bank(tmp_path / "a.bank") as bank:
        arrays, text = exchange.to_arrays(bank)
        header = json.loads(text)
        header["tasks"][0].update(codec={"id": "magic"}, prior={"id": "oracle"})
        found = exchange.from_arrays(arrays, header, tmp_path / "a", ReadOptions())
        assert found.tasks[0].mask == bank["task-0"]
        assert (found.tasks[0].codec, found.tasks[0].prior) == (None, None)
