"""`supsup reproduce`: run a published experiment and print our figures beside the published ones."""

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

from maskstore.files import write_json
from supsup_models._names import choose
from supsup_models.experiments import EXPERIMENTS, Context


def reproduce(name: str, context: Context) -> tuple[dict[str, Any], Path]:
    """Run an experiment; its result as JSON-ready, and the file in `context.folder` that it was written to.

    Raises UnknownNameError for other names, and whatever its data and runs raise.
    """
    experiment = choose("experiment", name, EXPERIMENTS)
    start = perf_counter()
    outcome = experiment.run(context)
    result = outcome.to_json(experiment, quick=context.quick, seconds=perf_counter() - start)
    path = context.file(name, ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    return result, path


def listing() -> list[dict[str, str]]:
    """Name, title and source of every experiment."""
    return [{"name": each.name, "title": each.title, "source": each.source} for each in EXPERIMENTS.values()]


def print_result(result: Mapping[str, Any], path: Path) -> None:
    """The figures as a table, and the larger table beneath it if it has more to say."""
    console = Console(highlight=False)
    if result["quick"]:
        console.print("quick version: small data, few tasks, few batches; its figures are not the experiment's")
    figures = Table(title=result["title"], caption=result["source"])
    figures.add_column("figure")
    for column in ("ours", "published", "should be", "reached"):
        figures.add_column(column, justify="right")
    for figure in result["figures"]:
        reached = {None: "", True: "yes", False: "no"}[figure["reached"]]
        figures.add_row(figure["name"], _text(figure["ours"]), _text(figure["published"]), _bounds(figure), reached)
    console.print(figures)
    rows = result["table"]
    if rows:
        table = Table()
        columns = list(dict.fromkeys(column for row in rows for column in row))
        for column in columns:
            table.add_column(column, justify="left" if isinstance(rows[0].get(column), str) else "right")
        for row in rows:
            table.add_row(*(_text(row.get(column)) for column in columns))
        console.print(table)
    for plot in result["plots"]:
        console.print(f"plot: {plot}", markup=False, soft_wrap=True)
    console.print(f"{result['seconds']:.1f} s; written to {path}", markup=False, soft_wrap=True)


def _bounds(figure: Mapping[str, Any]) -> str:
    low, high = figure["at_least"], figure["at_most"]
    if low is not None and low == high:
        return _text(low)
    return " and ".join(f"{sign} {_text(bound)}" for sign, bound in (("≥", low), ("≤", high)) if bound is not None)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 0.01 else f"{value:.4f}"
    if isinstance(value, list | tuple):
        return " to ".join(map(_text, value))
    return str(value)
