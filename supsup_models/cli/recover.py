"""`supsup recover`: task masks from unlabelled images, by an associative memory. Imports torch only when it runs."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from maskstore.cli import console

RULES = ("hebbian", "storkey", "storkey-local-field", "pseudo-inverse", "perceptron", "dense-associative")
RECIPES = ("paper", "mean-field", "search")


def run_recover(
    run: Path | None = None,
    *,
    stream: str | None = None,
    tasks: int | None = None,
    width: int | None = None,
    rule: str | None = None,
    recipe: str | None = None,
    objective: str | None = None,
    seed: int = 0,
    data: Path | None = None,
    plot: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Recover every task's mask from unlabelled images.

    With `run`, a folder that `supsup train` made, its weight masks are recovered; the stream is the run's, and `seed`
    orders the batches. Without, neuron masks of a network with two hidden layers of `width` (2048) are trained over
    `stream` ("split-mnist") first. `objective` is H or G, by default what the masks were trained for. Capacity warnings
    come as Python's.

    Returns the JSON object of the command: integers `tasks`, `exact` and `steps` (the most steps any task needed, of
    `step_images` images each), `hamming` (mean number of wrong bits a task), `accuracy` (mean test accuracy under the
    recovered masks), `true_accuracy` (under the true ones), `overlap_argmax` (how many tasks a plain nearest-mask
    look-up on the same images names), sizes in bytes, and `per_task` with the same for each and the wrong bits by layer
    after every step (`hamming_by_step`). With `plot`, the wrong bits by layer and step are drawn into that file.
    """
    from supsup_models._names import check
    from supsup_models.errors import InferenceError
    from supsup_models.hopsupsup import check_plot, hamming_by_step, plot_recoveries, recover_stream
    from supsup_models.inference import OBJECTIVES

    if objective is not None:
        check("objective", objective, OBJECTIVES)
    if run and not (stream is None and width is None):
        raise InferenceError(f"{run}: expected the run's own stream and network, found another stream or width")
    if plot:
        check_plot(plot)
    tell = progress or (lambda what, done, total: None)
    if run:
        case = _weight_case(run, tasks, rule, recipe or "mean-field", objective, data)
    else:
        names = (stream or "split-mnist", recipe or "search", objective or "H")
        case = _neuron_case(*names, tasks, width or 2048, rule, seed, data, tell)
    result = recover_stream(
        case.forward,
        case.masks,
        case.memory,
        case.splits,
        case.setup.recipe,
        batch=case.setup.batch,
        seed=seed,
        accuracy=case.accuracy,
        progress=tell,
        objective=case.objective,
    )
    if plot:
        plot_recoveries(result.tasks, case.masks, plot)
    count = len(result.tasks)
    return {
        "tasks": count,
        "exact": sum(task.exact for task in result.tasks),
        "steps": max(case.setup.steps(task.steps) for task in result.tasks),
        "hamming": sum(sum(task.hamming.values()) for task in result.tasks) / count,
        "accuracy": sum(result.accuracy) / count,
        "true_accuracy": sum(result.true_accuracy) / count,
        "overlap_argmax": sum(task.overlap_argmax == task.task for task in result.tasks),
        "recipe": case.recipe,
        "memory": repr(case.memory),
        "step_images": case.setup.step_images,
        "memory_bytes": case.memory.nbytes,
        "mask_bytes": case.masks.nbytes,
        "per_task": [
            {
                "task": task.task,
                "exact": task.exact,
                "evaluations": task.steps,
                "first_exact": task.first_exact,
                "hamming": task.hamming,
                "hamming_by_step": hamming_by_step(task, case.masks),
                "accuracy": accuracy,
                "overlap_argmax": task.overlap_argmax,
                "converged": task.recovery.converged,
                "confidence": task.recovery.confidence,
            }
            for task, accuracy in zip(result.tasks, result.accuracy, strict=True)
        ],
    }


