"""`supsup explore`: a page to look into a run with."""

from pathlib import Path
from typing import Annotated

import typer

from maskstore.cli import announcing, console
from supsup_models.cli.options import (
    AsJson,
    Data,
    Device,
    Download,
    Immutable,
    Method,
    Objective,
    RunFolder,
    example,
)

EXAMPLES = example("supsup explore run", "supsup explore run --images 100 --infer exhaustive -o explore.html")


@announcing
def explore(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The page; by default explore.html in the run's folder.", callback=console.no_stream
        ),
    ] = None,
    images: Annotated[int, typer.Option(help="Test images shown, evenly over tasks.", min=1, max=400)] = 60,
    method: Method = None,
    objective: Objective = None,
    data: Data = None,
    download: Download = False,
    device: Device = "auto",
    immutable: Immutable = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is no such page.")] = False,
    as_json: AsJson = False,
) -> None:
    """A page to play with: pick an image, and see the scores of all masks, the labels under each, and the masks.

    It is one file that needs no network.
    """
    from supsup_models.inference import Inference
    from supsup_models.report.explore import make_explorer

    made = make_explorer(
        run,
        out,
        inference=Inference(method, objective, 1),
        images=images,
        data=data,
        download=download,
        device=device,
        immutable=immutable,
        overwrite=overwrite,
    )
    if as_json:
        console.print_json(made.to_json())
        return
    found = made.shown.found
    share = "" if found is None else f", the task of {found:.1%} of them found"
    console.say(f"{made.path}: {len(made.shown.names)} masks, {len(made.shown.images)} images{share}")
