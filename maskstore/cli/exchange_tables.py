"""The table of `maskstore diff`."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from maskstore.cli.console import cell
from maskstore.interop import BankDiff, TaskDiff

_MOST_LAYERS = 8  # columns that still fit a terminal


def print_diff(a: str, b: str, found: BankDiff) -> None:
    """One row a task that both have, with the bits that differ in each layer; then what only one has."""
    console = Console()
    if found.tasks:
        console.print(_table(a, b, found.tasks))
    for what, names in (
        (f"tasks only in {a}", found.only_in_a),
        (f"tasks only in {b}", found.only_in_b),
        (f"layers only in {a}", found.layers_only_in_a),
        (f"layers only in {b}", found.layers_only_in_b),
    ):
        if names:
            console.print(f"{cell(what)}: {cell(_listed(names))}")
    console.print("the same" if found.same else "different")


def _table(a: str, b: str, tasks: Sequence[TaskDiff]) -> Table:
    layers = [layer.name for layer in tasks[0].layers][:_MOST_LAYERS]
    table = Table(title=f"bits that differ: {cell(a)} against {cell(b)}")
    table.add_column("task")
    for heading in [*map(cell, layers), "all layers", "share"]:
        table.add_column(heading, justify="right")
    table.add_column("beside")
    for task in tasks:
        beside = [name for name, same in (("meta", task.meta_same), ("extras", task.extras_same)) if not same]
        table.add_row(
            cell(task.a if task.a == task.b else f"{task.a} / {task.b}"),
            *(f"{layer.distance:,}" for layer in task.layers[:_MOST_LAYERS]),
            f"{task.distance:,}",
            f"{task.distance / task.bits:.3%}" if task.bits else "-",
            ", ".join(beside),
        )
    return table


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
