"""`supsup eval`: judge a run in a scenario."""

from collections.abc import Callable
from pathlib import Path

from supsup_models._names import check, pick_device
from supsup_models._progress import Reporter
from supsup_models.errors import RunError
from supsup_models.inference import METHODS, OBJECTIVES, SCENARIOS, Evaluation, Inference, TaskResult, evaluate
from supsup_models.runs.load import load_run


def evaluate_run(
    folder: Path,
    scenario: str,
    inference: Inference,
    *,
    limit: int | None = None,
    data: Path | None = None,
    download: bool = False,
    device: str = "auto",
    reporter: Callable[[str, int], Reporter] = Reporter,
) -> Evaluation:
    """Judge every task of a run that was finished, on its test images.

    Raises UnknownNameError for other scenarios, methods and objectives, RunError for a folder without a finished task.
    """
    check("scenario", scenario, SCENARIOS)
    check("inference method", inference.method, METHODS)
    if inference.objective is not None:
        check("objective", inference.objective, OBJECTIVES)
    run = load_run(folder, pick_device(device))
    stream = run.stream(data, download)
    if run.record.config.task_identity != (scenario != "NNs"):
        trained = "with" if run.record.config.task_identity else "without"
        raise RunError(f"{folder}: expected a run trained for scenario {scenario}, found one {trained} task identity")
    tasks = [task for task in stream if scenario == "NNs" or task.name in run.matrix.names]
    if not tasks:
        raise RunError(f"{folder}: expected masks of the stream's tasks, found {', '.join(run.matrix.names[:4])}")
    with reporter("evaluating", len(tasks)) as report:
        done = 0
        if scenario != "GG" and (note := run.objective_note(inference.method, inference.objective)):
            report.line(note)

        def on_task(result: TaskResult) -> None:
            nonlocal done
            done += 1
            report.at(done)

        return evaluate(
            run.model,
            run.matrix,
            tasks,
            scenario,
            inference,
            limit=limit,
            seed=run.record.config.seed,
            on_task=on_task,
            extras=run.extras,
        )
