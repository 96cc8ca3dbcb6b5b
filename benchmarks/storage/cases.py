"""On what is measured: streams, sizes, the network. Everything here is part of a result's configuration."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from supsup_models import RECIPES
from supsup_models.experiments.experiment import Context
from supsup_models.runs.record import RunConfig

KINDS = ("permuted", "rotated", "split")
DATA_SETS = ("mnist", "fashion-mnist", "digits")
MODEL, OUTPUTS, SEED = "lenet-300-100", 100, 0


@dataclass(frozen=True)
class Case:
    """A stream, how much of it, and how long each task is trained."""

    stream: str
    tasks: int
    batches: int

    @property
    def data_set(self) -> str:
        """The stream's data set."""
        return self.stream.partition("-")[2]

    def run_config(self, recipe: str) -> RunConfig:
        """The arguments of `supsup train` for this case."""
        return RunConfig(self.stream, self.tasks, MODEL, OUTPUTS, self.batches, recipe, SEED)

    def to_json(self) -> dict[str, Any]:
        """What results depend on."""
        return {**asdict(self), "model": MODEL, "outputs": OUTPUTS, "seed": SEED}


def _cases(tasks: int, batches: int, data_sets: tuple[str, ...]) -> Mapping[str, Case]:
    streams = [(f"{kind}-{data_set}", min(tasks, 5) if kind == "split" else tasks) for data_set in data_sets
               for kind in KINDS]  # fmt: skip
    return MappingProxyType({name: Case(name, count, batches) for name, count in streams})


FULL = _cases(tasks=10, batches=1000, data_sets=DATA_SETS)
QUICK = _cases(tasks=3, batches=100, data_sets=("digits",))


@dataclass(frozen=True)
class Place:
    """Where things lie: trained runs, and the data sets (None: where the library looks)."""

    runs: Path
    data: Path | None = None

    def context(self, recipe: str) -> Context:
        """The folder of the runs trained by a recipe; one that changes under its name gets another folder."""
        digest = sha256(json.dumps(recipe_settings(recipe), sort_keys=True).encode()).hexdigest()[:8]
        return Context(self.runs / f"{recipe}-{digest}", data=self.data, device="cpu")


def recipe_settings(recipe: str) -> dict[str, Any]:
    """A recipe by what it sets otherwise than the defaults, so that a new field with a default changes no result."""
    settings: dict[str, Any] = _settings(RECIPES[recipe])
    return settings


def _settings(value: Any) -> Any:
    if not is_dataclass(value):
        return value
    changed = {each.name: getattr(value, each.name) for each in fields(value)
               if getattr(value, each.name) != each.default}  # fmt: skip
    return {"kind": type(value).__name__, **{name: _settings(found) for name, found in changed.items()}}
