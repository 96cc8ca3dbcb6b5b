"""`supsup reproduce`: run a published experiment and print our figures beside the published ones."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from maskstore.cli import console
from maskstore.files import decimal_numbers, write_json
from supsup_models._names import check

NAMES = (
    "permuted-lenet-250",
    "permuted-fc1024-50",
    "rotated-fc1024-36",
    "split-mnist-gnu",
    "split-fashion-gnu",
    "nns-permuted-lenet-20",
    "superfluous-ablation",
    "gradient-50",
    "batche-psp-curves",
    "mixed-per-image-50",
    "baselines-permuted",
    "edge-popup-transfer",
)
"""The experiments, so that a wrong name does not wait for torch; a test holds them equal to `EXPERIMENTS`."""


def check_experiment(name: str | None) -> str:
    """The name of an experiment; UsageError for none, UnknownNameError for another."""
    if name is None:
        raise console.UsageError(f"experiment: expected one of {', '.join(NAMES)}, found none")
    check("experiment", name, NAMES)
    return name


def reproduce(name: str, context: Any, seeds: int = 1) -> tuple[dict[str, Any], Path]:
    """Run an experiment; its result as JSON-ready, and the file in `context.folder` that it was written to.

    `context` is a `Context`. With several seeds, figures are means with their deviation. Raises whatever the
    experiment's data and runs raise.
    """
    from supsup_models.experiments import EXPERIMENTS, over_seeds  # torch

    experiment = EXPERIMENTS[name]
    start = perf_counter()
    outcome = over_seeds([experiment.run(replace(context, seed=seed)) for seed in range(seeds)])
    result = outcome.to_json(experiment, context, seconds=perf_counter() - start, seeds=seeds)
    path = context.file(name, ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, decimal_numbers(result))
    return result, path


def listing() -> list[dict[str, str]]:
    """Name, title and source of every experiment."""
    from supsup_models.experiments import EXPERIMENTS  # torch

    return [{"name": each.name, "title": each.title, "source": each.source} for each in EXPERIMENTS.values()]


def print_result(result: Mapping[str, Any], path: Path) -> None:
    """The figures as a table, and the larger table beneath it if it has more to say.

    A column without any value is left out. A table that is too wide for the terminal becomes a list.
    """
    terminal = console.terminal()
    if result["quick"]:
        console.say("quick version: its figures are not those of the published experiment, and are held to no bounds")
    rows = [
        {
            "figure": figure["name"],
            "ours": figure["ours"],
            "deviation": figure["deviation"],
            "published": figure["published"],
            "should be": "" if result["quick"] else _bounds(figure),
            "reached": {None: "", True: "yes", False: "no"}[figure["reached"]],
        }
        for figure in result["figures"]
    ]
    for title, table in ((result["title"], rows), ("", result["table"])):
        if table:
            _print_rows(terminal, title, table)
    console.say(f"source: {result['source']}")
    for plot in result["plots"]:
        console.say(f"plot: {plot}")
    console.say(f"{result['seconds']:.1f} s; written to {path}")


def _print_rows(terminal: Any, title: str, rows: list[dict[str, Any]]) -> None:
    names = dict.fromkeys(key for row in rows for key in row)
    columns = [name for name in names if any(_text(row.get(name)) for row in rows)]
    table = console.table(title)
    for column in columns:
        table.add_column(column, justify="left" if isinstance(rows[0].get(column), str) else "right", overflow="fold")
    for row in rows:
        table.add_row(*(console.cell(_text(row.get(column))) for column in columns))
    if table.__rich_measure__(terminal, terminal.options.update(width=10_000)).minimum <= terminal.width:
        terminal.print(table)
        return
    if title:
        console.say(title)
    for row in rows:
        console.say(_text(row.get(columns[0])))
        for column in columns[1:]:
            if text := _text(row.get(column)):
                console.say(f"  {column}: {text}")


def _bounds(figure: Mapping[str, Any]) -> str:
    low, high = figure["at_least"], figure["at_most"]
    if low is not None and low == high:
        return _text(low)
    bounds = (("at least", low), ("at most", high))
    return " and ".join(f"{what} {_text(bound)}" for what, bound in bounds if bound is not None)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 0.01 else f"{value:.4f}"
    if isinstance(value, list | tuple):
        return " to ".join(map(_text, value))
    return str(value)
