"""The published setting on MNIST: accuracy, bits and task inference."""

import json
from pathlib import Path

import pytest

from maskstore import MaskBank
from maskstore.bank.accounting import account
from supsup_models.cli.app import run_command

TASKS = 3


@pytest.fixture(scope="module", params=["paper", "default"])
def run_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mnist") / "run"
    options = ["--stream", "permuted-mnist", "--tasks", str(TASKS), "--recipe", request.param, "--out", str(folder)]
    assert run_command(["train", *options]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.mnist
def test_unlabelled_tasks_cost_no_accuracy(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for scenario in ("GG", "GNu"):
        assert run_command(["eval", str(run_folder), "--scenario", scenario, "--limit", "3000", "--json"]) == 0
        found[scenario] = json.loads(capsys.readouterr().out)["accuracy"]
    assert found["GG"] > 0.92
    assert found["GNu"] > found["GG"] - 0.01


@pytest.mark.slow
@pytest.mark.mnist
def test_masks_are_stored_in_less_than_half_a_bit(run_folder: Path) -> None:
    with MaskBank.open(run_folder / "masks.bank") as bank:
        stored = account(bank)
    assert 8 * stored.payload_bytes / (TASKS * stored.parameters) < 0.5
