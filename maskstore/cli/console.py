"""What the command lines share: exit codes, one-line errors, `--debug`; JSON on standard output, prose on the other.

Exit codes: 0 done, 1 the data or the check failed, 2 wrong usage, 130 interrupted.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import typer

from maskstore._version import __version__
from maskstore.cli.streams import OutputError, ReaderGoneError, sturdy
from maskstore.errors import one_line, printable
from maskstore.files import check_known, decimal_numbers, named_os_error

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
_PIPE_WIDTH = 100_000


T = TypeVar("T")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


AsCsv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values, one line a row.")]


Limit = Annotated[
    int | None,
    typer.Option(help="The most bytes to decode, for a file that you trust and that asks for many.", min=0,
                 show_default=False),
]  # fmt: skip


Immutable = Annotated[
    bool,
    typer.Option(
        "--immutable",
        help="Read banks as they lie there, since nobody writes to them; a network file system asks for it.",
    ),
]


class UsageError(Exception):
    """Arguments that parse but do not make sense; ends a command with exit code 2."""


def no_stream(where: T) -> T:
    """A path as it is; UsageError for `-`, which other programs take for their standard output."""
    if str(where) == "-":
        raise UsageError("-: expected the name of a file, found the sign for a stream (nothing is written to streams)")
    return where


def choice(what: str, word: str, known: Iterable[str]) -> str:
    """The word if it is known; otherwise a UsageError that names the nearest."""
    check_known(what, word, known, UsageError)
    return word


def only_one(as_json: bool, as_csv: bool) -> None:
    """A UsageError for two formats at once."""
    if as_json and as_csv:
        raise UsageError("expected one of --json and --csv, found both")


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(decimal_numbers(value), indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Text on standard output, printable: every line that is neither JSON nor a table."""
    sys.stdout.write("\n".join(map(printable, text.split("\n"))) + "\n")
    sys.stdout.flush()


def cell(text: str) -> str:
    """Text for a Rich table or line: printable, and no markup in it."""
    from rich.markup import escape

    return escape(printable(text))


def terminal() -> Any:
    """Rich's console for tables: as wide as the terminal; where there is none, as wide as they are."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def table(title: str, *, min_width: int | None = None) -> Any:
    """A Rich table without columns; into a pipe, one without lines and padding, so that each row is one line."""
    from rich import box
    from rich.table import Table

    if sys.stdout.isatty():
        return Table(title=title or None, min_width=min_width, box=box.HEAVY_HEAD)
    return Table(title=title or None, title_justify="left", min_width=min_width, box=None, pad_edge=False)


def version_option(program: str) -> Any:
    """`--version`: prints the version and ends."""

    def show(asked: bool) -> None:
        if asked:
            say(f"{program} {__version__}")
            raise typer.Exit

    return typer.Option("--version", help="Print the version.", callback=show, is_eager=True)


def note(text: str) -> None:
    """A line for the person, on standard error."""
    sys.stderr.write("\n".join(map(printable, text.split("\n"))) + "\n")
    sys.stderr.flush()


def reworded(text: str, words: Mapping[str, str]) -> str:
    """An error's text for the command line: where it gives Python's name for something, the option or the command.

    `` `overwrite=True` `` becomes `--overwrite`, `` `device="cpu"` `` becomes `--device cpu`, and a name alone what
    `words` has for it. `words` also has the options whose names differ from the arguments'.
    """

    def option(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        if value is None:
            return f"`{words.get(name, name)}`"
        flag = words.get(name, "--" + name.replace("_", "-"))
        return flag if value == "True" else f"{flag} {value.strip(chr(34))}"

    return re.sub(r"`(?P<name>[a-z_][a-z_.()]*)(=(?P<value>\"[^\"`]*\"|[\w.]+))?`", option, text)


def run(
    program: str,
    app: Callable[..., Any],
    failures: tuple[type[Exception], ...],
    arguments: list[str],
    *,
    usage: tuple[type[Exception], ...] = (),
    words: Mapping[str, str] = MappingProxyType({}),
    resuming: Iterable[str] = (),
) -> int:
    """Run a Typer app and return its exit code.

    `failures` are the packages' own errors: one line on standard error and exit code 1. Those that are `usage` too end
    with exit code 2. Their texts are `reworded`. With `--debug` anywhere among the arguments every error shows its
    traceback. The `resuming` commands go on where they were interrupted, and say so.
    """
    with sturdy():
        try:
            code = _run(program, app, failures, arguments, usage, words, resuming)
            sys.stdout.flush()
        except ReaderGoneError:
            return FAILED
        except OutputError as error:
            note(f"{program}: {error}")
            return FAILED
        return code


def _run(
    program: str,
    app: Callable[..., Any],
    failures: tuple[type[Exception], ...],
    arguments: list[str],
    usage: tuple[type[Exception], ...],
    words: Mapping[str, str],
    resuming: Iterable[str],
) -> int:
    # Typer ships Click under its own name in some releases and depends on it in others; this is its class in both
    bad_arguments: type[Exception] = typer.BadParameter.__mro__[2]
    expected: tuple[type[Exception], ...] = (*failures, OSError, ImportError, MemoryError, RecursionError)
    wrong: tuple[type[Exception], ...] = (bad_arguments, UsageError, *usage)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    interrupted = partial(_interrupted, program, bool(arguments) and arguments[0] in resuming)
    try:
        result = app(args=arguments, prog_name=program, standalone_mode=False)
    except typer.Exit as stop:
        result = stop.exit_code
    except OutputError:
        raise
    except typer.Abort as stop:
        if not isinstance(stop.__cause__, EOFError):
            return interrupted()
        if debug:  # Typer takes the end of any file for the end of a person's patience
            raise stop.__cause__ from None
        note(f"{program}: expected more, found the end of a file")
        return FAILED
    except KeyboardInterrupt:
        return interrupted()
    except SystemError as error:
        if not any(isinstance(why, KeyboardInterrupt) for why in (error.__cause__, error.__context__)):
            raise
        return interrupted()  # Ctrl-C in the middle of a compiled kernel comes out like this
    except wrong as error:
        if debug:
            raise
        text = getattr(error, "format_message", error.__str__)()
        if text.strip():  # without any arguments the help has said it all
            note(f"{program}: {reworded(text, words)}{_found(error, text)}")
        return USAGE
    except expected as error:
        if debug:
            raise
        if isinstance(error, OSError) and not isinstance(error, failures) and isinstance(error.filename, str):
            error = named_os_error(error, Path(error.filename))
        note(f"{program}: {reworded(one_line(error, 10_000), words)}")
        return FAILED
    if result == INTERRUPTED:  # Typer turns Ctrl-C into this code before we see it
        return interrupted()
    return int(result) if isinstance(result, int) else DONE


def _found(error: Exception, text: str) -> str:
    """The value that an option was given, where the parser's message leaves it out (Typer over pydantic)."""
    details = getattr(error.__cause__, "errors", None)
    values = [str(detail.get("input")) for detail in details()] if callable(details) else []
    return f", found {values[0]!r}" if values and repr(values[0]) not in text else ""


def _interrupted(program: str, resumes: bool) -> int:
    note(f"{program}: interrupted" + ("; the same command goes on from what is finished" if resumes else ""))
    return INTERRUPTED
