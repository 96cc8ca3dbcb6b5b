"""Runs that reports are made of, and a browser to look at them with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supsup_models.cli.app import run_command
from tests.helpers import browser as headless
from tests.helpers.runs import HOSTILE, made_run

TRAIN = ["--stream", "permuted-digits", "--tasks", "3", "--outputs", "40", "--batches", "60", "--seed", "5"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks of permuted digits."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert run_command(["train", *TRAIN, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def trained_without_identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same stream, nobody said where a task ends."""
    folder = tmp_path_factory.mktemp("nns") / "run"
    assert run_command(["train", *TRAIN, "--scenario", "NNs", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A run whose names of tasks, layers, stream and model want to be markup."""
    layers = dict.fromkeys(HOSTILE[:2], (8, 16))
    return made_run(tmp_path / "<b>run", HOSTILE, layers, stream=HOSTILE[0], model=HOSTILE[1], recipe=HOSTILE[2])


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[headless.Page]:
    """A tab of a headless browser."""
    program = headless.find()
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(headless.NAMES)} is on the PATH")
    with headless.browser(program, tmp_path_factory.mktemp("browser")) as opened:
        yield opened
