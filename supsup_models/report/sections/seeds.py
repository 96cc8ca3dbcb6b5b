"""What runs of several seeds came to: each one, their mean, and how far they lie apart."""

from collections.abc import Sequence

import numpy as np

from supsup_models.report import wording
from supsup_models.report.facts import RunFacts
from supsup_models.report.markup import Content
from supsup_models.report.section import Section, paragraph, table


def seeds_section(facts: RunFacts) -> Section | None:
    """The section; None for the run of a single seed."""
    if not facts.seeds:
        return None
    accuracies = [each.accuracy for each in facts.seeds if each.accuracy is not None]
    rates = [each.bits_per_parameter for each in facts.seeds if each.bits_per_parameter is not None]
    text = f"{wording.plural(len(facts.seeds), 'run')} differ in their seed alone."
    if len(accuracies) > 1:
        text += f" Their mean accuracy is {_spread(accuracies, wording.percent)}, each task under its own mask."
    if len(rates) > 1:
        text += f" They take {_spread(rates, wording.bits)} bits per parameter and task."
    text += " After ± is the sample standard deviation. All else on this page is of the first seed."
    rows: list[list[Content]] = [
        [
            f"seed {each.seed}",
            wording.count(each.tasks),
            wording.percent(each.accuracy),
            wording.bits(each.bits_per_parameter),
        ]
        for each in facts.seeds
    ]
    noun = "tasks" if facts.task_identity else "masks"
    headings = ["run", noun, "accuracy (GG)", "bits / parameter"]
    return Section("seeds", "Seeds", (paragraph(text), table("Every seed", headings, rows, folded=False)))


def seed_spread(facts: RunFacts) -> tuple[float, float] | None:
    """Mean and deviation of the seeds' accuracies; None for a single run, and without accuracies."""
    known = [each.accuracy for each in facts.seeds if each.accuracy is not None]
    return (float(np.mean(known)), float(np.std(known, ddof=1))) if len(known) > 1 else None


def _spread(values: Sequence[float], said: "wording.Said") -> str:
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    return f"{said(mean)} ± {said(deviation)}"
