"""Shards of a run, each trained by itself, and the run that is merged of them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from maskstore import MaskBank
from supsup_models.cli.app import run_command
from supsup_models.data import open_stream
from supsup_models.errors import DataNotFoundError, RunError, ShardError
from supsup_models.networks.convert import convert
from supsup_models.runs import Run, RunRecord, Shard, evaluate_run, merge_runs, run_config, seed_folders, train_run
from tests.helpers.commands import error_of
from tests.helpers.runs import assert_same_run

TASKS = 12
CONFIG = run_config("permuted-digits", tasks=TASKS, outputs=40, batches=10, recipe="dense", seed=3)
WORDS = [
    *("--stream", "permuted-digits", "--tasks", str(TASKS), "--outputs", "40", "--batches", "10"),
    *("--recipe", "dense", "--seed", "3"),
]


def shards(folder: Path, count: int = 3, **changes: object) -> list[Path]:
    """The shards of a run in folders of their own."""
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    folders = [folder / f"shard-{index}" for index in range(count)]
    for index, each in enumerate(folders):
        train_run(config, each, shard=Shard(index, count))
    return folders


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return shards(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    train_run(CONFIG, folder)
    return folder


def test_a_shard_has_its_tasks_under_their_own_numbers(parts: list[Path]) -> None:
    for index, part in enumerate(parts):
        with MaskBank.open(part / "masks.bank") as bank:
            assert list(bank) == [f"task-{number}" for number in range(index, TASKS, 3)]
        assert RunRecord.read(part).shard == Shard(index, 3)


def test_merged_shards_are_the_run_of_one_process(parts: list[Path], whole: Path, tmp_path: Path) -> None:
    merged = merge_runs([parts[2], parts[0], parts[1]], tmp_path / "run")
    assert merged.notes == ()
    assert_same_run(tmp_path / "run", whole)
    record = RunRecord.read(tmp_path / "run")
    assert merged.records == (record,)
    histories = [RunRecord.read(part).history for part in parts]
    assert record.history is not None
    assert record.history.seconds == pytest.approx(sum(each.seconds for each in histories if each), abs=0.02)
    assert record.history.started == min(each.started for each in histories if each)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_merged_run_goes_on_and_is_used_as_any_other(parts: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()  # an empty one
    merge_runs(parts, run)
    assert train_run(CONFIG, run).new_tasks == 0
    assert train_run(replace(CONFIG, tasks=TASKS + 1), run).new_tasks == 1
    assert evaluate_run(run, "GG", limit=26).tasks == TASKS + 1
    np.save(tmp_path / "images.npy", open_stream("permuted-digits", seed=3)[4].test.images(slice(0, 2)).numpy())
    for words in (["infer", run, tmp_path / "images.npy"], ["report", run, "--limit", "0"]):
        assert run_command([str(word) for word in words]) == 0


def test_a_shard_is_a_run_that_can_be_used(parts: list[Path]) -> None:
    assert evaluate_run(parts[1], "GNu", limit=20).tasks == 4


def test_a_shard_goes_on_where_it_stopped_and_with_more_tasks(tmp_path: Path) -> None:
    part = tmp_path / "part"
    few = replace(CONFIG, tasks=4)
    assert train_run(few, part, shard="1/3").new_tasks == 1
    assert train_run(few, part, shard="1/3").new_tasks == 0
    assert train_run(CONFIG, part, shard="1/3").new_tasks == 3
    with MaskBank.open(part / "masks.bank", "a") as bank:
        del bank["task-7"]
    again = train_run(CONFIG, part, shard="1/3")
    assert (again.new_tasks, len(again.record.tasks)) == (1, 4)


@pytest.mark.parametrize(("started", "asked"), [("0/3", "1/3"), ("0/3", "0/4"), ("0/3", None), (None, "0/3")])
def test_a_folder_keeps_to_its_shard(started: str | None, asked: str | None, tmp_path: Path) -> None:
    train_run(replace(CONFIG, tasks=4), tmp_path, shard=started)
    with pytest.raises(RunError, match=r"expected (`shard=\"0/3\"`|the whole run), as it was started, found"):
        train_run(replace(CONFIG, tasks=4), tmp_path, shard=asked)


@pytest.mark.parametrize("text", ["3/3", "0/0", "1", "-1/3", "1/3/5", "", "٣/9", "0x1/3", "1/9999999999"])
def test_what_is_no_shard_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ShardError, match=r"shard: expected I/N with 0 <= I < N, such as 0/3, found"):
        train_run(CONFIG, tmp_path / "run", shard=text)
    assert run_command(["train", *WORDS, f"--shard={text}", "--out", str(tmp_path / "run")]) == 2
    assert "expected I/N" in error_of(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--transfer"], "each task starts from the masks of all tasks before it"),
        (["--scenario", "NNs"], "each batch is learned after all batches before it"),
        (["--tasks", "2"], "at most a shard for each of 2 tasks"),
    ],
)
def test_a_run_that_cannot_be_cut_up_says_why(
    words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["train", *WORDS, *words, "--shard", "0/3", "--out", str(tmp_path / "run")]) == 2
    assert reason in error_of(capsys)
    assert not (tmp_path / "run").exists()


def copied(parts: list[Path], folder: Path) -> list[Path]:
    return [Path(shutil.copytree(part, folder / part.name)) for part in parts]


def edited(part: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads((part / "run.json").read_text())
    change(content)
    (part / "run.json").write_text(json.dumps(content))


def test_missing_double_and_foreign_shards_are_named(parts: list[Path], whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    train_run(replace(CONFIG, seed=4), other, shard="2/3")
    of_four = tmp_path / "four"
    train_run(CONFIG, of_four, shard="2/4")
    wrong: list[tuple[list[Path], str]] = [
        (parts[:2], r"expected all 3 of the run, found none for 2/3"),
        ([*parts, *copied(parts[1:2], tmp_path)], r"expected each shard once, found 1/3 in .*shard-1 too"),
        ([*parts[:2], other], r"found another seed 4 \(not 3\)"),
        ([*parts[:2], of_four], r"found another shard 2/4 \(not one of 3\)"),
        ([*parts, whole], r"found a whole run"),
        ([whole], r"found a whole run"),
        ([], "expected the folders of all shards, found none"),
    ]
    for folders, text in wrong:
        with pytest.raises(ShardError, match=text):
            merge_runs(folders, tmp_path / "run")
    with pytest.raises(RunError, match="no such folder"):
        merge_runs([*parts, tmp_path / "none"], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".*"))


def test_other_data_and_an_unfinished_shard_are_named(parts: list[Path], tmp_path: Path) -> None:
    mine = copied(parts, tmp_path)
    edited(mine[1], lambda content: content.update(pixels={"scale": 0.5, "shift": 0.0}))
    with pytest.raises(ShardError, match="found another pixels"):
        merge_runs(mine, tmp_path / "run")
    shutil.copy(parts[1] / "run.json", mine[1])
    with MaskBank.open(mine[2] / "masks.bank", "a") as bank:
        mask = bank["task-2"]
        del bank["task-8"]
    with pytest.raises(RunError, match=r"expected all 4 tasks of shard 2/3, found no task-8"):
        merge_runs(mine, tmp_path / "run")
    with MaskBank.open(mine[2] / "masks.bank", "a") as bank:
        for name in ("task-8", "task-1"):
            bank.put(name, mask)
    with pytest.raises(RunError, match=r"expected the tasks of shard 2/3 only, found 'task-1' too"):
        merge_runs(mine, tmp_path / "run")
    (mine[2] / "masks.bank").unlink()
    with pytest.raises(RunError, match=r"found no such file; no task was finished"):
        merge_runs(mine, tmp_path / "run")


def test_versions_that_differ_are_told_and_no_reason_to_refuse(parts: list[Path], tmp_path: Path) -> None:
    mine = copied(parts, tmp_path)
    edited(mine[1], lambda content: content["versions"].update(torch="1.0"))  # type: ignore[attr-defined]
    merged = merge_runs(mine, tmp_path / "run")
    assert [note.partition(":")[0] for note in merged.notes] == [str(mine[1])]
    assert merged.records[0].versions == RunRecord.read(mine[0]).versions


def test_a_place_that_is_taken_and_data_that_are_not_there_leave_nothing(parts: list[Path], tmp_path: Path) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "file").touch()
    with pytest.raises(RunError, match="expected no folder, or an empty one"):
        merge_runs(parts, used)
    mine = copied(parts, tmp_path)
    for part in mine:
        edited(part, lambda content: content["config"].update(stream="permuted-mnist"))  # type: ignore[attr-defined]
    with pytest.raises(DataNotFoundError):
        merge_runs(mine, tmp_path / "run", data=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard-0", "shard-1", "shard-2", "used"]


def test_a_bank_of_another_network_is_refused(parts: list[Path], tmp_path: Path) -> None:
    mine = copied(parts, tmp_path)
    with MaskBank.open(parts[1] / "masks.bank") as bank:
        (mine[1] / "masks.bank").unlink()
        with MaskBank.create(mine[1] / "masks.bank", bank.spec, meta={**bank.meta, "seed": 9}) as other:
            for name, mask in bank.items():
                other.put(name, mask)
    with pytest.raises(RunError, match="expected the masks of this run's network"):
        merge_runs(mine, tmp_path / "run")


@pytest.mark.parametrize("target", [None, pytest.param(0.2, marks=pytest.mark.slow)])
def test_shards_of_sparse_masks_and_of_a_target_merge(target: float | None, tmp_path: Path) -> None:
    """Each shard looks for the density of the target by itself, and finds the same one."""
    config = run_config("permuted-digits", tasks=2, batches=5, target_bits=target)
    folders = [tmp_path / name for name in ("a", "b")]
    for index, folder in enumerate(folders):
        train_run(config, folder, shard=f"{index}/2")
    merge_runs(folders, tmp_path / "merged")
    train_run(config, tmp_path / "whole")
    assert_same_run(tmp_path / "merged", tmp_path / "whole")


def test_shards_of_several_seeds_merge_by_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, "--tasks", "4", "--seeds", "2"]
    for index in range(2):
        assert run_command(["train", *words, "--shard", f"{index}/2", "--out", str(tmp_path / f"s{index}")]) == 0
    assert run_command(["train", *words, "--out", str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    parts = [str(tmp_path / "s1"), str(tmp_path / "s0")]
    assert run_command(["merge-runs", *parts, "--out", str(tmp_path / "merged"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == [3, 4]
    assert list(seed_folders(tmp_path / "merged")) == [3, 4]
    for name in ("seed-3", "seed-4"):
        assert_same_run(tmp_path / "merged" / name, tmp_path / "whole" / name)
    shutil.rmtree(tmp_path / "s1" / "seed-4")
    with pytest.raises(ShardError, match=r"expected runs of the seeds of .*3, 4, found 3"):
        merge_runs([tmp_path / "s0", tmp_path / "s1"], tmp_path / "again")
    with pytest.raises(ShardError, match="found a single run"):
        merge_runs([tmp_path / "s0", tmp_path / "s0" / "seed-3"], tmp_path / "again")


def test_shards_of_a_network_of_ones_own_keep_their_extras(tmp_path: Path) -> None:
    stream = open_stream("split-digits", tasks=3)
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2)]
    model = convert(nn.Sequential(*layers), mask="edge-popup", weights="keep", image_shape=(1, 8, 8))
    folders = [tmp_path / name for name in ("a", "b")]
    for index, folder in enumerate(folders):
        Run.create(folder, model, stream, batches=2, shard=f"{index}/2").train()
    merge_runs(folders, tmp_path / "merged", model=model, stream=stream)
    Run.create(tmp_path / "whole", model, stream, batches=2).train()
    assert_same_run(tmp_path / "merged", tmp_path / "whole")
    with MaskBank.open(tmp_path / "merged" / "masks.bank") as bank:
        assert bank.extras("task-2")
    with pytest.raises(RunError):
        merge_runs(folders, tmp_path / "other", stream=stream)
