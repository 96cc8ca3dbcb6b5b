"""What a published experiment is here: something that runs in a folder and gives figures beside what they should be."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from supsup_models.runs import LoadedRun, RunConfig, Spread, load_run, train_run

PAPER = "Wortsman et al., Supermasks in Superposition, NeurIPS 2020"
_QUICK_TASKS, _QUICK_BATCHES = 3, 120


@dataclass(frozen=True)
class Context:
    """Where and how an experiment runs.

    Trained runs lie in `folder/runs`, named after their arguments: experiments share them, and go on where an earlier
    call stopped. `quick` asks for the small version: digits, few tasks, few batches.
    """

    folder: Path
    quick: bool = False
    data: Path | None = None
    download: bool = False
    device: str = "auto"
    seed: int = 0
    """Added to each run's own seed."""

    def config(self, config: RunConfig) -> RunConfig:
        """The run's arguments with this context's seed, or made small too."""
        config = replace(config, seed=config.seed + self.seed)
        if not self.quick:
            return config
        kind, _, _ = config.stream.partition("-")
        return replace(
            config,
            stream=f"{kind}-digits",
            tasks=min(config.tasks, _QUICK_TASKS),
            batches=_QUICK_BATCHES,
            model="lenet-300-100",
            recipe=config.recipe if config.density is not None else "dense",
        )

    def file(self, name: str, ending: str) -> Path:
        """Where an experiment's results go, in a file of this ending."""
        seed = f"-seed-{self.seed}" if self.seed else ""
        return self.folder / f"{name}{'-quick' if self.quick else ''}{seed}{ending}"

    def run_folder(self, config: RunConfig) -> Path:
        """The folder of the run with these arguments."""
        parts: list[object] = [config.stream, config.model, f"{config.tasks}x{config.batches}", config.outputs]
        parts += [config.recipe, config.seed]
        if (config.mask, config.weights) != ("threshold", "signed-constant"):
            parts += [config.mask, config.weights, config.density, config.sparsity]
        parts += ["transfer"] * config.transfer + ["nns"] * (not config.task_identity)
        return self.folder / "runs" / "-".join(str(part) for part in parts if part is not None)

    def trained(self, config: RunConfig) -> LoadedRun:
        """The run with these arguments, loaded after what it lacks was trained."""
        folder = self.run_folder(config)
        train_run(config, folder, data=self.data, download=self.download, device=self.device)
        return load_run(folder, self.device)


@dataclass(frozen=True)
class Figure:
    """One measured figure, the published one if there is one, and the bounds that it should keep."""

    name: str
    ours: float
    published: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    deviation: float | None = None
    """Sample standard deviation over seeds; None for one seed."""

    @property
    def reached(self) -> bool | None:
        """Whether the figure keeps its bounds; None without any."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.ours >= self.at_least) and (
            self.at_most is None or self.ours <= self.at_most
        )


@dataclass(frozen=True)
class Outcome:
    """What an experiment found: figures, and the table that they are from, one mapping a row; perhaps plots."""

    figures: tuple[Figure, ...]
    table: Sequence[Mapping[str, Any]] = ()
    plots: tuple[str, ...] = field(default=())

    def to_json(self, experiment: "Experiment", context: Context, *, seconds: float, seeds: int = 1) -> dict[str, Any]:
        """JSON-ready. Bounds are those of the experiment; a quick version is not held to them."""
        quick = context.quick
        figures = [{**asdict(figure), "reached": None if quick else figure.reached} for figure in self.figures]
        return {
            "experiment": experiment.name,
            "title": experiment.title_in(context),
            "source": experiment.source,
            "quick": quick,
            "seconds": seconds,
            "seeds": seeds,
            "figures": figures,
            "reached": None if quick else all(figure["reached"] is not False for figure in figures),
            "table": [dict(row) for row in self.table],
            "plots": list(self.plots),
        }


def over_seeds(found: Sequence[Outcome]) -> Outcome:
    """One outcome of those of seeds 0, 1, ...: each figure's mean and deviation, and the rows of all with their seed.

    Bounds that follow from other figures are means too. Of one seed, the outcome is its own.
    """
    if len(found) == 1:
        return found[0]
    figures = []
    for same in zip(*(outcome.figures for outcome in found), strict=True):
        ours = Spread.of([figure.ours for figure in same])
        low, high = (_mean([getattr(figure, bound) for figure in same]) for bound in ("at_least", "at_most"))
        figures.append(Figure(same[0].name, ours.mean, same[0].published, low, high, ours.deviation))
    table = [{"seed": seed, **row} for seed, outcome in enumerate(found) for row in outcome.table]
    return Outcome(tuple(figures), table, tuple(plot for outcome in found for plot in outcome.plots))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


@dataclass(frozen=True, kw_only=True)
class Experiment(ABC):
    """`name` on the command line, `title` in a sentence, and the `source` of the published figures.

    `config` is of the run that is judged, or that others are made from.
    """

    name: str
    title: str
    config: RunConfig
    source: str = PAPER

    def title_in(self, context: Context) -> str:
        """The title; of a quick version one that says its own sizes."""
        if not context.quick:
            return self.title
        small = context.config(self.config)
        sizes = f"{small.tasks} tasks of {small.batches} batches"
        return f"{self.name}, quick version: {small.stream}, {small.model}, {sizes}"

    @abstractmethod
    def run(self, context: Context) -> Outcome:
        """Train what is not trained yet, and measure."""
