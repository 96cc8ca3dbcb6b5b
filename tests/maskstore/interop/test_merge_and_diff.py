import json

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec
from maskstore.bank import Maintenance
from maskstore.errors import BankExistsError, SpecError, TaskExistsError, TaskNotFoundError
from maskstore.interop import write_shard
from maskstore.interop.diff import diff_banks, diff_tasks
from maskstore.interop.merging import merge
from tests.helpers.commands import maskstore
from tests.helpers.foreign_files import example_bank, supsup_checkpoint


@pytest.fixture
def banks(tmp_path):
    example_bank(tmp_path / "a.bank", seed=0).close()
    example_bank(tmp_path / "b.bank", seed=1, prefix="other-").close()
    return tmp_path


def _rows(path):
    with MaskBank.open(path) as bank:
        return {row.name: (row.codec, row.prior, row.meta, row.extras, row.data) for row in bank.records()}


def test_rows_are_copied_as_they_are(banks):
    with MaskBank.open(banks / "b.bank") as bank:
        write_shard(bank, banks / "b.shard")
    for source in ("b.bank", "b.shard"):
        target = banks / f"from-{source}"
        count, disputed = merge([str(banks / "a.bank"), str(banks / source)], target)
        assert (count, disputed) == (8, [])
        assert _rows(target) == _rows(banks / "a.bank") | _rows(banks / "b.bank")
        with MaskBank.open(target) as merged:
            assert merged.verify() == 8
            assert merged.meta == {"seed": 7, "network": "example"}
            assert list(merged) == [f"{p}{i}" for p in ("task-", "other-") for i in range(4)]


def test_merging_into_a_bank_appends(banks):
    merge([str(banks / "b.bank")], banks / "a.bank")
    with MaskBank.open(banks / "a.bank") as bank:
        assert bank.verify() == 8


def test_a_merge_of_nothing_makes_no_bank(tmp_path):
    with pytest.raises(SpecError, match="expected at least one source"):
        merge([], tmp_path / "new.bank")
    assert not list(tmp_path.iterdir())


def test_clashes_are_listed_and_nothing_is_changed(banks):
    before = _rows(banks / "a.bank")
    example_bank(banks / "c.bank", tasks=6, seed=2).close()
    with pytest.raises(TaskExistsError, match=r"4 task names.*'task-0', 'task-1', 'task-2', 'task-3'$"):
        merge([str(banks / "c.bank")], banks / "a.bank")
    assert _rows(banks / "a.bank") == before
    with pytest.raises(TaskExistsError, match="6 task names"):
        merge([str(banks / "c.bank"), str(banks / "c.bank")], banks / "new.bank")
    assert not (banks / "new.bank").exists()
    merge([str(banks / "c.bank")], banks / "a.bank", overwrite=True)
    assert _rows(banks / "a.bank") == _rows(banks / "c.bank")
    with MaskBank.open(banks / "a.bank") as bank:
        assert list(bank) == [f"task-{i}" for i in range(6)]


def test_renaming_and_prefixes(banks):
    merge(
        [str(banks / "a.bank"), str(banks / "b.bank")], banks / "n.bank", prefix="{source}:", rename={"task-2": "two"}
    )
    with MaskBank.open(banks / "n.bank") as bank, MaskBank.open(banks / "a.bank") as source:
        assert list(bank)[:5] == ["a:task-0", "a:task-1", "two", "a:task-3", "b:other-0"]
        assert bank["two"] == source["task-2"]
        assert bank.verify() == 8
    with pytest.raises(TaskNotFoundError, match="nine"):
        merge([str(banks / "a.bank")], banks / "m.bank", rename={"nine": "ten"})
    with pytest.raises(SpecError, match="1 to 512"):
        merge([str(banks / "a.bank")], banks / "m.bank", prefix="x" * 510)
    assert not (banks / "m.bank").exists()


def test_sorted_masks_are_in_the_order_of_their_numbers(banks, tmp_path):
    with MaskBank.open(banks / "a.bank") as bank:
        mask, names = bank["task-0"], ["task-10", "task-2", "9", "b", "task-02", "task-", "x٣", "7" * 500]
        for number, half in enumerate((names[:4], names[4:])):
            with MaskBank.create(tmp_path / f"{number}.bank", bank.spec) as part:
                for name in half:
                    part.put(name, mask)
    sources = [tmp_path / "1.bank", tmp_path / "0.bank"]
    assert maskstore("merge", *sources, tmp_path / "all.bank", "--sort") == 0
    with MaskBank.open(tmp_path / "all.bank") as merged:
        assert list(merged) == ["9", "7" * 500, "b", "task-", "task-02", "task-2", "task-10", "x٣"]
    merge(sources, tmp_path / "as-they-come.bank")
    with MaskBank.open(tmp_path / "as-they-come.bank") as merged:
        assert list(merged) == names[4:] + names[:4]


