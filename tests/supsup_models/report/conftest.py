"""Runs that reports are made of."""

from pathlib import Path

import pytest

from tests.helpers.runs import trained_run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks of permuted digits."""
    return trained_run(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="session")
def trained_without_identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same stream, nobody said where a task ends."""
    return trained_run(tmp_path_factory.mktemp("nns") / "run", "--scenario", "NNs")
