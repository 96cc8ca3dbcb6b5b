"""`supsup recover`: its options and what it prints; the work is in `supsup_models.runs.recover`."""

import warnings
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from maskstore.cli import announcing, console
from supsup_models.cli.options import AsJson, Data, Download, Immutable, example
from supsup_models.errors import SupSupError

EXAMPLES = example("supsup recover --data DIR", "supsup recover --stream split-digits --width 256 --json")
RULES = ("hebbian", "storkey", "storkey-local-field", "pseudo-inverse", "perceptron", "dense-associative", "coded")
RECIPES = ("paper", "mean-field", "search", "cue")
"""For the help, which waits for no memory to be imported; a test holds them equal to `supsup_models.hopsupsup`'s."""


def _options(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="A run of `supsup train`: recover its weight masks.")
    ] = None,
    stream: Annotated[
        str | None, typer.Option(help="Without RUN: stream to train neuron masks on; split-mnist if not said.")
    ] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="How many tasks; all if not said.")] = None,
    width: Annotated[
        int | None, typer.Option(min=1, help="Without RUN: neurons of each of two hidden layers; 2048 if not said.")
    ] = None,
    rule: Annotated[str | None, typer.Option(help=f"Memory: {', '.join(RULES)}; the recipe's own if not said.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(RECIPES)}; if not said, search for neuron masks, mean-field for a run's."),
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="H, or G for a run with superfluous outputs; by default the run's own.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Seed of weights, stream and batches.")] = 0,
    data: Data = None,
    download: Download = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the wrong bits by layer and step into this file (.png, .svg, .pdf, ...).")
    ] = None,
    immutable: Immutable = False,
    as_json: AsJson = False,
) -> None:
    """Recover each task's mask from unlabelled images with an associative memory."""


@announcing
@wraps(_options)
def recover(as_json: bool, **asked: Any) -> None:
    from hopfield.errors import HopfieldError, RuleError  # torch
    from supsup_models.runs import recover_run

    try:
        with warnings.catch_warnings():  # of an overloaded memory, for one: lines for the person, no source line
            warnings.showwarning = lambda message, *_: console.note(f"supsup: warning: {message}")
            found = recover_run(**asked)
    except RuleError as error:  # a rule that does not suit the masks
        raise console.UsageError(str(error)) from error
    except HopfieldError as error:
        raise SupSupError(str(error)) from error
    if as_json:
        console.print_json(found)
        return
    steps = f"{found['steps']} steps of {found['step_images']} images"
    console.say(f"{found['exact']} of {found['tasks']} masks recovered exactly, in at most {steps}")
    console.say(f"mean Hamming distance {found['hamming']:.2f} bits")
    console.say(
        f"accuracy {found['accuracy']:.4f} with the recovered masks, {found['true_accuracy']:.4f} with the true"
    )
    console.say(f"a plain nearest-mask look-up names {found['overlap_argmax']} of {found['tasks']} tasks")
    console.say(f"memory {found['memory_bytes']} bytes, packed masks {found['mask_bytes']} bytes")
