"""`--target-bits`: a search for a density that is interrupted goes on with the trials that it has made."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from supsup_models.errors import NetworkError, RunError
from supsup_models.runs import train_target as target
from supsup_models.runs.config import run_config
from supsup_models.runs.record import RunConfig, RunRecord, trials_path
from supsup_models.runs.train import train_run

CONFIG = run_config("permuted-digits", tasks=1, outputs=40, batches=20, target_bits=0.3)


def search(config: RunConfig, folder: Path, until: int | None = None) -> int:
    """A search in a folder, Ctrl-C in trial number `until` if there are so many; returns the trials it finished."""
    finished, plain = 0, target.coded_bits

    def counted(*arguments: Any) -> float:
        nonlocal finished
        if finished == until:
            raise KeyboardInterrupt
        finished += 1
        return plain(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, "coded_bits", counted)
        try:
            train_run(config, folder)
        except KeyboardInterrupt:
            assert finished == until
    return finished


@pytest.fixture(scope="module")
def after_one_trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    search(CONFIG, folder, until=1)
    return folder


@pytest.fixture
def stopped(after_one_trial: Path, tmp_path: Path) -> Path:
    """The folder of a search that was stopped after one trial."""
    return Path(shutil.copytree(after_one_trial, tmp_path / "stopped"))


def densities(folder: Path) -> list[float]:
    found: list[float] = RunRecord.read(folder).network["densities"]
    return found


@pytest.mark.slow
def test_an_interrupted_search_goes_on_and_ends_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trials = search(CONFIG, whole)
    assert trials > 1
    assert search(CONFIG, cut, until=1) == 1
    assert not (cut / "run.json").exists()
    capsys.readouterr()
    assert search(replace(CONFIG, tasks=2, rate_weight=0.0), cut) == trials - 1  # what changes no trial may change
    assert capsys.readouterr().err.splitlines()[0].endswith("(target 0.3, tried earlier)")
    assert densities(cut) == densities(whole)
    assert not trials_path(cut).exists()
    assert not trials_path(whole).exists()


@pytest.mark.slow
def test_a_search_that_ended_is_not_made_again_where_training_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("supsup_models.runs.train.train_many", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_run(CONFIG, tmp_path)
    monkeypatch.undo()
    found = densities(tmp_path)
    assert search(CONFIG, tmp_path) == 0
    assert densities(tmp_path) == found


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed 1 (not 0), other data"),
        ({"batches": 21, "sparsity": "er"}, "batches 21 (not 20), sparsity er (not equal)"),
        ({"rate_weight": 1e-6}, "rate_weight 1e-06 (not 0.0)"),
    ],
)
def test_trials_of_another_search_are_refused(change: dict[str, Any], named: str, stopped: Path) -> None:
    before = trials_path(stopped).read_bytes()
    with pytest.raises(RunError, match=re.escape(f"found {named}; delete it to search anew")):
        search(replace(CONFIG, **change), stopped)
    assert trials_path(stopped).read_bytes() == before


@pytest.mark.parametrize(
    "broken",
    [
        lambda content: "",
        lambda content: "[]",
        lambda content: json.dumps({**content, "format": 9}),
        lambda content: json.dumps({**content, "made_by": {}}),
        lambda content: json.dumps({**content, "trials": [[0.1]]}),
        lambda content: json.dumps({**content, "trials": [[0.1, "0.2"]]}),
        lambda content: json.dumps({**content, "trials": [[0.1, 0.0]]}),
        lambda content: json.dumps({**content, "trials": [[0.1, float("nan")]]}),
        lambda content: json.dumps({**content, "trials": [[1.5, 0.2]]}),
        lambda content: json.dumps(content)[:-20],
        lambda content: "[" * 100_000,
    ],
)
def test_a_damaged_file_is_refused(broken: Callable[[dict[str, Any]], str], stopped: Path) -> None:
    path = trials_path(stopped)
    text = broken(json.loads(path.read_text()))
    path.write_text(text)
    with pytest.raises(
        RunError, match=r"trials\.json: expected trials of a search for a density, found something else"
    ):
        search(CONFIG, stopped)
    assert path.read_text() == text


def test_a_search_that_failed_leaves_no_trials(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="expected a target that masks can meet"):
        search(replace(CONFIG, target_bits=1e-9), tmp_path)
    assert not trials_path(tmp_path).exists()
