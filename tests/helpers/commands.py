"""Command lines that run in this process, and programs that run in a fresh one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maskstore.cli.app import run_command

ROOT = Path(__file__).parents[2]


def maskstore(*arguments: object) -> int:
    """The exit code of a `maskstore` command line."""
    return run_command([str(argument) for argument in arguments])


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The error that `supsup` printed: one line, and nothing on standard output."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("supsup: ")
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def in_fresh_process(code: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program with these arguments and more environment variables; it may fail.

    It imports the library and the tests from where this process does.
    """
    command = [sys.executable, "-c", code, *map(str, arguments)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def output_of(code: str, *arguments: object) -> str:
    """What a Python program prints in a fresh process; it must end well."""
    done = in_fresh_process(code, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