def recover(
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
    data: Annotated[Path | None, typer.Option(help="Folder with the data files.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the wrong bits by layer and step into this file (.png, .svg, .pdf, ...).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Recover each task's mask from unlabelled images with an associative memory."""
    with _warnings_as_notes(), _plot_checked():
        found = run_recover(
            run,
            stream=stream,
            tasks=tasks,
            width=width,
            rule=rule,
            recipe=recipe,
            objective=objective,
            seed=seed,
            data=data,
            plot=plot,
            progress=_to_stderr,
        )
    if as_json:
        console.print_json(found)
        return
    typer.echo(f"{found['exact']} of {found['tasks']} masks recovered exactly, in at most {found['steps']} steps")
    typer.echo(f"mean Hamming distance {found['hamming']:.2f} bits")
    typer.echo(f"accuracy {found['accuracy']:.4f} with the recovered masks, {found['true_accuracy']:.4f} with the true")
    typer.echo(f"a plain nearest-mask look-up names {found['overlap_argmax']} of {found['tasks']} tasks")
    typer.echo(f"memory {found['memory_bytes']} bytes, packed masks {found['mask_bytes']} bytes")


def _neuron_case(
    stream: str,
    recipe: str,
    objective: str,
    tasks: int | None,
    width: int,
    rule: str | None,
    seed: int,
    data: Path | None,
    tell: Callable[[str, int, int], None],
) -> Any:
    from supsup_models._names import check, choose
    from supsup_models.data import open_stream
    from supsup_models.hopsupsup import (
        DENSE_ASSOCIATIVE,
        RULES,
        SETUPS,
        Case,
        NeuronMaskedNetwork,
        Relabelled,
        accuracy,
        neuron_memory,
        train_stream,
    )
    from supsup_models.inference import make_objective

    setup = choose("recipe", recipe, SETUPS)
    check("rule", rule or setup.rule, (*RULES, DENSE_ASSOCIATIVE))
    opened = open_stream(stream, tasks=tasks, seed=seed, data=data)
    outputs = 1 + max(label for task in opened for label in task.global_labels)
    cost = make_objective(objective, classes=outputs, outputs=outputs)
    widths = (opened.inputs, width, width, outputs)
    model = NeuronMaskedNetwork(widths, seed=seed, output_gain=setup.output_gain, gate=setup.gate)
    masks = train_stream(model, opened, setup.training, seed=seed, progress=tell)
    return Case(
        recipe,
        setup,
        model,
        masks,
        neuron_memory(masks, rule or setup.rule, per_layer=recipe == "paper"),
        [Relabelled(task.test, task.global_labels) for task in opened],
        lambda split, mask: accuracy(model, split, mask),
        cost,
    )


def _weight_case(
    run: Path, tasks: int | None, rule: str | None, recipe: str, objective: str | None, data: Path | None
) -> Any:
    import torch

    from supsup_models._names import choose
    from supsup_models.errors import RunError
    from supsup_models.hopsupsup import WEIGHT_SETUPS, Case, weight_forward, weight_memory
    from supsup_models.inference import make_objective
    from supsup_models.runs import load_run

    setup = choose("recipe for weight masks", recipe, WEIGHT_SETUPS)
    loaded = load_run(run, torch.device("cpu"))
    model = loaded.masked_network
    opened = loaded.stream(data)
    count = len(loaded.matrix) if tasks is None else tasks
    if count > len(loaded.matrix):
        raise RunError(f"{run}: expected at most its {len(loaded.matrix)} finished tasks, found --tasks {count}")
    splits = [opened[index].test for index in range(count)]

    def accuracy(split: Any, mask: Any) -> float:
        with torch.no_grad():
            right = loaded.model(split.images(slice(None)), mask)[:, : loaded.model.classes].argmax(1) == split.labels
        return float(right.float().mean())

    memory = weight_memory(loaded.matrix, rule or setup.rule)
    return Case(
        recipe,
        setup,
        weight_forward(model),
        loaded.matrix,
        memory,
        splits,
        accuracy,
        make_objective(objective or model.objective, classes=loaded.model.classes, outputs=loaded.model.outputs),
    )


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Warnings, of an overloaded memory for one, as lines for the person instead of Python's with a source line."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: console.note(f"supsup: warning: {message}")
        yield


@contextmanager
def _plot_checked() -> Iterator[None]:
    """A plot that cannot be drawn is wrong usage, not a failure."""
    from supsup_models.errors import PlotError

    try:
        yield
    except PlotError as error:
        raise console.UsageError(str(error)) from error


def _to_stderr(what: str, done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{what} {done}/{total}", end=end, file=sys.stderr, flush=True)
