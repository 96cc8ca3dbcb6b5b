"""Whatever takes the output, a command ends with its exit code and at most one line of error."""

import csv
import errno
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from maskstore import MaskBank, MaskSpec
from maskstore.cli import console
from tests.helpers.commands import maskstore
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"décodeur.layers.0.self_attention.out_proj.weight_quantised": (13, 11), "fc2": (5, 13)})
NAMES = ("tâche-é", "задача", "課題-" + "long-" * 30)


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    with MaskBank.create(tmp_path / "b.bank", SPEC) as opened:
        for number, name in enumerate(NAMES):
            opened.put(name, random_mask(SPEC, 0.5, number), meta={"note": "≥ 3"})
    return opened.path


class Screen(io.TextIOWrapper):
    """A terminal of some encoding."""

    def __init__(self, encoding: str, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


COMMANDS = [("ls",), ("ls", "--csv"), ("ls", "--json"), ("stats",), ("stats", "--csv"), ("verify",)]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
@pytest.mark.parametrize("arguments", COMMANDS)
def test_any_encoding_takes_any_name(bank, monkeypatch, encoding, arguments):
    screens = Screen(encoding, terminal=True), Screen(encoding)
    monkeypatch.setattr(sys, "stdout", screens[0])
    monkeypatch.setattr(sys, "stderr", screens[1])
    monkeypatch.setenv("COLUMNS", "40")
    assert maskstore(arguments[0], bank, *arguments[1:]) == 0
    printed = [screen.text() for screen in screens]
    assert "Traceback" not in printed[1]
    if arguments == ("ls", "--csv"):
        rows = list(csv.reader(io.StringIO(printed[0])))
        assert rows[1][0].encode(encoding, "backslashreplace") == NAMES[0].encode(encoding, "backslashreplace")
    assert sys.stdout is screens[0]  # nothing stays replaced


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_errors_go_to_any_encoding(bank, monkeypatch, encoding):
    monkeypatch.setattr(sys, "stderr", screen := Screen(encoding))
    assert maskstore("get", bank, "задач", "-o", bank.with_name("m.npz")) == 1
    assert screen.text().count("\n") == 1


class Failing(io.RawIOBase):
    """What raises an error whenever it is written to."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def writable(self) -> bool:
        return True

    def write(self, _: Any) -> int:
        raise self._error


def failing(error: Exception) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(Failing(error)), write_through=True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "found 'No space left on device'"),
        (OSError(errno.EIO, "Input/output error"), "found 'Input/output error'"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), None),
    ],
)
@pytest.mark.parametrize("arguments", [*COMMANDS[:-1], ("--help",), ("--version",)])
def test_standard_output_that_cannot_be_written_is_one_line(bank, monkeypatch, capsys, arguments, error, said):
    monkeypatch.setattr(sys, "stdout", failing(error))
    banks = [bank] if not arguments[0].startswith("-") else []
    assert maskstore(arguments[0], *banks, *arguments[1:]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == ([f"maskstore: standard output: expected room for what is printed, {said}"] if said else [])


def test_closed_streams(bank, monkeypatch, capsys):
    """Python has None for a stream that was closed before it began."""
    monkeypatch.setattr(sys, "stdout", None)
    assert maskstore("ls", bank) == 1
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr(sys, "stderr", None)
    assert maskstore("verify", bank) == 0
    assert maskstore("ls", bank) == 1


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), BrokenPipeError(), ValueError()])
def test_standard_error_that_cannot_be_written_stops_nothing(bank, monkeypatch, error):
    monkeypatch.setattr(sys, "stderr", failing(error))
    assert maskstore("verify", bank) == 0
    assert maskstore("verify", bank.with_name("none.bank")) == 1


def test_into_a_pipe_each_mask_is_one_whole_line(bank, capsys):
    assert maskstore("ls", bank) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == list(NAMES)
    assert maskstore("stats", bank) == 0
    assert next(iter(SPEC.shapes)) in capsys.readouterr().out
    assert maskstore("stats", bank, "--csv") == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert [row[:2] for row in rows[1:]] == [[name, str(a * b)] for name, (a, b) in SPEC.shapes.items()]
    assert maskstore("ls", bank, "--csv", "--json") == 2


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_on_a_narrow_terminal_names_go_on_in_the_next_line(bank, monkeypatch, columns):
    monkeypatch.setattr(sys, "stdout", screen := Screen("utf-8", terminal=True))
    monkeypatch.setenv("COLUMNS", str(columns))
    assert maskstore("stats", bank) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", screen.text())
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= columns
    pieces = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert next(iter(SPEC.shapes)) in "".join(pieces)


def test_names_do_not_steer_the_terminal(tmp_path, capsys):
    evil = "t\x1b[2J\x07\u202egnp.\n"
    with MaskBank.create(tmp_path / "e.bank", spec := MaskSpec({f"fc\x1b]0;{evil}": (3, 3)})) as opened:
        opened.put(evil, random_mask(spec, 0.5, 0), meta={evil: evil})
    for arguments in (("ls",), ("ls", "--csv"), ("stats",), ("stats", "--csv"), ("ls", "--json"), ("verify",)):
        assert maskstore(arguments[0], opened.path, *arguments[1:]) == 0
        printed = "".join(capsys.readouterr())
        assert printed.replace("\n", "").isprintable(), arguments
    assert maskstore("rm", opened.path, evil[::-1]) == 1
    assert capsys.readouterr().err.replace("\n", "").isprintable()


def test_the_end_of_a_file_is_no_interruption(capsys):
    def ended(**_: object) -> None:
        import typer

        raise typer.Abort from EOFError()

    assert console.run("maskstore", ended, (), []) == 1
    assert "found the end of a file" in capsys.readouterr().err


def test_commands_that_go_on_say_so(capsys):
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    for arguments, end in (
        (["train"], "interrupted; the same command goes on from what is finished"),
        (["x"], "interrupted"),
    ):
        assert console.run("supsup", interrupted, (), arguments, resuming=("train",)) == 130
        assert capsys.readouterr().err == f"supsup: {end}\n"


def test_version_examples_and_completion(capsys):
    import maskstore as package

    assert maskstore("--version") == 0
    assert capsys.readouterr().out == f"maskstore {package.__version__}\n"
    assert maskstore("--help") == 0
    printed = capsys.readouterr().out
    assert "maskstore put tasks.bank task-0 mask.npz --create" in printed
    assert "--install-completion" in printed


def test_into_a_pipe_differences_name_every_layer_and_task(tmp_path, capsys):
    spec = MaskSpec({f"layer-{number}": (3, 3) for number in range(12)})
    for name, tasks in (("a", range(30)), ("b", range(1))):
        with MaskBank.create(tmp_path / f"{name}.bank", spec) as opened:
            for task in tasks:
                opened.put(f"task-{task}", random_mask(spec, 0.5, task))
    assert maskstore("diff", tmp_path / "a.bank", tmp_path / "b.bank") == 1
    out = capsys.readouterr().out
    assert "layer-11" in out
    assert "task-29" in out
    assert "..." not in out
