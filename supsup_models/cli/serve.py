"""`supsup serve`: masks over HTTP."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from maskstore.cli import announcing, console
from supsup_models.cli.options import Immutable, example
from supsup_models.cli.starting import uncollected
from supsup_models.errors import ArgumentError, RequestError

EXAMPLES = example(
    "supsup serve run",
    "supsup serve masks.bank --port 8080 --memory 256",
    "supsup serve run --host 0.0.0.0 --token-file token.txt",
)
_TOKEN = "SUPSUP_TOKEN"
_SWITCH_SECONDS = 0.0005  # a thread that computes lets the one that answers go on sooner than by default


@announcing
def serve(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|SOURCE", help="A run's folder, or a bank, a shard or the URL of one.", show_default=False
        ),
    ],
    host: Annotated[str, typer.Option(help="The address to listen on; another than loopback needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"A file with the token that requests have to bring; or the environment's {_TOKEN}."),
    ] = None,
    memory: Annotated[int, typer.Option(help="MiB for masks in memory.", min=1, max=1 << 20)] = 1024,
    immutable: Immutable = False,
) -> None:
    """Answer for images over HTTP, under named masks or with the task inferred; new tasks are seen as they come.

    http://127.0.0.1:8000/docs describes what can be asked. Ctrl-C lets requests in flight end.
    """
    try:
        with uncollected():
            from supsup_models.serving import Engine, Limits, serve_http
    except ModuleNotFoundError as error:
        raise RequestError(
            f'supsup serve: expected the package {error.name}, found it not installed; pip install "maskstore[serve]" '
            "brings all it needs",
            501,
        ) from error
    token = _token(token_file)
    sys.setswitchinterval(_SWITCH_SECONDS)
    with _ended_by_signal():
        engine = Engine(source, limits=Limits(memory=memory << 20), immutable=immutable)
        try:
            server = serve_http(engine, host=host, port=port, token=token)
        except BaseException:
            engine.close()
            raise
        try:
            console.note(f"serving {len(engine.residents.names)} tasks of {source} at {server.url}")
            server.wait()
        except KeyboardInterrupt:
            console.note("ending: requests in flight get their answers")
        finally:
            server.stop()


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(_TOKEN) or None
    found = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    if not found:
        raise ArgumentError(f"token file {file}: expected a token in it, found none")
    return found


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Inside the block, SIGTERM ends the command as Ctrl-C does."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
