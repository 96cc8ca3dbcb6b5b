"""`supsup merge-runs`: its options and what it prints; the work is in `supsup_models.runs.merge`."""

from pathlib import Path
from typing import Annotated

import typer

from maskstore.cli import announcing, console
from supsup_models.cli.options import AsJson, Data, Device, Download, Immutable, example

EXAMPLES = example(
    "supsup merge-runs shard-0 shard-1 shard-2 --out run",
    "supsup merge-runs shards/* --out run --data DIR --json",
)


@announcing
def merge_runs(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="The folders of all shards of a run, in any order.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The folder of the merged run; none yet, or empty.", show_default=False, callback=console.no_stream
        ),
    ],
    data: Data = None,
    download: Download = False,
    device: Device = "auto",
    immutable: Immutable = False,
    as_json: AsJson = False,
) -> None:
    """Make one run of the shards that `supsup train --shard I/N` trained, as one process would have made it.

    The shards stay as they are. `supsup train` goes on with the merged run, with more --tasks too.
    """
    from supsup_models.runs import bank_path
    from supsup_models.runs import merge_runs as merge

    merged = merge(runs, out, data=data, download=download, device=device, immutable=immutable)
    for note in merged.notes:
        console.note(f"shards differ, the first one's is kept: {note}")
    tasks = sum(len(record.tasks) for record in merged.records)
    if as_json:
        seeds = [record.config.seed for record in merged.records]
        console.print_json({"run": str(out), "shards": len(runs), "seeds": seeds, "tasks": tasks})
        return
    where = bank_path(out) if len(merged.records) == 1 else out
    console.say(f"{tasks} tasks of {len(runs)} shards, in {where}")
