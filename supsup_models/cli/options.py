"""The options that commands of `supsup` share."""

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A folder made by `supsup train`.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
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
Download = Annotated[bool, typer.Option("--download", help="Fetch the data set if it is not found.")]


def example(*lines: str) -> str:
    """The end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)
