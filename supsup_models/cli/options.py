"""The options that commands of `supsup` share."""

from pathlib import Path
from typing import Annotated

import typer

from maskstore.cli import console

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A folder made by `supsup train`.", show_default=False)]
AsJson = console.AsJson
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Method = Annotated[
    str | None,
    typer.Option(
        "--infer",
        help="one-shot, short-list, binary, exhaustive, gradient or pairs; by default what works for the run's masks.",
    ),
]
Objective = Annotated[
    str | None, typer.Option(help="H (entropy) or G (superfluous outputs); by default what the masks were trained for.")
]
ViewCount = Annotated[
    int | None,
    typer.Option(
        "--views",
        help="Views of each image that `--infer pairs` looks at: 1, 4 (turned) or 8 (mirrored, too); by default all "
        "that the masks were trained with.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the data set's files, or one that holds its folder (mnist/, cifar-100-binary/, ...)."
    ),
]
Immutable = console.Immutable
example = console.examples
Download = Annotated[bool, typer.Option("--download", help="Fetch the data set if it is not found.")]