def test_of_equal_names_the_later_source_wins_when_sorted(banks, tmp_path):
    example_bank(banks / "c.bank", seed=5).close()
    merge([banks / "a.bank", banks / "c.bank"], tmp_path / "all.bank", overwrite=True, sort=True)
    with MaskBank.open(tmp_path / "all.bank") as merged, MaskBank.open(banks / "c.bank") as last:
        for name in last:
            assert merged[name] == last[name]
        assert merged.verify() == len(merged)


def test_a_merge_that_fails_in_the_middle_leaves_nothing(banks, monkeypatch):
    before, put = _rows(banks / "a.bank"), Maintenance.put_record
    monkeypatch.setattr(
        Maintenance, "put_record", lambda self, row, **how: 1 / 0 if row.name == "other-2" else put(self, row, **how)
    )
    for target in ("a.bank", "new.bank"):
        with pytest.raises(ZeroDivisionError):
            merge([str(banks / "b.bank")], banks / target)
    monkeypatch.undo()
    assert _rows(banks / "a.bank") == before
    assert {path.name.split(".")[0] for path in banks.iterdir()} == {"a", "b"}  # no new bank, no scratch folder


def test_other_specs_and_other_metadata(banks):
    with MaskBank.create(banks / "c.bank", MaskSpec({"fc1": (3,)})) as bank:
        bank.put("x", {"fc1": np.ones(3)})
    with pytest.raises(SpecError, match=r"c\.bank"):
        merge([str(banks / "a.bank"), str(banks / "c.bank")], banks / "n.bank")
    with pytest.raises(SpecError, match=r"a\.bank"):
        merge([str(banks / "c.bank")], banks / "a.bank")
    with MaskBank.open(banks / "a.bank") as bank, MaskBank.create(banks / "d.bank", bank.spec, meta={"seed": 8}):
        pass
    assert merge([str(banks / "a.bank"), str(banks / "d.bank")], banks / "n.bank") == (4, ["seed", "network"])


def test_diff_counts_bits_by_layer(banks):
    with MaskBank.open(banks / "a.bank") as a:
        dense = a["task-1"].dense()
        dense["fc2"][0, :3] ^= True
        with MaskBank.create(banks / "c.bank", a.spec) as c:
            c.put("task-0", a["task-0"], meta=a.task_meta("task-0"))
            c.put("task-1", dense, meta=a.task_meta("task-1"), extras=a.extras("task-1"))
            c.put("new", a["task-2"])
            found = diff_banks(a, c)
            assert not found.same
            assert (found.only_in_a, found.only_in_b) == (("task-2", "task-3"), ("new",))
            assert [task.distance for task in found.tasks] == [0, 3]
            assert {layer.name: layer.distance for layer in found.tasks[1].layers}["fc2"] == 3
            assert all(task.meta_same and task.extras_same for task in found.tasks)
            assert diff_tasks(a, c, "task-2", "new").same  # metadata does not count between two tasks
            assert diff_tasks(a, a, "task-0", "task-2").tasks[0].distance == a["task-0"].hamming(a["task-2"])
        assert diff_banks(a, a).same


def test_diff_command(banks, command):
    code, out, _ = command("diff", banks / "a.bank", banks / "a.bank")
    assert (code, "the same" in out) == (0, True)
    code, out, _ = command("diff", banks / "a.bank", banks / "b.bank", "--json")
    found = json.loads(out)
    assert code == 1
    assert (found["same"], len(found["only_in_a"]), len(found["only_in_b"]), found["tasks"]) == (False, 4, 4, [])
    code, out, _ = command("diff", banks / "a.bank", "--tasks", "task-0", "task-1", "--json")
    (task,) = json.loads(out)["tasks"]
    with MaskBank.open(banks / "a.bank") as bank:
        expected = bank["task-0"].hamming(bank["task-1"])
    assert (code, task["distance"], task["a"], task["b"]) == (1, expected, "task-0", "task-1")
    assert sum(layer["distance"] for layer in task["layers"].values()) == expected
    code, out, _ = command("diff", banks / "a.bank", "--tasks", "task-0", "task-1")
    assert (code, str(expected) in out, "fc1" in out) == (1, True, True)
    assert command("diff", banks / "a.bank")[0] == 2
    assert command("diff", banks / "a.bank", banks / "none.bank")[0] == 1
    assert command("diff", banks / "a.bank", "--tasks", "task-0", "nine")[0] == 1


