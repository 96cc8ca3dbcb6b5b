"""The `supsup` command. Options and printing are here; what a command does is in `supsup_models.runs`.

torch, numba and scikit-learn are imported inside the commands only, so that `--help` answers at once.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from maskstore.cli import announced, announcing, console
from maskstore.errors import MaskStoreError
from supsup_models.cli import explore, merge_runs, recover, serve, train
from supsup_models.cli.options import (
    AsJson,
    Data,
    Device,
    Download,
    Immutable,
    Method,
    Objective,
    RunFolder,
    ViewCount,
    example,
)
from supsup_models.cli.resuming import RESUMING
from supsup_models.cli.seeds import print_evaluated
from supsup_models.cli.starting import uncollected
from supsup_models.errors import ArgumentError, SupSupError

WORDS = {
    "method": "--infer",
    "outputs": "--outputs",
    "extras": "masks.bank",
    "bank.extras(name)": "masks.bank",
    "data": "--data",
    "limit": "limit of MaskBank.open",
    "train_run": "supsup train",
    "recover_run": "supsup recover",
}
"""What errors call by its Python name, as the command line has it; an argument `name` is `--name` if it is not here."""


@contextmanager
def told_warnings() -> Iterator[None]:
    """Inside the block, each warning is a line for the person, in the command line's words, and is given once."""
    given = set[str]()

    def tell(message: Warning | str) -> None:
        line = f"supsup: warning: {console.reworded(str(message), WORDS)}"
        if line not in given:
            given.add(line)
            console.note(line)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_: tell(message)
        yield


app = typer.Typer(
    help="Supermasks in Superposition, and masks recovered by memory. Errors are one line; --debug shows tracebacks.",
    epilog=example(
        "supsup demo",
        "supsup train --stream permuted-digits --tasks 5 --out run",
        "supsup eval run --scenario GNu",
        "supsup infer run images.npy",
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The `supsup` command; `supsup_models.cli` calls it."""
    # torch's threads otherwise spin while they wait, which on a busy machine makes small steps a hundred times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run `supsup` with these arguments; returns its exit code."""
    failures = SupSupError, MaskStoreError
    return console.run("supsup", app, failures, arguments, usage=(ArgumentError,), words=WORDS, resuming=RESUMING)


@app.callback()
def _program(version: Annotated[bool, console.version_option("supsup")] = False) -> None:
    pass


app.command("train", epilog=train.EXAMPLES)(train.train)
app.command("merge-runs", epilog=merge_runs.EXAMPLES)(merge_runs.merge_runs)


@app.command(
    "eval",
    epilog=example(
        "supsup eval run --scenario GNu --infer one-shot --objective H --images 1 --json",
        "supsup eval run --scenario GNs --infer binary --images 16 --limit 1000",
    ),
)
@announcing
def evaluate(
    run: RunFolder,
    scenario: Annotated[
        str | None, typer.Option(help="GG, GNs, GNu or NNs; if not said, GNu, or NNs for a run trained so.")
    ] = None,
    method: Method = None,
    objective: Objective = None,
    images: Annotated[int, typer.Option(help="Images of one task that share an inference.", min=1, max=1_000_000)] = 1,
    views: ViewCount = None,
    limit: Annotated[int | None, typer.Option(help="Judge only so many inferences, evenly over tasks.", min=1)] = None,
    data: Data = None,
    download: Download = False,
    device: Device = "auto",
    immutable: Immutable = False,
    as_json: AsJson = False,
) -> None:
    """Judge a run on its test images in a scenario; for GNs and GNu the tasks are inferred from the images alone."""
    with uncollected():
        from supsup_models.inference import Inference
        from supsup_models.runs import evaluate_run, evaluate_seeds, seed_folders

    inference = Inference(method, objective, images)
    if seed_folders(run):
        with told_warnings():
            every = evaluate_seeds(
                run, scenario, inference,
                views=views, limit=limit, data=data, download=download, device=device, immutable=immutable,
            )  # fmt: skip
        if as_json:
            console.print_json(every.to_json())
        else:
            print_evaluated(every)
        return
    with told_warnings():
        found = evaluate_run(
            run, scenario, inference,
            views=views, limit=limit, data=data, download=download, device=device, immutable=immutable,
        )  # fmt: skip
    if as_json:
        console.print_json(found.to_json())
        return
    for task in found.per_task:
        console.say(f"{task.task}: accuracy {task.accuracy:.4f}, task found {task.task_accuracy:.4f}")
    sample = "" if found.interval is None else f" (95 % interval {found.interval[0]:.4f} to {found.interval[1]:.4f})"
    console.say(f"{found.scenario}, {found.tasks} tasks: accuracy {found.accuracy:.4f}{sample}")
    if found.given_accuracy is not None and found.scenario != "GG":
        console.say(f"the same images with the task given: accuracy {found.given_accuracy:.4f}")
    console.say(f"task found {found.task_accuracy:.4f}, {1e3 * found.seconds_per_inference:.3f} ms an inference")


@app.command(epilog=example("supsup infer run images.npy --json", "supsup infer run images.npy --one-task"))
@announcing
def infer(
    run: RunFolder,
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES.npy", help="(n, inputs), (n, h, w) or (n, c, h, w), uint8 or float.", show_default=False
        ),
    ],
    method: Method = None,
    objective: Objective = None,
    views: ViewCount = None,
    one_task: Annotated[bool, typer.Option("--one-task", help="All images are of one task.")] = False,
    error: Annotated[
        float,
        typer.Option(help="One-shot: the most that the chance of another task may be for reading less of the masks."),
    ] = 0.0,
    pixels: Annotated[
        str | None,
        typer.Option(help="normalised, unit (floats in [0, 1]) or raw (0 to 255); by default told from the values."),
    ] = None,
    device: Device = "auto",
    immutable: Immutable = False,
    as_json: AsJson = False,
) -> None:
    """Task, label and confidence for unlabelled images, each image its own task unless --one-task is given.

    The confidence beside the label is the probability that the network gives it under the task's mask. The task
    confidence is the share of the task's own images that look less like it; below 0.01 it is none of these tasks.
    """
    from dataclasses import asdict

    with uncollected():
        from supsup_models.runs import infer_images

    with told_warnings():
        found = infer_images(
            run,
            images,
            method=method,
            objective=objective,
            views=views,
            one_task=one_task,
            error=error,
            pixels=pixels,
            device=device,
            immutable=immutable,
        )
    console.note(f"normalisation: {found.normalisation}")
    for note in found.notes:
        console.note(console.reworded(note, WORDS))
    if as_json:
        answers = [asdict(answer) for answer in found.answers]
        console.print_json({"images": len(answers), "normalisation": found.normalisation, "answers": answers})
        return
    for number, each in enumerate(found.answers):
        sureness = "" if each.task_confidence is None else f", task confidence {each.task_confidence:.3f}"
        task = f"none of these tasks (nearest {each.task})" if each.none_of_these else each.task
        console.say(f"image {number}: {task}, label {each.label} (confidence {each.confidence:.3f}){sureness}")


