"""What `supsup` prints: names that do not steer the terminal, tables that fit it, progress without one."""

import io
import re
import sys
from pathlib import Path

import pytest

from maskstore import __version__
from supsup_models import _progress, runs
from supsup_models.cli import reproduce
from supsup_models.cli.app import run_command
from supsup_models.experiments.catalogue import EXPERIMENTS
from supsup_models.experiments.experiment import Context, Figure, Outcome
from supsup_models.runs.infer import Answer, Answers

EVIL = "t\x1b[2J\x07\u202e\nx"


def test_infer_escapes_the_names_of_tasks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers = tuple(Answer(EVIL, 3, 0.5, 0.1, unknown) for unknown in (False, True))
    monkeypatch.setattr(runs, "infer_images", lambda *_, **__: Answers("none", answers, (EVIL,)))
    for arguments in (["infer", "run", "x.npy"], ["infer", "run", "x.npy", "--json"]):
        assert run_command(arguments) == 0
        printed = "".join(capsys.readouterr())
        assert printed.replace("\n", "").isprintable()
        assert "\\x1b[2J" in printed or "\\u001b[2J" in printed


def test_progress_escapes_names_and_breaks_a_long_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(_progress, "perf_counter", lambda: clock[0])
    with _progress.Reporter("judging", 4) as report:
        report.advance()
        assert capsys.readouterr().err == ""
        clock[0] = 11.0
        report.advance()
        assert capsys.readouterr().err == "judging: 50 %\n"
        report.advance()
        assert capsys.readouterr().err == ""
        report.line(EVIL)
        assert capsys.readouterr().err == "t\\x1b[2J\\x07\\u202e\\nx\n"
    assert capsys.readouterr().out == ""


class Screen(io.TextIOWrapper):
    """An ASCII terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii")

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        self.flush()
        return re.sub(r"\x1b\[[0-9;]*m", "", self.buffer.getvalue().decode())  # type: ignore[attr-defined]


FIGURES = (Figure("one-shot, one image: accuracy", 0.97, 0.9491, 0.955), Figure("masks", 3, at_least=3, at_most=3))
ROWS = [
    {"judged": "one-shot", "scenario": "GNu", "tasks": 3, "accuracy": 0.9, "interval": (0.8, 0.95), "inferences": 400}
]


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("quick", [True, False])
def test_a_reproduction_fits_the_terminal_and_says_its_own_sizes(
    columns: int, quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = EXPERIMENTS["permuted-lenet-250"]
    result = Outcome(FIGURES, ROWS).to_json(experiment, Context(tmp_path, quick), seconds=1.0)
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    monkeypatch.setenv("COLUMNS", str(columns))
    reproduce.print_result(result, Path("r.json"))
    text = screen.text()
    joined = " ".join(text.split())
    for value in ("0.9700", "one-shot", "0.8000 to 0.9500", "400"):
        assert value in joined
    tables = [line for line in text.splitlines() if line.startswith(("|", "+"))]
    assert all(len(line) <= columns for line in tables)
    assert ("250 tasks" in joined) is not quick
    assert ("3 tasks of 120 batches" in joined) is quick
    for word in ("should be", "reached", "at least"):  # of an experiment that is held to its bounds
        assert (word in joined) is not quick


def test_the_names_of_experiments_are_those_of_the_catalogue() -> None:
    assert tuple(EXPERIMENTS) == reproduce.NAMES


def test_version_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out == f"supsup {__version__}\n"
    assert run_command(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "supsup infer run images.npy" in printed
    assert "--install-completion" in printed
    assert run_command(["train", "--help"]) == 0
    assert "maskstore compact" in capsys.readouterr().out  # what --target-bits counts
