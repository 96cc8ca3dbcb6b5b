"""Ctrl-C ends the `supsup` command with one line, at any moment, and keeps what is finished."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from maskstore import MaskBank
from tests.helpers.commands import in_fresh_process

# what a shell starts in the background ignores SIGINT, and so would the children of tests that run there
INTERRUPTED = "supsup: interrupted; the same command goes on from what is finished"
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "


@pytest.mark.slow
def test_ctrl_c_keeps_finished_tasks_and_prints_one_line(tmp_path: Path) -> None:
    code = INTERRUPTIBLE + "from supsup_models.cli.app import main; main()"
    arguments = ["train", "--stream", "permuted-digits", "--tasks", "500", "--batches", "50", "--out", str(tmp_path)]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            first = iter(process.stderr.readline, "")
            assert any(line.startswith("task-0") for line in first)  # a busy machine prints its progress before
            process.send_signal(signal.SIGINT)
            lines = [line for line in process.stderr.read().splitlines() if not line.startswith("training:")]
            assert process.wait(60) == 130
        finally:
            process.kill()
    assert lines[-1] == INTERRUPTED
    assert all(line.startswith("task-") for line in lines[:-1])
    with MaskBank.open(tmp_path / "masks.bank") as bank:
        assert len(bank) == len(lines)
        assert bank.verify() == len(lines)


INTERRUPTED_BY_ITSELF = """
import os
import sys

class Interrupter:
    def find_spec(self, name, path, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)

wanted = sys.argv.pop()
sys.meta_path.insert(0, Interrupter())
from supsup_models.cli import main
main()
print("went on")
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["typer", "supsup_models.cli.train", "supsup_models.runs.train", "torch"])
def test_ctrl_c_while_modules_are_imported_is_one_line(module: str, tmp_path: Path) -> None:
    """The last two are imported after the command has been read."""
    arguments = ["train", "--stream", "permuted-digits", "--tasks", "500", "--out", tmp_path, module]
    found = in_fresh_process(INTERRUPTIBLE + INTERRUPTED_BY_ITSELF, *arguments)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", f"{INTERRUPTED}\n")