app.command("recover", epilog=recover.EXAMPLES)(recover.recover)

app.command("serve", epilog=serve.EXAMPLES)(serve.serve)

app.command("explore", epilog=explore.EXAMPLES)(explore.explore)


@app.command(
    epilog=example(
        "supsup report run -o report.html",
        "supsup report run --data DIR --recovery recovery.json --compare results.json --compare other-run",
    )
)
@announcing
def report(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The page; by default report.html in the run's folder.", callback=console.no_stream
        ),
    ] = None,
    compare: Annotated[
        list[Path] | None, typer.Option(help="Other points: results in JSON, or a run's folder; may be repeated.")
    ] = None,
    recovery: Annotated[Path | None, typer.Option(help="What `supsup recover --json` wrote.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Inferences judged, evenly over tasks (1000 if not said); 0: no images.", min=0)
    ] = None,
    method: Method = None,
    objective: Objective = None,
    images: Annotated[int, typer.Option(help="Images of one task that share an inference.", min=1, max=1_000_000)] = 1,
    data: Data = None,
    download: Download = False,
    device: Device = "auto",
    immutable: Immutable = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is no report.")] = False,
    as_json: AsJson = False,
) -> None:
    """One self-contained page about a run, finished or not: figures, configuration, commands. It fetches nothing."""
    from supsup_models.report import make_report

    inference = None
    if limit != 0:
        from supsup_models.inference import Inference  # torch

        inference = Inference(method, objective, images)
    with told_warnings():
        made = make_report(
            run,
            run / "report.html" if out is None else out,
            inference=inference,
            limit=limit,
            recovery=recovery,
            compare=compare or (),
            data=data,
            download=download,
            device=device,
            immutable=immutable,
            overwrite=overwrite,
        )
    if made.no_images:
        console.note(f"no figures of inference: {console.reworded(made.no_images, WORDS)}")
    if as_json:
        console.print_json(made.to_json())
    else:
        console.say(f"{made.path}: {', '.join(made.page.drawn) or 'no figure yet'}")


@app.command(epilog=example("supsup demo --out demo"))
@announcing
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the run; emptied of an earlier demo's run.", callback=console.no_stream)
    ] = Path("demo"),
    as_json: AsJson = False,
) -> None:
    """The tour, on embedded data, in under a minute: train, store, infer."""
    from supsup_models.cli.demo import run_demo

    result = run_demo(out)
    if as_json:
        console.print_json(result.to_json())
    else:
        result.print()


def _known_experiments(incomplete: str) -> list[str]:
    """For the shell's Tab key."""
    from supsup_models.cli import reproduce as command

    return [each["name"] for each in command.listing() if each["name"].startswith(incomplete)]


@app.command(
    epilog=example(
        "supsup reproduce --list",
        "supsup reproduce nns-permuted-lenet-20 --data DIR --json",
        "supsup reproduce permuted-lenet-250 --quick",
    )
)
def reproduce(
    experiment: Annotated[
        str | None, typer.Argument(help="Its name; see --list.", show_default=False, autocompletion=_known_experiments)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results and trained runs.", callback=console.no_stream)] = Path(
        "reproduced"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="A small version on embedded data.")] = False,
    seeds: Annotated[
        int, typer.Option(help="Run it with so many seeds: means, and their standard deviation.", min=1)
    ] = 1,
    list_all: Annotated[bool, typer.Option("--list", help="Name all experiments.")] = False,
    data: Data = None,
    download: Download = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Run a published experiment end to end: our figures beside the published ones. Goes on where it stopped."""
    from supsup_models.cli import reproduce as command

    if list_all:
        known = command.listing()
        if as_json:
            console.print_json({"experiments": known})
        else:
            console.say("\n".join(f"{each['name']}: {each['title']}" for each in known))
        return
    name = command.check_experiment(experiment)
    with announced(console.note):
        from supsup_models.experiments import Context  # torch

        result, path = command.reproduce(name, Context(out, quick, data, download, device), seeds)
    if as_json:
        console.print_json(result)
    else:
        command.print_result(result, path)
    if result["reached"] is False:
        raise typer.Exit(console.FAILED)
