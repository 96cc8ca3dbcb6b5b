"""The core is numpy level: importing it must not drag in torch or what only some users have installed."""

import pytest

from tests.helpers.commands import output_of

pytestmark = pytest.mark.slow

OPTIONAL = ("torch", "safetensors", "fsspec", "numcodecs", "zarr")


def _loaded(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*(name for name in {OPTIONAL!r} if name in sys.modules))"
    return set(output_of(code).split())


@pytest.mark.parametrize(
    "statement", ["import maskstore", "import maskstore.interop", "import maskstore.cli.app, maskstore.cli.exchange"]
)
def test_importing_the_core_loads_no_optional_package(statement):
    assert _loaded(statement) == set()


def test_the_test_above_can_fail():
    assert "torch" in _loaded("import maskstore, torch")
    assert "numcodecs" in _loaded("import maskstore.interop.numcodecs")


def test_the_command_line_imports_neither_numpy_nor_numba():
    code = "import sys, maskstore.cli.exchange\nprint(*(n for n in ('numba', 'sqlite3', 'torch') if n in sys.modules))"
    found = output_of(code)
    assert "numba" not in found
    assert "torch" not in found
