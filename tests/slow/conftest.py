"""Everything in this folder is slow."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks them, before `-m "not slow"` looks for the mark."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)
