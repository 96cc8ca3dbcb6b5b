"""Masks by a recipe, trained once and judged once: what every way of storing them shares."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from numpy.typing import NDArray

from benchmarks.storage.cases import Case, Place
from maskstore import Mask, MaskBank, MaskSpec
from maskstore.priors import Prior, prior_from_config
from supsup_models.experiments.train_and_judge import Judgement, train_and_judge
from supsup_models.inference.scenarios import Inference
from supsup_models.runs.record import bank_path


@dataclass(frozen=True)
class Accuracy:
    """Means over tasks: of the answers with the task given, and, one image at a time, without it.

    `inferred` counts an answer only if the task is right too (GNu). None: the method does not find tasks.
    """

    given: float
    inferred: float | None
    task: float | None


@dataclass(frozen=True)
class StoredMask:
    """What a bank is given for one task."""

    name: str
    mask: Mask
    meta: Mapping[str, Any]
    prior: Prior
    extras: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Trained:
    """All masks of a case by one recipe, and how good they are."""

    spec: MaskSpec
    meta: Mapping[str, Any]
    """Of the bank: what the network is made from, its seed among it."""
    masks: tuple[StoredMask, ...]
    accuracy: Accuracy


@cache
def trained(case: Case, recipe: str, inference: Inference, place: Place) -> Trained:
    """Train what the runs' folder lacks, by the recipe's own network, and judge it."""
    config, context = case.run_config(recipe), place.context(recipe)
    judgements = (Judgement("given", "GG"), Judgement("inferred", "GNu", inference))
    found = train_and_judge(context, config, judgements)
    with MaskBank.open(bank_path(context.run_folder(config))) as bank:
        stored = [
            StoredMask(info.name, bank[info.name], info.meta, prior_from_config(info.prior), bank.extras(info.name))
            for info in bank.infos()
        ]
        spec, meta = bank.spec, bank.meta
    given, inferred = found["given"], found["inferred"]
    return Trained(spec, meta, tuple(stored), Accuracy(given.accuracy, inferred.accuracy, inferred.task_accuracy))
