"""What all benchmarks share: how large they are.

`pytest benchmarks/` alone is quick, a few minutes on two cores; `--full` measures what the docs state.
"""

import os

# Before torch is imported: its threads otherwise spin while they wait, which starves small steps on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="benchmarks: the sizes that the docs state, not quick ones")


def pytest_report_header(config: pytest.Config) -> str:
    if config.getoption("--full"):
        return "benchmarks: full sizes, one to three hours on two cores"
    return "benchmarks: quick sizes; the figures in the docs are those of `pytest benchmarks/ --full`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips, with the reason, what needs MNIST where the library does not find it."""
    needing_mnist = [item for item in items if item.get_closest_marker("mnist")]
    if not needing_mnist:
        return
    from supsup_models.data.sets.find import find_folder
    from supsup_models.data.sets.mnist import MNIST
    from supsup_models.errors import DataFormatError, DataNotFoundError

    try:
        find_folder(MNIST)
    except (DataNotFoundError, DataFormatError) as error:
        for item in needing_mnist:
            item.add_marker(pytest.mark.skip(reason=f"needs the MNIST files: {error}"))


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the sizes are those that the docs state."""
    return bool(request.config.getoption("--full"))
