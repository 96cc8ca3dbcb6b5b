"""What `supsup train --seeds` and `supsup eval` print of runs of several seeds: each one, their mean and deviation."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maskstore.cli import console

if TYPE_CHECKING:
    from supsup_models.runs import SeedsEvaluation, Trained


def print_trained(out: Path, every: "Sequence[Trained]", as_json: bool) -> None:
    """What came of the runs of several seeds: each one's figures, their mean and their deviation."""
    from supsup_models.runs import Spread

    identity = every[0].record.config.task_identity
    spread = Spread.of([trained.accuracy for trained in every]) if identity else None
    rows = [
        {
            "seed": trained.record.config.seed,
            "masks": len(trained.record.tasks),
            "new_masks": trained.new_tasks,
            **({"accuracy": trained.accuracy} if identity else {}),
        }
        for trained in every
    ]
    if as_json:
        summary = {} if spread is None else {"accuracy": spread.mean, "accuracy_deviation": spread.deviation}
        console.print_json({"run": str(out), "seeds": [row["seed"] for row in rows], **summary, "per_seed": rows})
        return
    for row in rows:
        accuracy = f", mean accuracy {row['accuracy']:.4f}" if identity else ""
        console.say(f"seed {row['seed']}: {row['masks']} masks, {row['new_masks']} of them new{accuracy}")
    if spread is not None:
        mean = f"mean accuracy {spread.mean:.4f}, standard deviation {spread.deviation:.4f}"
        console.say(f"{len(rows)} seeds: {mean}, each task under its own mask")


def print_evaluated(found: "SeedsEvaluation") -> None:
    """One line for each seed, and the mean and deviation of each figure."""
    for seed, run in zip(found.seeds, found.runs, strict=True):
        console.say(f"seed {seed}: accuracy {run.accuracy:.4f}, task found {run.task_accuracy:.4f}")
    said = {
        "accuracy": "accuracy",
        "given_accuracy": "the same images with the task given: accuracy",
        "task_accuracy": "task found",
    }
    first = found.runs[0]
    console.say(f"{first.scenario}, {first.tasks} tasks, {len(found.seeds)} seeds, mean and standard deviation:")
    for figure, words in said.items():
        spread = found.spread(figure)
        if spread is not None and not (figure == "given_accuracy" and first.scenario == "GG"):
            console.say(f"{words} {spread.mean:.4f} ± {spread.deviation:.4f}")
