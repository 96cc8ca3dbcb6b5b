"""The same run with several seeds: how much of a figure is chance. Each seed has a run of its own in the folder."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from supsup_models._names import path_of
from supsup_models.errors import NetworkError, RunError
from supsup_models.inference import Evaluation, Inference
from supsup_models.runs.evaluate import evaluate_run
from supsup_models.runs.record import RunConfig, record_path, seed_folders
from supsup_models.runs.train import Trained, train_run

_FIGURES = ("accuracy", "task_accuracy", "given_accuracy")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of a figure over seeds.

    Examples:
        >>> from supsup_models.runs import Spread
        >>> found = Spread.of([0.9, 0.92, 0.94])
        >>> round(found.mean, 3), round(found.deviation, 3)
        (0.92, 0.02)
    """

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least two values."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)))


@dataclass(frozen=True)
class SeedsEvaluation:
    """One evaluation for each seed.

    Attributes:
        seeds: The seeds, ascending.
        runs: What was found of each.
    """

    seeds: tuple[int, ...]
    runs: tuple[Evaluation, ...]

    def spread(self, figure: str) -> Spread | None:
        """Mean and deviation of a figure of `Evaluation`; None where a run has none."""
        values = [getattr(run, figure) for run in self.runs]
        return None if None in values else Spread.of(values)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; the keys are part of the interface."""
        first = self.runs[0]
        content: dict[str, Any] = {"scenario": first.scenario, "tasks": first.tasks, "seeds": list(self.seeds)}
        for figure in _FIGURES:
            spread = self.spread(figure)
            content[figure] = None if spread is None else spread.mean
            content[f"{figure}_deviation"] = None if spread is None else spread.deviation
        runs = zip(self.seeds, self.runs, strict=True)
        return {**content, "per_seed": [{"seed": seed, **asdict(run)} for seed, run in runs]}


def train_seeds(config: RunConfig, folder: str | Path, seeds: int, **options: Any) -> tuple[Trained, ...]:
    """Train a run for each of `seeds` seeds, `config.seed` and those after it, in `folder/seed-0`, `folder/seed-1`, ...

    The seed is that of weights, initial scores, batches and the stream's own random choices. What is on the disk is
    kept, as in `train_run`, to which the options go.

    Raises:
        NetworkError: For less than two seeds.
        RunError: For a folder that holds a single run.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from supsup_models import evaluate_seeds, run_config, train_seeds
        >>> config = run_config("permuted-digits", tasks=1, outputs=10, batches=20, recipe="dense")
        >>> with TemporaryDirectory() as folder:
        ...     trained = train_seeds(config, Path(folder), 2)
        ...     found = evaluate_seeds(Path(folder), "GG")
        >>> found.seeds, found.spread("accuracy").deviation < 0.2
        ((0, 1), True)
    """
    if not 2 <= seeds <= 1000:
        raise NetworkError(f"seeds: expected 2 to 1000, found {seeds}")
    folder = path_of("folder", folder)
    if record_path(folder).exists():
        raise RunError(f"{folder}: expected a folder for runs of {seeds} seeds, found a single run")
    configs = [replace(config, seed=config.seed + offset) for offset in range(seeds)]
    return tuple(train_run(each, folder / f"seed-{each.seed}", **options) for each in configs)


def evaluate_seeds(
    folder: str | Path, scenario: str | None = None, inference: Inference = Inference(), **options: Any
) -> SeedsEvaluation:
    """Judge the runs of a folder that `train_seeds` made, each as `evaluate_run` does, to which the options go.

    Raises RunError for a folder with less than two such runs, or with runs of other numbers of tasks.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from supsup_models import evaluate_seeds, run_config, train_seeds
        >>> config = run_config("permuted-digits", tasks=1, outputs=10, batches=20, recipe="dense")
        >>> with TemporaryDirectory() as folder:
        ...     trained = train_seeds(config, folder, 2)
        ...     found = evaluate_seeds(folder)
        >>> [run.tasks for run in found.runs]
        [1, 1]
    """
    folder = path_of("folder", folder)
    found = seed_folders(folder)
    if len(found) < 2:
        raise RunError(f"{folder}: expected runs of several seeds, found {len(found)}")
    runs = tuple(evaluate_run(each, scenario, inference, **options) for each in found.values())
    if len({run.tasks for run in runs}) > 1:
        counts = ", ".join(str(run.tasks) for run in runs)
        raise RunError(f"{folder}: expected runs of one number of tasks, found {counts}; train them to their end")
    return SeedsEvaluation(tuple(found), runs)
