"""What the commands of `supsup` share: their options, and how wrong usage is told from failure."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from maskstore.cli import console
from supsup_models._requirements import torch_needed
from supsup_models.errors import (
    BatchStatisticsError,
    InferenceError,
    NetworkError,
    SparsityError,
    StreamLengthError,
    UnknownNameError,
    UnknownStreamError,
)

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A folder made by `supsup train`.", show_default=False)]
AsJson = console.AsJson
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Method = Annotated[str, typer.Option("--infer", help="one-shot, short-list, binary, exhaustive or gradient.")]
Objective = Annotated[
    str | None, typer.Option(help="H (entropy) or G (superfluous outputs); by default what the masks were trained for.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the data set's files, or one that holds its folder (mnist/, cifar-100-binary/, ...)."
    ),
]
example = console.examples
Download = Annotated[bool, typer.Option("--download", help="Fetch the data set if it is not found.")]


@contextmanager
def names_checked() -> Iterator[None]:
    """Names that nothing has, and numbers that do not go together, are wrong usage, not failures."""
    try:
        yield
    except BatchStatisticsError as error:
        hint = "here: eval --images 16, infer --one-task, or --infer exhaustive"
        raise console.UsageError(f"{error} ({hint})") from error
    except (
        *(InferenceError, NetworkError, SparsityError),
        *(StreamLengthError, UnknownNameError, UnknownStreamError),
    ) as error:
        raise console.UsageError(str(error)) from error


@contextmanager
def usage_checked() -> Iterator[None]:
    """As `names_checked`, for a command's work: says what to install without torch, and when kernels are compiled."""
    with names_checked(), torch_needed():
        from maskstore.cli import announced  # only here: it imports Numba

        with announced(console.note):
            yield
