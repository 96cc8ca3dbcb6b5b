"""Judge a run in a scenario."""

from pathlib import Path

from supsup_models._names import check
from supsup_models._progress import Reporter, Reporting
from supsup_models.errors import RunError
from supsup_models.inference import METHODS, OBJECTIVES, SCENARIOS, Evaluation, Inference, evaluate
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
    reporter: Reporting = Reporter,
) -> Evaluation:
    """Judge every task of a run that was finished, on its test images.

    Raises UnknownNameError for other scenarios, methods and objectives, RunError for a folder without a finished task.
    """
    check("scenario", scenario, SCENARIOS)
    check("inference method", inference.method, METHODS)
    if inference.objective is not None:
        check("objective", inference.objective, OBJECTIVES)
    run = load_run(folder, device)
    stream = run.stream(data, download)
    if run.record.config.task_identity != (scenario != "NNs"):
        trained = "with" if run.record.config.task_identity else "without"
        raise RunError(f"{folder}: expected a run trained for scenario {scenario}, found one {trained} task identity")
    tasks = run.tasks(stream)
    with reporter("evaluating", len(tasks)) as report:
        if scenario != "GG" and (note := run.objective_note(inference.method, inference.objective)):
            report.line(note)
        return evaluate(
            run.model,
            run.matrix,
            tasks,
            scenario,
            inference,
            limit=limit,
            seed=run.record.config.seed,
            on_task=lambda _: report.advance(),
            extras=run.extras,
        )
