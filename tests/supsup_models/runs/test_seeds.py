"""Runs of several seeds: a folder each, means and deviations in every command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supsup_models.cli.app import run_command
from supsup_models.errors import NetworkError, RunError
from supsup_models.experiments import Context, over_seeds
from supsup_models.experiments.experiment import Figure, Outcome
from supsup_models.report import read_run
from supsup_models.runs import RunRecord, evaluate_seeds, run_config, seed_folders, train_run, train_seeds
from tests.helpers.commands import error_of

TRAIN = [
    *("train", "--stream", "permuted-digits", "--tasks", "2", "--outputs", "40", "--batches", "20"),
    *("--recipe", "dense", "--seed", "7", "--seeds", "3"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds") / "runs"
    assert run_command([*TRAIN, "--out", str(folder)]) == 0
    return folder


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run_command([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_each_seed_has_a_run_of_its_own(runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folders = seed_folders(runs)
    assert list(folders) == [7, 8, 9]
    records = [RunRecord.read(folder) for folder in folders.values()]
    assert [record.config.seed for record in records] == [7, 8, 9]
    assert {replace(record.config, seed=0) for record in records} == {replace(records[0].config, seed=0)}
    again = printed([*TRAIN, "--out", str(runs)], capsys)
    assert [row["new_masks"] for row in again["per_seed"]] == [0, 0, 0]
    accuracies = [row["accuracy"] for row in again["per_seed"]]
    assert again["accuracy"] == pytest.approx(np.mean(accuracies))
    assert again["accuracy_deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    alone = train_run(records[1].config, tmp_path / "alone")  # a seed's run is the run of that seed
    assert [task["loss"] for task in alone.record.tasks] == [task["loss"] for task in records[1].tasks]


def test_eval_says_mean_and_deviation(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", str(runs), "--limit", "60"]
    found = printed(words, capsys)
    each = [printed(["eval", str(folder), "--limit", "60"], capsys) for folder in seed_folders(runs).values()]
    for figure in ("accuracy", "task_accuracy", "given_accuracy"):
        values = [run[figure] for run in each]
        assert found[figure] == pytest.approx(np.mean(values))
        assert found[f"{figure}_deviation"] == pytest.approx(np.std(values, ddof=1))
        assert [run[figure] for run in found["per_seed"]] == values
    assert (found["scenario"], found["seeds"], found["tasks"]) == ("GNu", [7, 8, 9], 2)
    assert run_command(words) == 0
    assert f"accuracy {found['accuracy']:.4f} ± {found['accuracy_deviation']:.4f}" in capsys.readouterr().out


def test_the_report_shows_all_seeds_and_the_first_in_full(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(["report", str(runs), "--limit", "30"], capsys)
    facts = read_run(runs)
    assert [each["seed"] for each in found["seeds"]] == [7, 8, 9]
    for each, folder in zip(found["seeds"], seed_folders(runs).values(), strict=True):
        alone = read_run(folder)
        assert each["accuracy"] == pytest.approx(alone.accuracy)
        assert each["bits_per_parameter"] == pytest.approx(alone.bits_per_parameter)
    assert facts.accuracy == found["seeds"][0]["accuracy"]
    text = (runs / "report.html").read_text()
    mean = np.mean([each["accuracy"] for each in found["seeds"]])
    assert f"{100 * mean:.2f}\u202f% ±" in text
    assert "--seeds 3" in text
    assert "maskstore stats runs/seed-7/masks.bank" in text
    assert "None" not in text


def test_a_folder_holds_one_run_or_several(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = run_config("permuted-digits", tasks=1, outputs=10, batches=1, recipe="dense")
    train_run(config, tmp_path / "one")
    with pytest.raises(RunError, match="expected a folder for runs of 2 seeds, found a single run"):
        train_seeds(config, tmp_path / "one", 2)
    with pytest.raises(RunError, match="expected a folder for a single run, found runs of several seeds"):
        train_run(config, runs)
    with pytest.raises(NetworkError, match="expected 2 to 1000, found 1"):
        train_seeds(config, tmp_path / "two", 1)
    with pytest.raises(RunError, match="expected runs of several seeds, found 0"):
        evaluate_seeds(tmp_path / "one")
    capsys.readouterr()
    assert run_command(["recover", str(runs)]) == 1
    assert "found runs of several seeds; name one of seed-7, seed-8, seed-9" in error_of(capsys)


@pytest.mark.parametrize("name", ["seed-01", "seed-x", "seed--1", "seed-1٣", "seed-", "seed-" + "9" * 30])
def test_other_folders_are_no_seeds(name: str, runs: Path, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "run.json").write_bytes((runs / "seed-7" / "run.json").read_bytes())
    assert seed_folders(tmp_path) == {}


def test_figures_of_experiments_are_means_with_their_deviation() -> None:
    outcomes = [Outcome((Figure("a", ours, 0.5, low),), [{"x": ours}]) for ours, low in ((0.8, 0.7), (0.9, 0.85))]
    merged = over_seeds(outcomes)
    (figure,) = merged.figures
    assert (figure.ours, figure.published, figure.at_least) == (pytest.approx(0.85), 0.5, pytest.approx(0.775))
    assert figure.deviation == pytest.approx(np.std([0.8, 0.9], ddof=1))
    assert merged.table == [{"seed": 0, "x": 0.8}, {"seed": 1, "x": 0.9}]
    assert over_seeds(outcomes[:1]) == outcomes[0]


def test_an_experiment_runs_with_several_seeds(tmp_path: Path) -> None:
    config = run_config("permuted-mnist", tasks=2, recipe="dense")
    seeds = [Context(tmp_path, quick=True, seed=seed) for seed in (0, 3)]
    assert [context.config(config).seed for context in seeds] == [0, 3]
    assert len({context.run_folder(context.config(config)) for context in seeds}) == 2
    assert len({context.file("x", ".png") for context in seeds}) == 2
