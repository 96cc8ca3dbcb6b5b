"""Every task's mask from unlabelled images, by an associative memory: neuron masks, or the weight masks of a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from supsup_models._names import check, choose
from supsup_models._progress import Reporter, Reporting
from supsup_models.data import open_stream
from supsup_models.errors import InferenceError, RunError
from supsup_models.hopsupsup import (
    SETUPS,
    WEIGHT_SETUPS,
    Case,
    check_plot,
    hamming_by_step,
    neuron_case,
    plot_recoveries,
    recover_stream,
    weight_memory,
)
from supsup_models.inference import OBJECTIVES, make_objective, mask_accuracy
from supsup_models.runs.load import load_run


def recover_run(
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
    download: bool = False,
    plot: Path | None = None,
    immutable: bool = False,
    reporter: Reporting = Reporter,
) -> dict[str, Any]:
    """Recover every task's mask from unlabelled images.

    Args:
        run: A folder that `train_run` made: its weight masks are recovered, on its own stream. Without it, neuron masks
            of a network with two hidden layers are trained first.
        stream: Without `run`: the stream, "split-mnist" if not said.
        tasks: How many tasks; all if not said.
        width: Without `run`: neurons of each hidden layer, 2048 if not said.
        rule: The memory: a name in `RULES` or `PATTERN_MEMORIES`; the recipe's own if not said.
        recipe: A name in `SETUPS` or, with `run`, in `WEIGHT_SETUPS`. If not said, "search" for neuron masks and
            "mean-field" for weight masks.
        objective: "H" or "G"; what the masks were trained for if not said.
        seed: Of neuron masks' weights, and of the order of images.
        data: Folder with the data set.
        download: Fetch the data set if it is not found.
        plot: A file to draw the wrong bits by layer and step into.
        immutable: Read the bank as it lies there, as `MaskBank.open` does, because nobody writes to it.
        reporter: Makes what shows progress.

    Returns:
        JSON-ready: `tasks`, `exact` and `steps` (the most of any task, of `step_images` images each), `hamming` (mean
        number of wrong bits a task), `accuracy` (mean test accuracy under the recovered masks), `true_accuracy` (under
        the true ones), `overlap_argmax` (how many tasks a plain nearest-mask look-up on the same images names), sizes
        in bytes, and `per_task` with the same for each and the wrong bits by layer after every batch, of `batch_images`
        images (`hamming_by_step`; `evaluations` says how many batches).

    Raises:
        UnknownNameError: For other names.
        InferenceError: For a stream or a width beside `run`.
        RunError: For a folder without a run, or with fewer tasks.
        PlotError: For a plot that cannot be drawn.
        HopfieldError: From the memory.

    Examples:
        >>> from supsup_models.runs import recover_run
        >>> found = recover_run(stream="split-digits", tasks=2, width=64, recipe="paper")
        >>> found["tasks"], found["recipe"], len(found["per_task"])
        (2, 'paper', 2)
    """
    if objective is not None:
        check("objective", objective, OBJECTIVES)
    if run and not (stream is None and width is None):
        raise InferenceError(f"{run}: expected the run's own stream and network, found another stream or width")
    if plot:
        check_plot(plot)
    if run:
        how = recipe or "mean-field"
        case = _weight_case(run, tasks, rule, how, objective, data, download, immutable)
    else:
        how = recipe or "search"
        setup = choose("recipe", how, SETUPS)
        setup = replace(setup, rule=rule or setup.rule)
        opened = open_stream(stream or "split-mnist", tasks=tasks, seed=seed, data=data, download=download)
        case = neuron_case(setup, opened, width or 2048, seed=seed, objective=objective or "H", reporter=reporter)
    found = recover_stream(case, seed=seed, reporter=reporter)
    if plot:
        plot_recoveries(found, case.masks, plot)
    count = len(found)
    return {
        "tasks": count,
        "exact": sum(task.exact for task in found),
        "steps": max(case.setup.steps(task.recovery.steps) for task in found),
        "hamming": sum(sum(task.hamming.values()) for task in found) / count,
        "accuracy": sum(task.accuracy for task in found) / count,
        "true_accuracy": sum(task.true_accuracy for task in found) / count,
        "overlap_argmax": sum(task.overlap_argmax == task.task for task in found),
        "recipe": how,
        "memory": repr(case.memory),
        "step_images": case.setup.step_images,
        "batch_images": case.setup.batch,
        "memory_bytes": case.memory.nbytes,
        "mask_bytes": case.masks.nbytes,
        "per_task": [
            {
                "task": task.task,
                "exact": task.exact,
                "evaluations": task.recovery.steps,
                "first_exact": task.first_exact,
                "hamming": task.hamming,
                "hamming_by_step": hamming_by_step(task, case.masks),
                "accuracy": task.accuracy,
                "overlap_argmax": task.overlap_argmax,
                "converged": task.recovery.converged,
                "confidence": task.recovery.confidence,
            }
            for task in found
        ],
    }


def _weight_case(
    run: Path,
    tasks: int | None,
    rule: str | None,
    recipe: str,
    objective: str | None,
    data: Path | None,
    download: bool,
    immutable: bool,
) -> Case:
    setup = choose("recipe for weight masks", recipe, WEIGHT_SETUPS)
    loaded = load_run(run, "cpu", immutable=immutable)
    model = loaded.masked_network
    if not loaded.record.config.task_identity:
        raise RunError(f"{run}: expected a run whose masks are its tasks', found one without task identity")
    known = loaded.tasks(loaded.stream(data, download))
    count = len(known) if tasks is None else tasks
    if count > len(known):
        raise RunError(f"{run}: expected at most its {len(known)} finished tasks, found `tasks={count}`")
    masks = loaded.matrix.select([task.name for task in known])  # in the tasks' order, whatever the bank's is

    return Case(
        setup,
        lambda images, mask: model.run_with(images, model.weights * mask),
        masks,
        weight_memory(masks, rule or setup.rule),
        [task.test for task in known[:count]],
        lambda split, mask: mask_accuracy(model, mask, split),
        make_objective(objective or model.objective, classes=model.classes, outputs=model.outputs),
    )