def test_merge_command(banks, command):
    assert command("merge", banks / "a.bank", banks / "b.bank", banks / "all.bank")[0] == 0
    code, _, err = command("merge", banks / "a.bank", banks / "all.bank")
    assert (code, "'task-3'" in err, err.count("\n")) == (1, True, 1)
    code, out, _ = command("merge", banks / "a.bank", banks / "all.bank", "--prefix", "again/", "--json")
    assert (code, json.loads(out)["merged"]) == (0, 4)
    code, _, _ = command(
        "merge", banks / "a.bank", banks / "r.bank", "--rename", "task-0=zero", "--rename", "task-1=x=y"
    )
    assert code == 0
    with MaskBank.open(banks / "r.bank") as bank:
        assert list(bank) == ["zero", "x=y", "task-2", "task-3"]
    assert command("merge", banks / "all.bank", banks / "all.bank")[0] == 2
    assert command("merge", banks / "a.bank", banks / "r.bank", "--rename", "task-0")[0] == 2
    assert command("merge", banks / "a.bank")[0] == 2


def test_import_and_export_commands(banks, command):
    scores = supsup_checkpoint(banks / "final.pt", layers={"linear.0": (30, 78, 1, 1)}, tasks=3)
    code, out, err = command("import", banks / "final.pt", banks / "s.bank", "--json")
    assert (code, json.loads(out)["tasks"], err) == (0, ["task-0", "task-1", "task-2"], "")
    with MaskBank.open(banks / "s.bank") as bank:
        assert bank.verify() == 3
        assert np.array_equal(bank["task-1"].layer("linear.0"), scores["linear.0.scores.1"][:, :, 0, 0] >= 0)
        assert bank.meta["imported"]["layout"] == "supsup"
        assert bank.task_meta("task-2")["accuracy"] == 0.8
    before = _rows(banks / "s.bank")
    code, _, err = command("import", banks / "final.pt", banks / "s.bank")
    assert (code, "'task-0', 'task-1', 'task-2'" in err) == (1, True)
    assert _rows(banks / "s.bank") == before
    assert command("import", banks / "final.pt", banks / "s.bank", "--name", "more-{}", "--codec", "raw")[0] == 0
    for suffix in ("safetensors", "npz", "shard"):
        out = banks / f"out.{suffix}"
        assert command("export", banks / "s.bank", out)[0] == 0
        assert command("export", banks / "s.bank", out)[0] == 1
        assert command("export", banks / "s.bank", out, "--overwrite")[0] == 0
        verb = "merge" if suffix == "shard" else "import"
        assert command(verb, out, banks / f"{suffix}.bank")[0] == 0
        assert command("diff", banks / "s.bank", banks / f"{suffix}.bank")[0] == 0
        assert _rows(banks / f"{suffix}.bank") == _rows(banks / "s.bank")


def test_an_import_into_a_bank_takes_its_order_of_layers(banks, command):
    with MaskBank.open(banks / "a.bank") as bank:
        np.savez(banks / "m.npz", **dict(reversed(bank["task-1"].dense().items())))
    assert command("import", banks / "m.npz", banks / "a.bank", "--name", "again")[0] == 0
    with MaskBank.open(banks / "a.bank") as bank:
        assert bank["again"] == bank["task-1"]


def test_usage_errors_and_data_errors(banks, command):
    np.save(banks / "v.npy", np.packbits(np.ones(9, dtype=bool)))
    (banks / "shapes.json").write_text('{"a": [3, 3]}')
    (banks / "bad.json").write_text("{")
    good = ["import", banks / "v.npy", banks / "v.bank"]
    for wrong in (
        [],
        ["--shapes", banks / "bad.json"],
        ["--format", "tallmask"],
        ["--shapes", banks / "shapes.json", "--bit-order", "up"],
        ["--shapes", banks / "shapes.json", "--codec", "lzma"],
    ):
        code, _, err = command(*good, *wrong)
        assert (code, err.count("\n")) == (2, 1)
    assert not (banks / "v.bank").exists()
    assert command(*good, "--shapes", banks / "shapes.json", "--bit-order", "little")[0] == 1
    assert not (banks / "v.bank").exists()
    assert command(*good, "--shapes", banks / "shapes.json")[0] == 0
    assert command("import", banks / "v.npy", banks / "a.bank", "--shapes", banks / "shapes.json")[0] == 1
    assert command("import", banks / "none.npy", banks / "x.bank")[0] == 1
    code, _, err = command("import", banks / "a.bank", banks / "x.bank")
    assert (code, "`merge` takes those" in err) == (1, True)
    assert command("export", banks / "a.bank", banks / "out.txt")[0] == 2
    assert command("export", banks / "a.bank", "memory://out.npz")[0] == 2
    assert command("export", banks / "a.bank", banks / "no" / "out.npz")[0] == 1


