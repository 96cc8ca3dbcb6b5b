"""Imports: hopfield without torch is one line, and hopfield never imports the network stack."""

import pytest

from tests.helpers.commands import in_fresh_process, output_of

pytestmark = pytest.mark.slow


def test_without_torch_the_import_says_what_to_install() -> None:
    # None in sys.modules is how Python marks a module that must not be found
    result = in_fresh_process("import sys; sys.modules['torch'] = None; import hopfield")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith('(pip install "maskstore[models]")')


def test_hopfield_imports_neither_the_network_stack_nor_a_plotting_library() -> None:
    seen = output_of("import hopfield, sys; print(*{name.split('.')[0] for name in sys.modules})").split()
    assert "torch" in seen  # the check can see what is imported
    assert "maskstore" in seen
    assert "supsup_models" not in seen
    assert "matplotlib" not in seen
