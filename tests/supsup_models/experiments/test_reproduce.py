"""`supsup reproduce`: every experiment's quick version runs, says that it is one, and writes what it found."""

import json
from pathlib import Path

import pytest

from supsup_models.cli.app import run_command
from supsup_models.experiments.catalogue import EXPERIMENTS
from supsup_models.experiments.experiment import Context, Figure
from supsup_models.experiments.names import EXPERIMENT_NAMES
from supsup_models.runs.record import RunConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduced")


def test_names_are_those_of_the_catalogue() -> None:
    assert tuple(EXPERIMENTS) == EXPERIMENT_NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENT_NAMES)
def test_quick_versions(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["reproduce", name, "--quick", "--out", str(folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["experiment"] == name
    assert printed["quick"] is True
    assert printed["reached"] is None
    assert printed["figures"]
    assert all(figure["ours"] >= 0 and figure["reached"] is None for figure in printed["figures"])
    assert json.loads((folder / f"{name}-quick.json").read_text()) == printed
    assert all(Path(plot).stat().st_size > 1000 for plot in printed["plots"])
    if name == "nns-permuted-lenet-20":
        assert printed["figures"][0]["ours"] == printed["figures"][0]["at_least"] == 3


@pytest.mark.slow
def test_it_is_printed_for_people_and_trains_nothing_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/masks.bank")}
    arguments = ["reproduce", "permuted-lenet-250", "--quick", "--out", str(folder)]
    assert run_command(arguments) == 0
    first = capsys.readouterr()
    assert "quick version" in first.out
    assert "published" in first.out
    again = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/masks.bank")}
    assert runs.items() <= again.items()
    assert run_command(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/masks.bank")} == again


def test_the_list_and_wrong_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["reproduce", "--list"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == list(EXPERIMENT_NAMES)
    assert run_command(["reproduce", "--list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["experiments"]) == len(EXPERIMENT_NAMES)
    for arguments in (["reproduce", "permuted-lenet-25"], ["reproduce"]):
        assert run_command(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("supsup: experiment: expected one of")
        assert error.count("\n") == 1


def test_missing_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reproduce", "split-mnist-gnu", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert run_command(arguments) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_figures_are_held_to_their_bounds() -> None:
    assert Figure("a", 0.9).reached is None
    assert Figure("a", 0.9, at_least=0.9).reached is True
    assert Figure("a", 0.9, at_least=0.91).reached is False
    assert Figure("a", 21, at_least=20, at_most=20).reached is False


def test_runs_are_shared_by_their_arguments_only(tmp_path: Path) -> None:
    context = Context(tmp_path)
    one = RunConfig("permuted-mnist", 50, "lenet-300-100", 100, 1000, "dense", 0)
    other = RunConfig("permuted-mnist", 50, "lenet-300-100", 100, 1000, "dense", 0, task_identity=False)
    assert context.run_folder(one) != context.run_folder(other)
    assert context.config(one) == one
    assert Context(tmp_path, quick=True).config(one).stream == "permuted-digits"
