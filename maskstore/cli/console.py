"""What the command lines share: exit codes, one-line errors, `--debug`; JSON on standard output, prose on the other.

Exit codes: 0 done, 1 the data or the check failed, 2 wrong usage, 130 interrupted.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any

import typer

from maskstore.errors import one_line, printable
from maskstore.files import check_known

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


class UsageError(Exception):
    """Arguments that parse but do not make sense; ends a command with exit code 2."""


def choice(what: str, word: str, known: Iterable[str]) -> str:
    """The word if it is known; otherwise a UsageError that names the nearest."""
    check_known(what, word, known, UsageError)
    return word


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def cell(text: str) -> str:
    """Text for a Rich table or line: printable, and no markup in it."""
    from rich.markup import escape

    return escape(printable(text))


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

    return re.sub(r"`(?P<name>[a-z_]+)(=(?P<value>\"[^\"`]*\"|[\w.]+))?`", option, text)


def run(
    program: str,
    app: Callable[..., Any],
    failures: tuple[type[Exception], ...],
    arguments: list[str],
    *,
    usage: tuple[type[Exception], ...] = (),
    words: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run a Typer app and return its exit code.

    `failures` are the packages' own errors: one line on standard error and exit code 1. Those that are `usage` too end
    with exit code 2. Their texts are `reworded`. With `--debug` anywhere among the arguments every error shows its
    traceback.
    """
    # Typer ships Click under its own name in some releases and depends on it in others; this is its class in both
    bad_arguments: type[Exception] = typer.BadParameter.__mro__[2]
    expected: tuple[type[Exception], ...] = (*failures, OSError, ImportError, MemoryError, RecursionError)
    wrong: tuple[type[Exception], ...] = (bad_arguments, UsageError, *usage)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        result = app(args=arguments, prog_name=program, standalone_mode=False)
    except typer.Exit as stop:
        result = stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted(program)
    except SystemError as error:
        if not any(isinstance(why, KeyboardInterrupt) for why in (error.__cause__, error.__context__)):
            raise
        return _interrupted(program)  # Ctrl-C in the middle of a compiled kernel comes out like this
    except wrong as error:
        if debug:
            raise
        text = getattr(error, "format_message", error.__str__)()
        if text.strip():  # without any arguments the help has said it all
            note(f"{program}: {reworded(text, words)}{_found(error, text)}")
        return USAGE
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; the interpreter must not complain about it on exit
        return FAILED
    except expected as error:
        if debug:
            raise
        note(f"{program}: {reworded(one_line(error, 10_000), words)}")
        return FAILED
    if result == INTERRUPTED:  # Typer turns Ctrl-C into this code before we see it
        return _interrupted(program)
    return int(result) if isinstance(result, int) else DONE


def _found(error: Exception, text: str) -> str:
    """The value that an option was given, where the parser's message leaves it out (Typer over pydantic)."""
    details = getattr(error.__cause__, "errors", None)
    values = [str(detail.get("input")) for detail in details()] if callable(details) else []
    return f", found {values[0]!r}" if values and repr(values[0]) not in text else ""


def _interrupted(program: str) -> int:
    note(f"{program}: interrupted")
    return INTERRUPTED
