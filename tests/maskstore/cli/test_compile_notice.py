"""The note that kernels are being compiled: said once when it takes long, never when it does not."""

import time

import pytest
from numba import njit

from maskstore.cli.compile_notice import announced, announcing, warm


def _compile_something() -> None:
    @njit
    def fresh(x):
        return x + 1

    assert fresh(1) == 2


def test_a_long_compile_is_said_once() -> None:
    said: list[str] = []
    with announced(said.append, patience=0.0):
        _compile_something()
        _compile_something()
        time.sleep(0.05)
    assert len(said) == 1
    assert "compiling" in said[0]


def test_how_far_compiling_is_is_said_now_and_then() -> None:
    said: list[str] = []
    with announced(said.append, patience=0.0, every=0.0):
        for _ in range(3):
            _compile_something()
            time.sleep(0.05)
    assert said[0].startswith("compiling")
    assert [line.split()[0] for line in said[1:]] == [str(at) for at in range(4 - len(said[1:]), 4)]
    assert len(said) >= 3


def test_a_short_compile_is_not_mentioned() -> None:
    said: list[str] = []
    with announced(said.append, patience=60.0):
        _compile_something()
        _compile_something()
    assert said == []
    _compile_something()  # nobody listens any more


def test_warming_up_runs_every_kernel() -> None:
    warm()


def test_an_announcing_command_answers_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    @announcing
    def command(*, twice: int) -> int:
        """Doubles."""
        time.sleep(0)
        return 2 * twice

    assert command(twice=4) == 8
    assert (command.__name__, command.__doc__) == ("command", "Doubles.")
    assert capsys.readouterr().err == ""
