"""Judge a run in a scenario."""

from pathlib import Path

from supsup_models._names import check, expect
from supsup_models._progress import Reporter, Reporting
from supsup_models.errors import RunError
from supsup_models.inference import SCENARIOS, Evaluation, Inference, evaluate
from supsup_models.runs.load import LoadedRun, load_run


def evaluate_run(
    folder: str | Path | LoadedRun,
    scenario: str | None = None,
    inference: Inference = Inference(),
    *,
    views: int | None = None,
    limit: int | None = None,
    data: Path | None = None,
    download: bool = False,
    device: str = "auto",
    immutable: bool = False,
    reporter: Reporting = Reporter,
) -> Evaluation:
    """Judge every task of a run that was finished, on its test images.

    Args:
        folder: The run's folder, or the run as `load_run` gave it.
        scenario: "GG" (the task is given), "GNs" or "GNu" (tasks are inferred), or "NNs" (a run without task identity).
            If not said, "NNs" for a run without task identity, and "GNu" for any other.
        inference: How tasks are inferred, and how many images share an inference.
        views: How many views of an image the method "pairs" looks at, 1, 4 or 8; all that the masks were trained with
            if not said.
        limit: Judge at most so many inferences, evenly over the tasks.
        data: Folder with the data set's files; the usual places are searched without it.
        download: Fetch the data set if it is not found.
        device: "auto", "cpu" or "cuda".
        immutable: Read the bank as it lies there, as `MaskBank.open` does, because nobody writes to it.
        reporter: Makes what shows progress.

    Raises:
        UnknownNameError: No such scenario.
        RunError: A folder without a finished task, a run for another scenario, or more views than its masks know.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from supsup_models import Inference, evaluate_run, run_config, train_run
        >>> config = run_config("permuted-digits", tasks=2, outputs=40, batches=60, recipe="dense")
        >>> with TemporaryDirectory() as folder:
        ...     _ = train_run(config, Path(folder))
        ...     found = evaluate_run(Path(folder), "GNu", Inference("one-shot", images=8), limit=20)
        >>> found.tasks, found.task_accuracy > 0.9
        (2, True)
    """
    if scenario is not None:
        check("scenario", scenario, SCENARIOS)
    expect("inference", inference, Inference, "an Inference", str="Inference(method) makes one")
    run = folder if isinstance(folder, LoadedRun) else load_run(folder, device, immutable=immutable)
    inference = run.with_views(inference, views)
    scenario = scenario or ("GNu" if run.record.config.task_identity else "NNs")
    if run.record.config.task_identity != (scenario != "NNs"):
        trained = "with" if run.record.config.task_identity else "without"
        raise RunError(
            f"{run.folder}: expected a run trained for scenario {scenario}, found one {trained} task identity"
        )
    tasks = run.tasks(run.stream(data, download))
    with reporter("evaluating", len(tasks)) as report:
        if scenario != "GG" and (note := run.objective_note(inference)):
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
