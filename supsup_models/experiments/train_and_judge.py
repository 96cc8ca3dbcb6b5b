"""Train a run and judge it: what most experiments consist of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from supsup_models.experiments.experiment import Context, Experiment, Figure, Outcome
from supsup_models.inference import Evaluation, Inference
from supsup_models.runs import RunConfig, evaluate_run

_QUICK_LIMIT = 400
_COLUMNS = (
    *("scenario", "tasks", "accuracy", "interval", "given_accuracy", "task_accuracy"),
    *("seconds_per_inference", "inferences"),
)


@dataclass(frozen=True)
class Judgement:
    """One evaluation of a run, under a name; `limit` inferences at most."""

    name: str
    scenario: str
    inference: Inference = field(default_factory=Inference)
    limit: int | None = None


@dataclass(frozen=True)
class Target:
    """A figure of a judgement. `near` bounds it by the same of another judgement less so many points (of 100)."""

    judgement: str
    quantity: str = "accuracy"
    published: float | None = None
    at_least: float | None = None
    near: tuple[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class StreamExperiment(Experiment):
    """Train one run, judge it in one or more ways."""

    judgements: tuple[Judgement, ...]
    targets: tuple[Target, ...]

    def run(self, context: Context) -> Outcome:
        """Figures are the targets; the table has a row for each judgement."""
        config = context.config(self.config)
        found = train_and_judge(context, config, self.judgements)
        figures = []
        for target in self.targets:
            at_least = target.at_least
            if target.near is not None:
                other, points = target.near
                at_least = float(getattr(found[other], target.quantity)) - points / 100
            ours = float(getattr(found[target.judgement], target.quantity))
            figures.append(Figure(f"{target.judgement}: {target.quantity}", ours, target.published, at_least))
        return Outcome(tuple(figures), [row(name, evaluation) for name, evaluation in found.items()])


def train_and_judge(context: Context, config: RunConfig, judgements: Sequence[Judgement]) -> dict[str, Evaluation]:
    """Train what the run lacks; the evaluations by name."""
    context.trained(config)
    return {
        judgement.name: evaluate_run(
            context.run_folder(config),
            judgement.scenario,
            judgement.inference,
            limit=_limit(context, judgement.limit, config.tasks),
            data=context.data,
            download=context.download,
            device=context.device,
        )
        for judgement in judgements
    }


def row(name: str, found: Evaluation) -> dict[str, Any]:
    """A table's row for an evaluation."""
    return {"judged": name, **{column: getattr(found, column) for column in _COLUMNS}}


def _limit(context: Context, limit: int | None, tasks: int) -> int | None:
    if not context.quick:
        return limit
    return max(tasks, min(_QUICK_LIMIT, limit or _QUICK_LIMIT))
