"""The command line, for the tests of all that it calls."""

from collections.abc import Callable

import pytest

from tests.helpers.commands import maskstore


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a `maskstore` command; gives its exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = maskstore(*arguments)
        return code, *capsys.readouterr()

    return run
