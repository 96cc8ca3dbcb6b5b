"""`supsup recover`: Hopfield recovery of task masks over a stream. torch is imported only when it runs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

RULES = ("storkey", "hebbian")
RECIPES = ("paper",)


def run_recover(
    stream: str = "split-mnist",
    *,
    tasks: int | None = None,
    width: int = 2048,
    rule: str = "storkey",
    recipe: str = "paper",
    seed: int = 0,
    data: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Train neuron masks over a stream, store them in a memory, recover each from unlabelled images.

    Returns the JSON object of the command: integers `tasks, exact, steps` (the most batches that any task needed),
    `hamming` (mean number of wrong bits a task), `accuracy` (mean test accuracy under the recovered masks),
    `true_accuracy` (under the true ones), `overlap_argmax` (how many tasks a plain nearest-mask look-up on the same
    images names), and `per_task` with the same for each.
    """
    import hopfield
    from hopfield.errors import RuleError
    from supsup_models.data.streams import open_stream
    from supsup_models.hopsupsup import NeuronMaskedNetwork, NeuronTraining, memory_per_layer
    from supsup_models.hopsupsup.stream import recover_stream, train_stream

    for what, value, known in (("rule", rule, RULES), ("recipe", recipe, RECIPES)):
        if value not in known:
            raise RuleError(f"{what}: expected one of {', '.join(known)}, found {value!r}")
    tell = progress or (lambda what, done, total: None)
    opened = open_stream(stream, tasks=tasks, seed=seed, data=data)
    outputs = 1 + max(label for task in opened for label in task.global_labels)
    model = NeuronMaskedNetwork((opened.inputs, width, width, outputs), seed=seed)
    masks = train_stream(model, opened, NeuronTraining(), seed=seed, progress=tell)
    couplings: hopfield.Rule = hopfield.Storkey() if rule == "storkey" else hopfield.Hebbian()
    memory = memory_per_layer(masks, couplings)
    result = recover_stream(model, masks, memory, opened, hopfield.PaperRecipe(), batch=64, seed=seed, progress=tell)
    count = len(result.tasks)
    return {
        "tasks": count,
        "exact": sum(task.exact for task in result.tasks),
        "steps": max(task.steps for task in result.tasks),
        "hamming": sum(sum(task.hamming.values()) for task in result.tasks) / count,
        "accuracy": sum(result.accuracy) / count,
        "true_accuracy": sum(result.true_accuracy) / count,
        "overlap_argmax": sum(task.overlap_argmax == task.task for task in result.tasks),
        "stream": stream,
        "memory_bytes": memory.nbytes,
        "mask_bytes": masks.nbytes,
        "per_task": [
            {
                "task": task.task,
                "exact": task.exact,
                "first_exact": task.first_exact,
                "hamming": task.hamming,
                "accuracy": accuracy,
                "overlap_argmax": task.overlap_argmax,
                "converged": task.recovery.converged,
            }
            for task, accuracy in zip(result.tasks, result.accuracy, strict=True)
        ],
    }


def recover(
    stream: Annotated[str, typer.Option(help="Stream of tasks, such as split-mnist.")] = "split-mnist",
    tasks: Annotated[int | None, typer.Option(min=1, help="How many tasks; all of the stream's if not said.")] = None,
    width: Annotated[int, typer.Option(min=1, help="Neurons of each of the two hidden layers.")] = 2048,
    rule: Annotated[str, typer.Option(help=f"Learning rule of the memory: {', '.join(RULES)}.")] = "storkey",
    recipe: Annotated[str, typer.Option(help=f"Recovery recipe: {', '.join(RECIPES)}.")] = "paper",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights, the stream and the batches.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Folder with the data files.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Recover each task's mask from unlabelled images with a Hopfield memory."""
    found = run_recover(
        stream, tasks=tasks, width=width, rule=rule, recipe=recipe, seed=seed, data=data, progress=_to_stderr
    )
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(f"{found['exact']} of {found['tasks']} masks recovered exactly, in at most {found['steps']} steps")
    typer.echo(f"mean Hamming distance {found['hamming']:.2f} bits")
    typer.echo(
        f"accuracy with the recovered masks {found['accuracy']:.4f}, with the true ones {found['true_accuracy']:.4f}"
    )
    typer.echo(f"a plain nearest-mask look-up names {found['overlap_argmax']} of {found['tasks']} tasks")


def _to_stderr(what: str, done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{what} {done}/{total}", end=end, file=sys.stderr, flush=True)
