"""Supermasks against the baselines: one table at ten tasks, and curves against the number of tasks."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from supsup_models._progress import Reporter
from supsup_models.data import TaskStream
from supsup_models.experiments.baselines import (
    PSP,
    Baseline,
    BaselineConfig,
    BatchE,
    LowerBound,
    OnlineEWC,
    SeparateHeads,
    SynapticIntelligence,
    UpperBound,
    compare,
    judge,
)
from supsup_models.experiments.experiment import Context, Experiment, Figure, Outcome
from supsup_models.experiments.plots import plot
from supsup_models.experiments.train_and_judge import Judgement, train_and_judge
from supsup_models.inference import evaluate
from supsup_models.runs import LoadedRun, RunConfig, bank_path

METHODS: tuple[Callable[[BaselineConfig], Baseline], ...] = (
    UpperBound,
    PSP,
    partial(BatchE, trained_weights=True),
    partial(BatchE, trained_weights=False),
    partial(BatchE, trained_weights=False, method="one-shot"),
    partial(SeparateHeads, trained_trunk=True),
    partial(SeparateHeads, trained_trunk=False),
    OnlineEWC,
    SynapticIntelligence,
    LowerBound,
)
_PUBLISHED = {"online EWC": 0.3388, "SI": 0.2931}
_QUICK_IMAGES = 100


def _prepared(context: Context, config: RunConfig) -> tuple[LoadedRun, TaskStream, BaselineConfig]:
    """The supermasks' run, its tasks, and the sizes of the baselines that learn them, too."""
    run = context.trained(config)
    stream = run.stream(context.data, context.download)
    return run, stream, BaselineConfig(stream.inputs, stream.classes, steps=config.batches, seed=config.seed)


@dataclass(frozen=True, kw_only=True)
class MethodsTable(Experiment):
    """Every method on the same tasks, with the same layers and batches: accuracy, bytes, seconds."""

    images: int

    def run(self, context: Context) -> Outcome:
        """One row a method; supermasks first."""
        config = context.config(self.config)
        images = _QUICK_IMAGES if context.quick else self.images
        run, stream, sizes = _prepared(context, config)
        judgements = [Judgement(name, name, limit=images * config.tasks) for name in ("GG", "GNs", "GNu")]
        judged = train_and_judge(context, config, judgements)
        supermasks = {
            "method": "SupSup, one-shot",
            "tasks": config.tasks,
            **{name: evaluation.accuracy for name, evaluation in judged.items()},
            "bytes": bank_path(context.run_folder(config)).stat().st_size,
            "seconds": sum(task["seconds"] for task in run.record.tasks),
        }
        table = [supermasks]
        figures = [Figure("SupSup: accuracy (GNu)", judged["GNu"].accuracy)]
        with Reporter("baselines", len(METHODS) * len(stream)) as report:
            for make in METHODS:
                method = make(sizes)
                found = compare(method, stream, limit=images, on_task=report.advance)
                table.append(asdict(found))
                report.line(f"{found.method}: GG {found.GG:.4f}, {found.bytes} bytes, {found.seconds:.1f} s")
                if found.method in _PUBLISHED and found.GNu is not None:
                    figures.append(
                        Figure(f"{found.method}: accuracy (GNu)", found.GNu, published=_PUBLISHED[found.method])
                    )
        return Outcome(tuple(figures), table)


@dataclass(frozen=True, kw_only=True)
class MethodsCurves(Experiment):
    """Mean accuracy over the tasks so far against their number, for supermasks, BatchE and PSP."""

    counts: tuple[int, ...]
    images: int

    def run(self, context: Context) -> Outcome:
        """GG and GNu of each method at each number of tasks, as a table and a plot."""
        config = context.config(self.config)
        counts = tuple(range(2, config.tasks + 1)) if context.quick else self.counts
        images = _QUICK_IMAGES if context.quick else self.images
        run, stream, sizes = _prepared(context, config)
        table = _supermasks(run, stream, counts, images)
        makers: tuple[Callable[[BaselineConfig], Baseline], ...] = (
            partial(BatchE, trained_weights=True),
            partial(BatchE, trained_weights=False),
            PSP,
        )
        with Reporter("baselines", len(makers) * len(stream)) as report:
            for make in makers:
                method = make(sizes)
                for number, task in enumerate(stream, start=1):
                    method.fit(task)
                    report.advance()
                    if number in counts:
                        right = [judge(method, stream[t], t, images) for t in range(number)]
                        GG, _, GNu = np.mean(right, axis=0).tolist()
                        table.append({"method": method.name, "tasks": number, "GG": GG, "GNu": GNu})
                        report.line(f"{method.name}, {number} tasks: GG {GG:.4f}, GNu {GNu:.4f}")
        curves, figures = defaultdict[str, list[tuple[float, float]]](list), list[Figure]()
        for row, scenario in product(table, ("GG", "GNu")):
            curves[f"{row['method']}, {scenario}"].append((row["tasks"], row[scenario]))
            if row["tasks"] == counts[-1]:
                name = f"{row['method']}, {row['tasks']} tasks: accuracy ({scenario})"
                figures.append(Figure(name, row[scenario]))
        path = context.file(self.name, ".png")
        plot(path, curves, "tasks learned", "mean accuracy", self.title_in(context))
        return Outcome(tuple(figures), table, (str(path),))


def _supermasks(run: LoadedRun, stream: TaskStream, counts: Sequence[int], images: int) -> list[dict[str, Any]]:
    """The rows of the first tasks of a run, by their number."""
    table = []
    for count in counts:
        tasks = stream[:count]
        known = run.matrix.select([task.name for task in tasks])
        GG, GNu = (
            evaluate(run.model, known, tasks, scenario, limit=images * count, extras=run.extras).accuracy
            for scenario in ("GG", "GNu")
        )
        table.append({"method": "SupSup, one-shot", "tasks": count, "GG": GG, "GNu": GNu})
    return table