def test_errors_of_an_import_name_the_option_that_is_missing_or_wrong(banks, command):
    torch = pytest.importorskip("torch")
    torch.save({"fc.scores.0": torch.zeros(4, 5), "fc.weight": torch.zeros(4, 5)}, banks / "bare.pt")
    np.save(banks / "v.npy", np.zeros(2, dtype=np.uint8))
    np.savez(banks / "m.npz", fc1=np.zeros((2, 3), dtype=bool))
    for file, options, status, named in (
        ("v.npy", [], 2, "--shapes"),
        ("bare.pt", [], 2, "--conv-type"),
        ("m.npz", ["--separator", "."], 1, "--separator"),
    ):
        code, _, err = command("import", banks / file, banks / "x.bank", *options)
        assert (code, named in err) == (status, True), err


def test_the_count_is_that_of_the_masks_in_the_bank(banks):
    count, _ = merge([banks / "a.bank", banks / "a.bank"], banks / "all.bank", overwrite=True)
    assert count == 4


def test_a_single_path_is_no_list_of_sources(banks):
    with pytest.raises(SpecError, match="expected a list"):
        merge(str(banks / "a.bank"), banks / "all.bank")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"seed": 1}, {"seed": 2}, False),
        ({"seed": 1}, {}, False),
        ({"flag": 1}, {"flag": True}, False),
        ({"a": [{"b": 0}]}, {"a": [{"b": False}]}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [1]}, {"a": {"0": 1}}, False),
        ({"a": 1, "b": None}, {"b": None, "a": 1.0}, True),
    ],
)
def test_metadata_of_banks_and_tasks_is_compared(tmp_path, command, one, other, same):
    masks, spec = {"fc1": np.eye(4, dtype=bool)}, MaskSpec({"fc1": (4, 4)})
    paths = {}
    for name, of_bank, of_task in (("a", one, {}), ("b", other, {}), ("c", {}, one), ("d", {}, other)):
        paths[name] = tmp_path / f"{name}.bank"
        with MaskBank.create(paths[name], spec, meta=of_bank) as bank:
            bank.put("t", masks, meta=of_task)
    for a, b, part in (("a", "b", "bank"), ("c", "d", "task")):
        with MaskBank.open(paths[a]) as left, MaskBank.open(paths[b]) as right:
            found = diff_banks(left, right)
        assert found.same is same
        assert found.meta_same is (same or part == "task")
        assert found.tasks[0].meta_same is (same or part == "bank")
        code, out, _ = command("diff", paths[a], paths[b])
        assert code == (0 if same else 1)
        assert ("metadata of the banks themselves: different" in out) is not found.meta_same
        assert json.loads(command("diff", paths[a], paths[b], "--json")[1])["meta_same"] is found.meta_same
        assert command("diff", paths[a], paths[b], "--tasks", "t", "t")[0] == 0  # only their bits
    if not same:
        with pytest.raises(BankExistsError, match="expected a bank of the same metadata"):
            MaskBank.create(paths["a"], spec, meta=other, exist_ok=True)
    _, disputed = merge([paths["a"], paths["b"]], tmp_path / "merged.bank", overwrite=True)
    assert bool(disputed) is not same


def test_the_order_of_extra_arrays_is_no_difference(tmp_path):
    extras = {"mean": np.arange(3.0), "count": np.array([np.nan, 1], dtype=np.float32)}
    spec = MaskSpec({"a": (2, 2)})
    with MaskBank.create(tmp_path / "a.bank", spec) as a, MaskBank.create(tmp_path / "b.bank", spec) as b:
        a.put("t", {"a": np.eye(2)}, extras=extras)
        for given, same in (
            (dict(reversed(extras.items())), True),
            (extras | {"more": np.zeros(1)}, False),
            ({"mean": extras["mean"]}, False),
            (extras | {"mean": np.arange(3.0, dtype=np.float32)}, False),
            (extras | {"mean": np.arange(3.0)[None]}, False),
            (extras | {"mean": -np.arange(3.0)}, False),
        ):
            b.put("t", {"a": np.eye(2)}, extras=given, overwrite=True)
            assert diff_banks(a, b).same is same
